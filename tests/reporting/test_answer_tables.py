import io

from rich.console import Console

from ilm_lightning.reporting.answers import LEGENDS, MEASURES, TITLES, answer_tables
from ilm_lightning.tasks.figure1 import FIGURE1_TASKS

FOUND = {
    "rating": {
        "main": "mae",
        "n": 12,
        "measures": {"mae": {"own": 0.9, "user_mean": 0.75}, "readable": {"own": 1.0}},
        "differences": {"user_mean": {"mean": -0.15, "low": -0.3, "high": 0.01, "p": 0.08}},
    },
    "next_item": {
        "main": "mrr",
        "n": 5,
        "candidates": 20.0,
        "measures": {"mrr": {"own": 0.4, "als": 0.6}},
        "differences": {},
    },
}


def test_tables_show_every_condition_beside_what_the_vector_wins() -> None:
    console = Console(file=io.StringIO(), width=110)
    for table in answer_tables(FOUND):
        console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    rows = {line.strip().split("  ")[0]: line for line in text.splitlines()}
    assert "0.400" in rows["own"]
    assert "0.900" in text
    assert "0.750" in rows["user mean"]
    assert "-0.150 [-0.300, 0.010]" in rows["user mean"]
    assert "0.600" in rows["als"]
    assert "Next item, 5 examples, 20 candidates" in text
    assert list(answer_tables({})) == []
    # the own vector first, its controls, then the baselines; no line is broken
    assert text.index("own ") < text.index("user mean")
    assert max(map(len, text.splitlines())) <= 110


def test_on_a_narrow_screen_no_number_is_cut() -> None:
    console = Console(file=io.StringIO(), width=40)
    for table in answer_tables(FOUND):
        console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    assert text.count("user mean") == 2
    assert "-0.150 [-0.300, 0.010]" in text


def test_every_measured_task_has_a_title() -> None:
    assert set(TITLES) == set(LEGENDS) == set(FIGURE1_TASKS) - {"long_summary"}
    assert {"mae", "mrr", "f1", "bc"} <= set(MEASURES)
