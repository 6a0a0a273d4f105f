import json
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from ilm_lightning.evaluation.scores import score, score_input, score_slots
from ilm_lightning.evaluation.summary import summarise


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
    assert (best["significantly_better"], best["significantly_worse"]) == (["one"], ["two"])
    assert result["controls"]["best_control"] == ["shuffled", "constant"]
    json.dumps(result)


def test_tasks_are_read_only_where_their_mean_is_significant() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, 30)
    rows = []
    for m in range(30):
        # far up in one task, as far down in another, and noise: their mean is not apart from 0
        for task, gain in (("up", 5.0), ("down", -5.0), ("noise", 8 * noise[m])):
            rows += [row(task, f"m{m}", "own", 50 + gain), row(task, f"m{m}", "shuffled", 50.0)]
    found = summarise(pl.DataFrame(rows), resamples=500)["differences"]["sc"]["shuffled"]
    assert found["tasks"]["up"]["p_holm"] < 0.05
    assert not found["significant"]
    assert (found["significantly_better"], found["significantly_worse"], found["significant_tasks"]) == ([], [], 0)


def test_the_best_control_with_and_without_hard_shuffling() -> None:
    rows = []
    for m in range(10):
        for condition, sc in (("own", 60.0), ("shuffled", 50.0), ("hard_shuffled", 58.0), ("blind", 54.0)):
            rows.append(row("one", f"m{m}", condition, sc))
    result = summarise(pl.DataFrame(rows), resamples=100)
    found = result["differences"]["sc"]
    assert (found["best_control"]["mean"], found["best_control"]["tasks"]["one"]["against"]) == (6.0, "blind")
    hard = found["best_control_with_hard"]
    assert (hard["mean"], hard["tasks"]["one"]["against"]) == (2.0, "hard_shuffled")
    assert result["controls"]["best_control_with_hard"] == ["shuffled", "hard_shuffled", "blind"]
    assert result["item_specific_sc"] == {"mean": 6.0, "low": 6.0, "high": 6.0, "tasks": {"one": 6.0}}


def test_two_scorers_must_agree() -> None:
    rows = []
    for m in range(20):
        for task in ("one", "two"):
            # the second scorer sees the gain in one task only, and none against kNN copy
            better = 55.0 if task == "one" else 49.9 + m % 2 / 5
            rows.append(row(task, f"m{m}", "own", 60.0, sc_second=better, rouge_l=10.0))
            rows.append(row(task, f"m{m}", "shuffled", 50.0, sc_second=50.0, rouge_l=20.0))
            rows.append(row(task, f"m{m}", "knn_copy", 50.0, sc_second=60.0, rouge_l=1.0))
            rows.append(row(task, f"m{m}", "constant", 65.0, sc_second=60.0, rouge_l=1.0))
    frame = pl.DataFrame(rows)
    found = summarise(frame, resamples=200)["claims"]
    assert found["shuffled"] == {
        "verdict": "confirmed",
        "by": {"sc": "above", "sc_second": "above"},
        "supported_tasks": 1,
    }
    assert found["knn_copy"]["verdict"] == "undecided"
    assert found["constant"]["verdict"] == "refuted"
    # without a second scorer ROUGE-L takes its place, and says the contrary of SC
    alone = summarise(frame.drop("sc_second"), resamples=200)["claims"]
    assert alone["shuffled"]["by"] == {"sc": "above", "rouge_l": "below"}
    assert alone["shuffled"]["verdict"] == "undecided"
    assert alone["knn_copy"]["verdict"] == "confirmed"
    bare = summarise(frame.drop("sc_second", "rouge_l"), resamples=200)["claims"]
    assert bare["shuffled"] == {"verdict": "undecided", "by": {"sc": "above"}, "supported_tasks": 0}


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
    scored = score(frame, Letters(), Letters())
    for name in ("sc", "sc_second", "rouge_l"):
        assert scored[name].to_list() == [pytest.approx(100), None]
    assert scored.drop("sc", "rouge_l", "sc_second").equals(frame.drop("sc"))
    assert "sc_second" not in score(frame, Letters()).columns


def test_input_scores_by_hand() -> None:
    texts = ["a", "ab", "b", None, "a", "a"]
    items = [[0], [0, 1], [0], [0], [2, 0], []]
    frame = pl.DataFrame([row("one", str(i), "own", 0.0, items=own) for i, own in enumerate(items)])
    frame = frame.with_columns(pl.Series("generated", texts))
    vectors = np.zeros((3, 26), dtype=np.float32)
    vectors[0, 0] = vectors[1, 1] = 0.5  # "a" and "b"; item 2 has no text of its own
    found = score_input(frame, Letters(), vectors, np.array([True, True, False]))["sc_input"].to_list()
    assert found == [pytest.approx(100), pytest.approx(100), pytest.approx(0), None, None, None]
    nothing = frame.with_columns(generated=pl.lit(None, dtype=pl.String))
    assert score_input(nothing, Letters(), vectors, np.ones(3, dtype=bool))["sc_input"].null_count() == 6


def test_slot_scores_are_columns_and_measures() -> None:
    rows = [row("one", f"m{m}", "own", 1.0, target="Crime France", generated="Crime Italy") for m in range(3)]
    rows.append(row("one", "m3", "own", 1.0, target="nothing", generated="Crime"))

    def find(text: str) -> dict[str, set[str]]:
        words = set(text.split())
        return {"genres": words & {"Crime"}, "countries": words & {"France", "Italy"}}

    frame = score_slots(pl.DataFrame(rows), find, seen=["genres"])
    assert frame["slot_accuracy"].to_list() == [50.0, 50.0, 50.0, None]
    assert frame["slot_seen"].to_list() == [100.0, 100.0, 100.0, None]
    assert frame["slot_unseen"].to_list() == [0.0, 0.0, 0.0, None]
    truth = {f"one-m{m}": {"countries": {"Italy"}} for m in range(4)}
    assert score_slots(frame, find, truth)["slot_accuracy"].to_list() == [100.0, 100.0, 100.0, None]
    assert summarise(frame, resamples=50)["all"]["slot_unseen"] == {"own": 0.0}


def test_bad_tables_are_named() -> None:
    good = pl.DataFrame([row("one", "m", "own", 5.0)])
    with pytest.raises(ValueError, match="lack the columns task"):
        summarise(good.drop("task"))
    with pytest.raises(ValueError, match="unknown condition 'swapped'"):
        summarise(good.with_columns(condition=pl.lit("swapped")))
    with pytest.raises(ValueError, match="no row of condition 'own'"):
        summarise(good.with_columns(condition=pl.lit("blind")))
