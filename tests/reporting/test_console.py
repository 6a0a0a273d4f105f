import io
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from ilm_lightning.evaluation.summary import CONDITIONS, summarise
from ilm_lightning.reporting.console import (
    HEADERS,
    difference_table,
    findings,
    overview_table,
    ratings_table,
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


@pytest.mark.parametrize("width", [40, 60])
def test_on_a_narrow_screen_columns_stand_below_one_another_and_none_is_cut(
    width: int, metrics: dict[str, Any]
) -> None:
    lines = printed(score_table(metrics), width=width)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert "…" not in text
    headers = [line.split()[1:] for line in lines if line.split()[:1] == ["task"]]
    assert len(headers) > 1
    assert [name for header in headers for name in header] == [HEADERS[key] for key in CONDITIONS]
    means = [line.split("(mean of tasks)")[1].split() for line in lines if "all (mean of tasks)" in line]
    assert [value for row in means for value in row] == [f"{metrics['all']['sc'][key]:.1f}" for key in CONDITIONS]
    # the title stands above the first alone
    assert text.count("12 movies") == 1
    bands = {"by_ratings": {"5-19": {"movies": 7, "sc": dict.fromkeys(CONDITIONS, 50.0)}}}
    for part in (difference_table(metrics), overview_table(metrics), ratings_table(bands)):
        assert part is not None
        # one interval beside the longest task does not fit 40
        shown = printed(part, width=60)
        assert "…" not in "\n".join(shown)
        assert max(map(len, shown)) <= 60


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
    assert "]*" in summary
    # single tasks are not read where their mean is not significant
    closed = {**metrics["differences"]["sc"]["shuffled"], "significantly_better": [], "significant": False}
    said = "\n".join(printed(difference_table({**metrics, "differences": {"sc": {"shuffled": closed}}})))
    assert "]*" not in said


def test_the_best_of_one_control_is_not_told_twice(frame: pl.DataFrame) -> None:
    two = summarise(frame.filter(pl.col("condition").is_in(["own", "shuffled"])), resamples=50)
    assert two["controls"]["best_control"] == ["shuffled"]
    assert sum("SC [" in line for line in findings(two)) == 1
    lines = "\n".join(printed(difference_table(two)))
    assert "own - shuf" in lines
    assert "own - best" not in lines
    # nor that of two where the hard shuffle was left out
    three = summarise(frame.filter(pl.col("condition").is_in(["own", "shuffled", "constant"])), resamples=50)
    assert three["controls"]["best_control"] == three["controls"]["best_control_with_hard"]
    assert sum("the best of shuffled and constant" in line for line in findings(three)) == 1


def test_findings_say_who_wins(metrics: dict[str, Any]) -> None:
    lines = findings(metrics)
    assert any(line.startswith("own above shuffled: +") and "better in 3 of 3 tasks" in line for line in lines)
    assert any(line.startswith("own above the best of shuffled, blind and constant:") for line in lines)
    assert any(line.startswith("own above the best of shuffled, hard shuffled, blind and constant:") for line in lines)
    # SC is all there is: nothing stands beside it
    assert any(line.endswith("undecided, SC alone says so") for line in lines)
    assert any(line.startswith("item-specific SC (own - blind): +") for line in lines)
    assert any("saved against blind: +20.0 [20.0, 20.0]" in line for line in lines)
    worse = {"mean": -1.0, "low": -2.0, "high": -0.5, "better_tasks": 0, "significant_tasks": 0, "n_tasks": 3}
    even = {**worse, "high": 0.5}
    said = findings({"differences": {"sc": {"knn_copy": worse, "blind": even}}})
    assert said[0].startswith("own below kNN copy: -1.0")
    assert said[1].startswith("own not apart from blind: ")


def test_few_movies_get_no_verdict(frame: pl.DataFrame) -> None:
    own = pl.col("condition") == "own"
    few = frame.filter(pl.col("movie").is_in(["m0", "m1", "m2", "m3"]))
    metrics = summarise(few.with_columns(rouge_l=pl.when(own).then(40.0).otherwise(20.0)), resamples=200)
    lines = [line for line in findings(metrics) if line.startswith("own against")]
    assert lines
    assert all(line.endswith("too few movies for a verdict (4 of at least 10)") for line in lines)
    assert not any(word in line for line in lines for word in ("above", "below", "significantly", "confirmed"))
    assert metrics["differences"]["sc"]["shuffled"]["significantly_better"] == []
    spread = {"spread": {}, "uninformative": []}
    assert "]*" not in "\n".join(printed(difference_table({**metrics, **spread})))


def test_second_measures_stand_beside_sc(frame: pl.DataFrame) -> None:
    own = pl.col("condition") == "own"
    both = frame.with_columns(
        rouge_l=pl.when(own).then(pl.col("sc") / 2).otherwise(20.0), slot_accuracy=pl.lit(30.0), cut_off=own
    )
    metrics = {**summarise(both, resamples=200), "protocol": {"configurations_tried": 3}}
    lines = findings(metrics)
    shuffled = next(line for line in lines if line.startswith("own above shuffled"))
    assert "; ROUGE-L +" in shuffled
    assert shuffled.endswith("facts right +0.0 [0.0, 0.0]: confirmed")
    assert any(line.startswith("texts cut off before their end: own 100.0%, blind 0.0%") for line in lines)
    assert lines[-1] == "configurations of this variant tried so far, seeds set aside: 3"
    # a title in the prompt is a reference, not a claim
    assert not any(
        word in line for line in lines if "the title in the prompt" in line for word in ("decided", "firmed")
    )


def test_overview_names_scorers_and_what_the_encoder_saw(frame: pl.DataFrame) -> None:
    columns = dict.fromkeys(("sc_second", "sc_input", "slot_accuracy", "slot_seen"), pl.col("sc") + 1)
    metrics = summarise(frame.with_columns(**columns, cut_off=pl.lit(0.25)), resamples=50)
    metrics |= {
        "second_scorer": "other",
        "input_encoder": "tiny",
        "sc_input_of_targets": {"all": 71.2},
        "seen_facts": ["genres", "years"],
        "hard_share": 0.875,
    }
    lines = printed(overview_table(metrics))
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "2nd scorer: other" in text
    assert "tiny; the targets get 71.2" in text
    assert "the encoder saw: genres, years" in text
    assert "hard: 88% found a movie of their genre and decade" in text
    row = next(line for line in lines if line.strip().startswith("SC-input"))
    assert row.split()[1] == f"{metrics['all']['sc']['own'] + 1:.1f}"
    assert next(line for line in lines if "cut off" in line).split()[-8:] == ["25.0"] * 8
    assert overview_table({"all": {}}) is None


def test_bands_of_ratings() -> None:
    bands = {"5-19": {"movies": 7, "sc": {"own": 50.0, "shuffled": 45.5}}, "100+": {"movies": 2, "sc": {"own": 60.0}}}
    lines = printed(ratings_table({"by_ratings": bands}))
    assert next(line for line in lines if "5-19" in line).split() == ["5-19", "7", "50.0", "45.5", "+4.5"]
    assert next(line for line in lines if "100+" in line).split() == ["100+", "2", "60.0"]
    assert ratings_table({}) is None


def test_retrieval_and_slots_are_said() -> None:
    retrieval = {"r1": 0.25, "r5": 0.5, "mrr": 0.3, "chance_r1": 0.025, "chance_r5": 0.125, "chance_mrr": 0.107}
    slots = {"own": {"kinds": {"genres": {"score": 0.5}}}, "constant": {"kinds": {}}}
    lines = findings({"differences": {}, "retrieval": {"own": {"all": retrieval}}, "slots": slots})
    assert lines == [
        "own target found first 25.0% (chance 2.5%), among five 50.0% (12.5%), MRR 0.300 (0.107)",
        "facts right, own: genres 50%",
    ]
    apart = {"own": {"kinds": {"countries": {"score": 0.25}, "genres": {"score": 0.5}}}}
    assert findings({"differences": {}, "slots": apart, "seen_facts": ["genres"]}) == [
        "facts right, own: seen by the encoder: genres 50%; not seen: countries 25%"
    ]


@pytest.mark.parametrize("control", ["blind", "constant"])
def test_the_best_of_one_control_that_is_shown_nowhere_else_stays(frame: pl.DataFrame, control: str) -> None:
    two = summarise(frame.filter(pl.col("condition").is_in(["own", control])), resamples=50)
    assert "own - best" in "\n".join(printed(difference_table(two)))


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
    for part in (
        "SC per task",
        "All measures",
        "what the own vector wins",
        "- own above",
        "crime 0.50",
        "shuffled text 0",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) <= 80
