import io
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from ilm_lightning.evaluation.summary import CONDITIONS, summarise
from ilm_lightning.reporting.console import (
    difference_table,
    findings,
    sample_texts,
    samples,
    score_table,
    show,
    words_table,
)

TASKS = ("five_positive_characteristics", "summary", "why_like_nn")


@pytest.fixture
def frame() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {
            "example_id": f"{task}-{movie}",
            "task": task,
            "movie": f"m{movie}",
            "condition": condition,
            "prompt": f"Describe {{item}} [bold]{movie}[/bold].",
            "target": f"target {task} {movie}",
            "generated": f"{condition} text {movie}",
            "sc": float(rng.normal(60 if condition == "own" else 50, 3)),
            "bits": 100.0 if condition == "own" else 120.0,
        }
        for task in TASKS
        for movie in range(12)
        for condition in CONDITIONS
    ]
    return pl.DataFrame(rows)


@pytest.fixture
def metrics(frame: pl.DataFrame) -> dict[str, Any]:
    found = summarise(frame, resamples=300)
    spread = {task: {"other": 60.0, "room": 40.0, "informative": True, "n": 12} for task in TASKS}
    return {**found, "scorer": "tiny", "spread": spread, "uninformative": ["summary"]}


def printed(*parts: Any, width: int = 80) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None, force_terminal=False)
    for part in parts:
        console.print(part)
    return stream.getvalue().splitlines()


def test_score_table_fits_80_plain_columns(metrics: dict[str, Any]) -> None:
    lines = printed(score_table(metrics))
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "scorer tiny, 12 movies" in text
    assert "\x1b" not in text
    assert "…" not in text
    header = next(line for line in lines if "shuf" in line)
    assert header.split() == ["task", "own", "shuf", "hard", "blind", "const", "kNN", "title", "facts"]
    own = metrics["tasks"]["why_like_nn"]["sc"]["own"]
    assert any(line.strip().startswith("why like nn") and f"{own:.1f}" in line for line in lines)
    last = next(line for line in lines if "all (mean of tasks)" in line)
    assert last.split()[-8:] == [f"{metrics['all']['sc'][key]:.1f}" for key in CONDITIONS]
    assert any("summary **" in line for line in lines)
    assert any("five positive traits" in line for line in lines)
    assert "** uninformative" in text


def test_difference_table_has_intervals_and_opponents(metrics: dict[str, Any]) -> None:
    lines = printed(difference_table(metrics))
    assert max(map(len, lines)) <= 80
    assert "…" not in "\n".join(lines)
    row = metrics["differences"]["sc"]["shuffled"]
    whole = next(line for line in lines if "all (mean of tasks)" in line)
    assert f"{row['mean']:+.1f} [{row['low']:.1f}, {row['high']:.1f}]" in whole
    against = metrics["differences"]["sc"]["best_control"]["tasks"]["summary"]["against"]
    summary = next(line for line in lines if "summary **" in line)
    assert {"shuffled": "shuf", "constant": "const", "blind": "blind"}[against] in summary
    assert "40.0" in summary


def test_findings_say_who_wins(metrics: dict[str, Any]) -> None:
    lines = findings(metrics)
    assert any(line.startswith("own above shuffled: +") and "better in 3 of 3 tasks" in line for line in lines)
    assert any(line.startswith("own above the best of shuffled, blind and constant") for line in lines)
    assert any("saved against blind: +20.0 [20.0, 20.0]" in line for line in lines)
    worse = {"mean": -1.0, "low": -2.0, "high": -0.5, "better_tasks": 0, "significant_tasks": 0, "n_tasks": 3}
    even = {**worse, "high": 0.5}
    said = findings({"differences": {"sc": {"knn_copy": worse, "blind": even}}})
    assert said[0].startswith("own below knn copy: -1.0")
    assert said[1].startswith("own not apart from blind")


def test_retrieval_and_slots_are_said() -> None:
    retrieval = {"r1": 0.25, "r5": 0.5, "mrr": 0.3, "chance_r1": 0.025, "chance_r5": 0.125, "chance_mrr": 0.107}
    slots = {"own": {"kinds": {"genres": {"score": 0.5}}}, "constant": {"kinds": {}}}
    lines = findings({"differences": {}, "retrieval": {"own": {"all": retrieval}}, "slots": slots})
    assert lines == [
        "own target found first 25.0% (chance 2.5%), among five 50.0% (12.5%), MRR 0.300 (0.107)",
        "facts right, own: genres 50%",
    ]


def test_own_alone_prints(frame: pl.DataFrame) -> None:
    alone = summarise(frame.filter(pl.col("condition") == "own"), resamples=50)
    assert difference_table(alone) is None
    assert "own" in "\n".join(printed(score_table(alone)))
    with pytest.raises(ValueError, match="hold no loss; they hold sc, bits"):
        score_table(alone, "loss")


def test_samples_are_spread_and_steady(frame: pl.DataFrame) -> None:
    chosen = samples(frame, 3)
    assert [sample["task"] for sample in chosen] == sorted(TASKS)
    assert len({sample["prompt"] for sample in chosen}) == 3
    assert chosen[0]["own"] == "own text 0"
    assert chosen[0]["shuffled"] == "shuffled text 0"
    assert samples(frame.sample(fraction=1.0, shuffle=True, seed=1), 3) == chosen
    assert len(samples(frame, 99)) == 3
    assert samples(frame, 0) == []
    assert "shuffled" not in samples(frame.filter(pl.col("condition") == "own"), 1)[0]


def test_sample_texts_keep_square_brackets(frame: pl.DataFrame) -> None:
    text = "\n".join(printed(sample_texts(samples(frame, 1))))
    assert "Describe {item} [bold]0[/bold]." in text
    assert "five positive characteristics" in text


def test_words_are_merged_over_queries() -> None:
    words = {"Heat [1995]": [[("crime", 0.4), ("war", 0.2)], [("crime", 0.5)]]}
    text = "\n".join(printed(words_table(words)))
    assert "Heat [1995]" in text
    assert "crime 0.50, war 0.20" in text


def test_show_prints_everything(metrics: dict[str, Any], frame: pl.DataFrame) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=80, color_system=None)
    show(console, metrics, frame, {"Heat": [[("crime", 0.5)]]}, count=1)
    text = stream.getvalue()
    for part in ("SC per task", "what the own vector wins", "- own above", "crime 0.50", "shuffled text 0"):
        assert part in text
    assert max(map(len, text.splitlines())) <= 80
