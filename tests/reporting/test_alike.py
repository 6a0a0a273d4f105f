"""What claims compare: rows that were trained alike, on common seeds of the test split, in one measure at a time."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from synthetic import config_of, predictions_of, write_run

from ilm_lightning.reporting import claims_page, markdown
from ilm_lightning.reporting.claims import Claim, go_through
from ilm_lightning.reporting.decide import Part, Verdict
from ilm_lightning.reporting.document import build, figure_3

FULL, FROZEN, RANDOM, MLP, ELM = "ilm_qformer_full", "ilm_qformer", "ilm_qformer_random", "ilm_mlp", "elm"
LEVELS = {1: 50.0, 2: 52.0, 4: 53.0, 8: 55.0, 16: 53.0, 32: 51.0}
Frames = Callable[[pl.DataFrame], pl.DataFrame]


def put(
    root: Path, experiment: str, level: float, seeds: Iterable[int] = range(3), tag: str = "",
    encoder: str = "combined", changed: Frames = lambda frame: frame, protocol: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None, movies: int = 30, blind: float | None = 40.0, **settings: Any,
) -> None:  # fmt: skip
    """Runs of one row with settings of their own."""
    for seed in seeds:
        frame = predictions_of(level, seed, movies=movies, blind=blind, seed_noise=0.05, noise=1.0)
        folder = root / f"{experiment}-{encoder}{tag}-{seed}"
        write_run(folder, config_of(experiment, encoder, seed, **settings), changed(frame), protocol=protocol, run=run)


def claim(root: Path, number: int) -> Claim:
    document = build([root], 400)
    return go_through(document.main, document.rankings, 400)[number - 1]


def part(root: Path, number: int = 2, place: int = 0, measure: str = "SC") -> Part:
    return claim(root, number).parts[measure][place]


# trained alike


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"tuning__lm_first_steps": 400}, "tuning.lm_first_steps 400 against none"),
        ({"tuning__lr_trials": [3e-4, 1e-3]}, "learning-rate trials 2 against 0"),
        ({"tuning__warmup_steps": 30}, "tuning.warmup_steps 30 against none"),
        ({"encoder__als__seed": 0}, "encoder.als.seed 0 against none"),
        ({"encoder__als__factors": 16}, "encoder.als.factors 16 against 64"),
        ({"encoder__text_model": "other"}, "encoder.text_model other against mini"),
        ({"trainer__precision": "bf16"}, "trainer.precision bf16 against auto"),
        ({"lm__dtype": "float32"}, "lm.dtype float32 against none"),
        ({"adapter__source_tokens": 4}, "adapter.source_tokens 4 against 1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_rows_that_were_trained_differently_are_not_compared(
    setting: dict[str, Any], said: str, tmp_path: Path
) -> None:
    put(tmp_path, FROZEN, 55.0, **setting)
    put(tmp_path, MLP, 50.0)
    found = part(tmp_path)
    assert found.verdict == Verdict.UNDECIDED
    assert found.why == f"they were trained differently: {said}"
    assert found.readings[0].says == "yes"


def test_what_makes_two_rows_may_differ(tmp_path: Path) -> None:
    put(tmp_path, FULL, 62.0, tuning__lm_lr=3e-4, tuning__lr_trials=[1e-3, 3e-3])
    put(tmp_path, FROZEN, 57.0, tuning__adapter_lr=2e-3, tuning__lr_trials=[1e-4, 3e-4])
    put(tmp_path, MLP, 50.0, adapter__dropout=0.3, tuning__lr_trials=[1e-3, 3e-3])
    put(tmp_path, RANDOM, 53.0, adapter__bert=None, pretraining__steps=7, tuning__lr_trials=[1e-3, 3e-3])
    put(tmp_path, ELM, 55.0, tuning__adapter_first_share=0.5, tuning__lr_trials=[1e-3, 3e-3])
    # text alone has no ALS
    put(tmp_path, FULL, 58.0, encoder="semantic", encoder__als__factors=8, tuning__lr_trials=[1e-3, 3e-3])
    assert part(tmp_path, 1).verdict == Verdict.CONFIRMED
    assert [part(tmp_path, 4, place).verdict for place in range(4)] == [Verdict.CONFIRMED] * 4
    assert [part(tmp_path, number).verdict for number in (2, 5)] == [Verdict.CONFIRMED] * 2


def test_rows_with_one_phase_1_have_to_have_it_alike(tmp_path: Path) -> None:
    put(tmp_path, FULL, 62.0, pretraining__steps=900)
    put(tmp_path, FROZEN, 57.0)
    put(tmp_path, FULL, 58.0, encoder="semantic", encoder__text_model="other", pretraining__steps=900)
    assert part(tmp_path, 4, 3).why == "they were trained differently: pretraining.steps 900 against 300"
    assert part(tmp_path, 1).why == "they were trained differently: encoder.text_model mini against other"


def test_a_pair_that_was_trained_alike_is_taken_before_one_with_more_seeds(tmp_path: Path) -> None:
    put(tmp_path, FROZEN, 60.0, range(5), "-first", tuning__lm_first_steps=400)
    put(tmp_path, FROZEN, 50.0)
    put(tmp_path, MLP, 53.0, range(5))
    found = part(tmp_path)
    assert found.verdict == Verdict.REFUTED
    assert found.text.endswith("; ILM-QFormer with tuning.lm_first_steps=None")


def test_the_papers_s_is_taken_before_another_with_more_seeds(tmp_path: Path) -> None:
    for source_tokens, seeds, ours, other in ((1, 3, 50.0, 55.0), (4, 5, 56.0, 53.0)):
        for experiment, level in ((FROZEN, ours), (MLP, other)):
            put(tmp_path, experiment, level, range(seeds), f"-{source_tokens}", adapter__source_tokens=source_tokens)
    found = part(tmp_path)
    assert (found.verdict, found.text) == (Verdict.REFUTED, "ILM-QFormer (combined) above ILM-MLP (combined)")


def test_the_protocol_says_what_the_language_model_learned_first(tmp_path: Path) -> None:
    put(tmp_path, FROZEN, 55.0, tuning__lm_first_steps=400, tuning__lm_first_seed=0)
    document = build([tmp_path], 200)
    for text in (claims_page.write(go_through(document.main), document.main), markdown.write(document)):
        assert "language model: tiny; trained alone first: 400 steps, seed 0" in text


# seeds


def test_settings_that_null_does_not_mean_are_not_pooled_with_it(tmp_path: Path) -> None:
    fixed = {"tuning__lm_first_seed": 0, "encoder__als__seed": 0, "lm__dtype": "float32", "tasks__names": ["plot"]}
    for place, (key, value) in enumerate(fixed.items()):
        root = tmp_path / key
        put(root, FROZEN, 55.0, (0, 1), tuning__lm_first_steps=400)
        put(root, FROZEN, 58.0, (2,), tuning__lm_first_steps=400, **{key: value})
        columns = build([root], 200).sections[0].group.columns
        assert [column.seeds for column in columns] == [(0, 1), (2,)], place
        assert columns[0].apart == ""
        assert columns[1].apart.startswith(key.replace("__", "."))


def test_seeds_that_two_rows_do_not_share_are_named_with_the_command(tmp_path: Path) -> None:
    told = {"command": "python -m ilm_lightning.train experiment=ilm_mlp seed=4 tuning.steps=450"}
    put(tmp_path, FROZEN, 55.0, (0, 1))
    put(tmp_path, MLP, 50.0, (3, 4, 5), run=told)
    found = part(tmp_path)
    assert found.why == "no seed in common, 0, 1 against 3, 4, 5; these runs are missing"
    assert found.missing == (
        "ILM-QFormer (combined): python -m ilm_lightning.train -m experiment=ilm_qformer encoder=combined "
        "tuning.steps=450 seed=3,4,5",
    )


def test_missing_runs_are_asked_for_like_those_beside_with_their_seeds(tmp_path: Path) -> None:
    words = "python -m ilm_lightning.train experiment=ilm_qformer seed=4 tuning.steps="
    put(tmp_path, FROZEN, 55.0, (4, 5), run={"command": f"{words}450"})
    put(tmp_path, FROZEN, 55.0, (4,), "-long", tuning__steps=900, run={"command": f"{words}900"})
    assert part(tmp_path).missing == (
        "ILM-MLP (combined): python -m ilm_lightning.train -m experiment=ilm_mlp encoder=combined tuning.steps=450 "
        "seed=0,4,5",
    )
    assert part(tmp_path, 7, 2).missing[0] == (
        "ILM-MLP, S=1, 1, 2, 4, 8, 16, 32 queries: python -m ilm_lightning.train -m experiment=ilm_mlp "
        "encoder=combined adapter.source_tokens=1 "
        "adapter.num_queries=1,2,4,8,16,32 tuning.steps=450 seed=0,1,2"
    )


# measures


def test_two_measures_are_never_subtracted_from_each_other(tmp_path: Path) -> None:
    put(tmp_path, FROZEN, 51.5, changed=lambda frame: frame.with_columns(sc_second=pl.col("sc") + 30))
    put(tmp_path, MLP, 50.0)
    document = build([tmp_path], 400)
    assert len(document.sections) == 2
    assert part(tmp_path).readings == ()
    assert any("second_scorer" in problem.what for problem in document.problems)


def test_a_second_scorer_in_one_run_leaves_the_page_standing(tmp_path: Path) -> None:
    slots: Frames = lambda frame: frame.with_columns(slot_accuracy=pl.col("sc"))  # noqa: E731
    put(tmp_path, FROZEN, 55.0, changed=slots)
    put(tmp_path, MLP, 50.0, changed=slots)
    put(tmp_path, RANDOM, 50.0, (0,), changed=lambda frame: slots(frame).with_columns(sc_second=pl.col("sc") + 30))
    found = part(tmp_path)
    assert found.verdict == Verdict.CONFIRMED
    assert [reading.scorer for reading in found.readings] == ["SC (all-MiniLM-L6-v2)", "ROUGE-L", "slot accuracy"]


# splits


def test_claims_rest_on_test_however_many_runs_of_validation_there_are(tmp_path: Path) -> None:
    for experiment, chosen, tested in ((FROZEN, 55.0, 50.0), (MLP, 50.0, 55.0), (RANDOM, 50.0, None)):
        put(tmp_path / "v", experiment, chosen, tag="v", protocol={"split": "validation"})
        if tested is not None:
            put(tmp_path / "t", experiment, tested)
    assert part(tmp_path).verdict == Verdict.REFUTED
    alone = build([tmp_path / "v"], 200)
    assert alone.main is None
    assert any("claims rest on the test split alone" in problem.what for problem in alone.problems)


# the curve of claim 7


def sweep(root: Path, seeds: Mapping[int, Iterable[int]] | None = None, **options: Any) -> None:
    for queries, level in LEVELS.items():
        put(
            root,
            MLP,
            level,
            (seeds or {}).get(queries, range(3)),
            f"-{queries}",
            adapter__num_queries=queries,
            **options,
        )


def test_a_curve_is_read_on_the_seeds_that_all_its_points_have(tmp_path: Path) -> None:
    sweep(tmp_path / "one", {8: (2, 3, 4)})
    found = part(tmp_path / "one", 7, 2)
    assert found.verdict == Verdict.UNDECIDED
    assert "1 seed of at least 3" in found.why
    assert found.missing[0].endswith("adapter.num_queries=1,2,4,8,16,32 seed=0,1,2")
    sweep(tmp_path / "none", {8: (3, 4, 5)})
    found = part(tmp_path / "none", 7, 2)
    assert found.why == "no seed that all numbers of tokens share; these runs are missing"
    assert [entry.partition(":")[0] for entry in found.missing] == ["ILM-MLP, S=1, 8 queries"]
    assert found.missing[0].endswith("adapter.num_queries=8 seed=0,1,2")


def test_a_curve_of_few_movies_decides_nothing(tmp_path: Path) -> None:
    sweep(tmp_path, movies=4)
    found = part(tmp_path, 7, 2)
    assert found.verdict == Verdict.UNDECIDED
    assert "too few movies for a verdict (4 of at least 10)" in found.why


def test_a_curve_without_the_blind_control_lacks_no_runs(tmp_path: Path) -> None:
    sweep(tmp_path, blind=None)
    found = part(tmp_path, 7, 2, "item-specific SC")
    assert found.missing == ()
    assert "(the blind control was not run for all)" in found.why


def test_a_curve_takes_the_settings_that_all_its_points_have(tmp_path: Path) -> None:
    sweep(tmp_path)
    put(tmp_path, MLP, 30.0, range(4), "-long", tuning__steps=900)
    found = part(tmp_path, 7, 2)
    assert found.verdict == Verdict.CONFIRMED
    assert found.text.endswith("; 8 queries with tuning.steps=450")
    (series,) = figure_3(build([tmp_path], 200).sections[0].group, "sc")
    assert [(point.queries, point.seeds) for point in series.points] == [(queries, 3) for queries in LEVELS]


def test_a_point_that_was_trained_differently_leaves_the_curve_undecided(tmp_path: Path) -> None:
    sweep(tmp_path, {8: ()})
    put(tmp_path, MLP, 55.0, tuning__lm_first_steps=400)
    found = claim(tmp_path, 7)
    assert found.parts["SC"][2].verdict == Verdict.UNDECIDED
    assert found.parts["SC"][2].why == (
        "8 queries beside 1, 2, 4, 16, 32 queries: they were trained differently: tuning.lm_first_steps 400 against "
        "none"
    )


# the page


def test_the_page_names_commits_and_machines(tmp_path: Path) -> None:
    made = {
        "built_with": {"tune": "a" * 40, "evaluate": "a" * 40 + "-dirty", "embed": None},
        "hardware": {"processor": "AMD EPYC", "cores": 16, "gpus": ["NVIDIA H200"]},
    }
    put(tmp_path, FROZEN, 55.0, (0, 1), run=made)
    put(tmp_path, FROZEN, 55.0, (2,), run={"hardware": ["damaged"], "built_with": "damaged"})
    document = build([tmp_path], 200)
    text = claims_page.write(go_through(document.main), document.main)
    assert "Commits: aaaaaaaaaaaa, aaaaaaaaaaaa-dirty. Hardware: AMD EPYC, 16 cores, NVIDIA H200." in text
