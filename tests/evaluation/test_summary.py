import json
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from ilm_lightning.evaluation.summary import score, summarise


class Letters:
    """A scorer of bags of letters."""

    name = "letters"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.array([[text.count(chr(97 + i)) for i in range(26)] for text in texts], dtype=np.float32)
        rows = rows.reshape(-1, 26)
        return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9))

    def semantic_consistency(self, generated: Sequence[str], targets: Sequence[str]) -> NDArray[np.float64]:
        return np.asarray(100 * (self.embed(generated) * self.embed(targets)).sum(1), dtype=np.float64)


def row(task: str, movie: str, condition: str, sc: float, **more: object) -> dict[str, object]:
    return {
        "example_id": f"{task}-{movie}",
        "task": task,
        "movie": movie,
        "condition": condition,
        "prompt": "p",
        "target": f"target {movie}",
        "generated": f"text {condition} {movie}",
        "sc": sc,
        **more,
    }


@pytest.fixture
def frame() -> pl.DataFrame:
    rows = []
    for m in range(20):
        rows += [row("one", f"m{m}", "own", 60.0 + m % 3), row("two", f"m{m}", "own", 40.0)]
        # five derangements' rows are averaged
        rows += [row("one", f"m{m}", "shuffled", 50.0), row("one", f"m{m}", "shuffled", 54.0)]
        rows += [row("two", f"m{m}", "shuffled", 39.0)]
        rows += [row("one", f"m{m}", "constant", 45.0), row("two", f"m{m}", "constant", 41.0)]
        rows += [row("one", f"m{m}", "knn_copy", 70.0)]
    return pl.DataFrame(rows)


def test_means_macro_and_differences(frame: pl.DataFrame) -> None:
    result = summarise(frame, resamples=500)
    own = np.mean([60 + m % 3 for m in range(20)])
    assert result["tasks"]["one"]["sc"] == {"own": own, "shuffled": 52.0, "constant": 45.0, "knn_copy": 70.0}
    assert result["all"]["sc"]["own"] == pytest.approx((own + 40) / 2)
    assert "knn_copy" not in result["all"]["sc"]  # it lacks a task
    assert (result["n_examples"], result["n_movies"], result["n_tasks"]) == (40, 20, 2)
    shuffled = result["differences"]["sc"]["shuffled"]
    assert shuffled["mean"] == pytest.approx((own - 52 + 1) / 2)
    assert shuffled["low"] > 0
    best = result["differences"]["sc"]["best_control"]
    assert best["tasks"]["one"]["against"] == "shuffled"
    assert best["tasks"]["two"]["against"] == "constant"
    assert best["tasks"]["two"]["mean"] == pytest.approx(-1)
    assert (best["better_tasks"], best["significant_tasks"], best["n_tasks"]) == (1, 1, 2)
    json.dumps(result)


def test_examples_are_paired_by_id(frame: pl.DataFrame) -> None:
    half = frame.filter((pl.col("condition") != "shuffled") | pl.col("movie").is_in(["m0", "m3"]))
    one = summarise(half, resamples=100)["differences"]["sc"]["shuffled"]["tasks"]["one"]
    assert one["n"] == 2
    assert one["mean"] == pytest.approx(60 - 52)


def test_fewer_bits_are_better() -> None:
    rows = [row("one", f"m{m}", "own", 1.0, bits=100.0 + m) for m in range(5)]
    rows += [row("one", f"m{m}", "blind", 1.0, bits=130.0 + m) for m in range(5)]
    result = summarise(pl.DataFrame(rows), resamples=100)
    assert result["differences"]["bits"]["blind"]["mean"] == pytest.approx(30)
    assert result["all"]["bits"] == {"own": 102.0, "blind": 132.0}


def test_own_alone_and_without_scores() -> None:
    result = summarise(pl.DataFrame([row("one", "m", "own", 5.0)]), Letters(), resamples=50)
    assert result["differences"] == {"sc": {}}
    assert result["spread"] == {}
    assert result["uninformative"] == []
    assert result["retrieval"]["own"]["all"]["r1"] == 1.0
    bare = summarise(pl.DataFrame([row("one", "m", "own", 5.0)]).drop("sc"))
    assert bare["all"] == {}
    assert bare["scorer"] is None


def test_losses_without_texts_are_kept_out_of_text_measures() -> None:
    rows = [row("one", f"m{m}", c, 9.0, loss=float(m)) for m in range(3) for c in ("own", "facts")]
    frame = pl.DataFrame(rows).with_columns(
        pl.when(pl.col("condition") == "own").then("generated").alias("generated"),
        pl.when(pl.col("condition") == "own").then("sc").alias("sc"),
    )
    result = summarise(frame, Letters(), mentions=lambda _: {}, resamples=50)
    assert result["all"]["loss"] == {"own": 1.0, "facts": 1.0}
    assert "facts" not in result["all"]["sc"]
    assert list(result["retrieval"]) == ["own"]
    assert "facts" not in result["differences"]["sc"]


def test_spread_marks_uninformative_tasks() -> None:
    rows = [row("same", f"m{m}", "own", 1.0, target="all alike") for m in range(3)]
    rows += [row("apart", f"m{m}", "own", 1.0, target=chr(97 + m)) for m in range(3)]
    result = summarise(pl.DataFrame(rows), Letters(), resamples=50)
    assert result["uninformative"] == ["same"]
    assert result["spread"]["apart"]["room"] == pytest.approx(100)


def test_slots_by_condition_and_truth() -> None:
    rows = [row("one", "m", c, 1.0, target="Crime", generated=g) for c, g in (("own", "Crime"), ("blind", "War"))]
    found = summarise(
        pl.DataFrame(rows),
        mentions=lambda text: {"genres": {text}},
        truth={"one-m": {"genres": {"Crime", "Drama"}}},
        seen=["genres"],
        resamples=50,
    )["slots"]
    assert found["own"]["kinds"]["genres"]["score"] == pytest.approx(2 / 3)
    assert (found["own"]["seen"], found["own"]["unseen"]) == (pytest.approx(2 / 3), None)
    assert found["blind"]["seen"] == 0


def test_score_keeps_rows_and_order() -> None:
    frame = pl.DataFrame([row("one", "a", "own", 0.0), row("one", "b", "own", 0.0)]).with_columns(
        pl.Series("generated", ["target a", None])
    )
    scored = score(frame, Letters())
    assert scored["sc"].to_list() == [pytest.approx(100), None]
    assert scored["rouge_l"].to_list() == [pytest.approx(100), None]
    assert scored.drop("sc", "rouge_l").equals(frame.drop("sc"))


def test_bad_tables_are_named() -> None:
    good = pl.DataFrame([row("one", "m", "own", 5.0)])
    with pytest.raises(ValueError, match="lack the columns task"):
        summarise(good.drop("task"))
    with pytest.raises(ValueError, match="unknown condition 'swapped'"):
        summarise(good.with_columns(condition=pl.lit("swapped")))
    with pytest.raises(ValueError, match="no row of condition 'own'"):
        summarise(good.with_columns(condition=pl.lit("blind")))
