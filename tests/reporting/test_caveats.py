"""What a verdict has to be read with: controls, seeds, measures that cannot be compared, runs that are elsewhere."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from synthetic import config_of, predictions_of, write_run
from test_alike import FROZEN, FULL, LEVELS, MLP, RANDOM, put

from ilm_lightning.reporting import claims_page
from ilm_lightning.reporting.claims import Claim, go_through
from ilm_lightning.reporting.decide import Part, Verdict
from ilm_lightning.reporting.document import Document, build

ELM = "elm"
ENCODERS = ("combined", "semantic", "behavioral")
Change = Callable[[dict[str, Any]], None]


def built(root: Path, number: int) -> tuple[Document, Claim]:
    document = build([root], 400)
    return document, go_through(document.main, None, 400)[number - 1]


def part(root: Path, number: int, place: int = 0, measure: str = "SC") -> Part:
    return built(root, number)[1].parts[measure][place]


def change(root: Path, begins: str, how: Change) -> None:
    """Edit the metrics of runs whose folder begins so."""
    for path in root.glob(f"{begins}*/metrics.json"):
        metrics = json.loads(path.read_text())
        how(metrics)
        path.write_text(json.dumps(metrics))


def not_agreed(metrics: dict[str, Any]) -> None:
    """SC lies above the best control, ROUGE-L below it."""
    metrics["claims"]["best_control"] = {"verdict": "undecided"}


def without_controls(metrics: dict[str, Any]) -> None:
    metrics["differences"], metrics["claims"] = {}, {}


def without_blind(metrics: dict[str, Any]) -> None:
    metrics["controls"] = {"best_control": ["shuffled", "constant"]}


def equal_rows(root: Path, rouge: Mapping[str, tuple[float, float]] | None = None) -> None:
    """Frozen ILM and ELM with equal SC; ``rouge``: mean and noise of ROUGE-L and slot accuracy."""
    for experiment in (FROZEN, ELM):
        for encoder in ENCODERS[:2]:
            for seed in range(3):
                frame = predictions_of(55.0, seed, noise=0.5, seed_noise=0.02, movies=60)
                if rouge is not None:
                    mean, noise = rouge[experiment]
                    wide = predictions_of(mean, seed, noise=noise, seed_noise=noise / 4, movies=60)["sc"]
                    frame = frame.with_columns(rouge_l=wide, slot_accuracy=wide * 2)
                write_run(root / f"{experiment}-{encoder}-{seed}", config_of(experiment, encoder, seed), frame)


# controls


def test_rows_whose_second_measure_is_not_above_the_controls_are_named(tmp_path: Path) -> None:
    put(tmp_path, FROZEN, 55.0)
    put(tmp_path, MLP, 50.0)
    change(tmp_path, MLP, not_agreed)
    found = built(tmp_path, 2)[1]
    (note,) = (note for note in found.notes if note.startswith("not above their controls"))
    assert "ILM-MLP (combined)" in note
    assert "ILM-QFormer" not in note


def test_controls_that_were_not_run_are_told(tmp_path: Path) -> None:
    put(tmp_path, FROZEN, 55.0)
    put(tmp_path, MLP, 50.0)
    change(tmp_path, MLP, without_controls)
    assert built(tmp_path, 2)[1].notes == (
        "controls were not run, so that nobody knows whether differences say anything of items: ILM-MLP (combined)",
    )


def test_a_control_that_one_seed_lacks_is_none_of_the_row(tmp_path: Path) -> None:
    put(tmp_path, FROZEN, 55.0)
    put(tmp_path, MLP, 50.0)
    change(tmp_path, f"{MLP}-combined-1", without_controls)
    assert any("not above" in note and "ILM-MLP" in note for note in built(tmp_path, 2)[1].notes)


def test_rows_of_figure_3_are_not_named_beside_claims_that_do_not_rest_on_them(tmp_path: Path) -> None:
    for experiment, level in ((FROZEN, 55.0), (RANDOM, 50.0)):
        put(tmp_path, experiment, level)
    put(tmp_path, RANDOM, 45.0, tag="-one", adapter__num_queries=1)
    change(tmp_path, f"{RANDOM}-combined-one", not_agreed)
    document, found = built(tmp_path, 5)
    assert document.main is not None
    assert [one.label for one in document.main.controls if one.above is False] == ["ILM-QFormer-random (combined, q=1)"]
    assert found.notes == ()


@pytest.mark.parametrize(
    ("begins", "how", "said"),
    [
        ("", not_agreed, "confirmed (3 seeds; rows not above their controls)"),
        (MLP, not_agreed, "confirmed (3 seeds; 3 of 6 rows not above their controls)"),
        ("", without_controls, "confirmed (3 seeds; no controls run)"),
        (MLP, without_controls, "confirmed (3 seeds; no controls of 3 of 6 rows run)"),
        ("", without_blind, "confirmed (3 seeds; some controls not run)"),
        (MLP, without_blind, "confirmed (3 seeds; some controls of 3 of 6 rows not run)"),
    ],
    ids=["all", "some", "none run", "some not run", "no blind", "some without blind"],
)
def test_a_verdict_says_that_its_rows_are_not_above_their_controls(
    begins: str, how: Change, said: str, tmp_path: Path
) -> None:
    for encoder in ENCODERS:
        put(tmp_path, FROZEN, 55.0, encoder=encoder)
        put(tmp_path, MLP, 50.0, encoder=encoder)
    change(tmp_path, begins, how)
    document, found = built(tmp_path, 2)
    assert claims_page.verdicts(found) == said
    text = claims_page.write([found], document.main)
    assert f"| {said} |" in text
    assert f"**SC: {said}**" in text


def test_a_curve_says_it_too(tmp_path: Path) -> None:
    for queries, level in LEVELS.items():
        put(tmp_path, MLP, level, tag=f"-{queries}", adapter__num_queries=queries)
    change(tmp_path, "", not_agreed)
    found = part(tmp_path, 7, 2)
    assert (found.verdict, found.seeds, len(found.columns)) == (Verdict.CONFIRMED, 3, 6)
    assert {one.above for one in found.controls} == {False}


@pytest.mark.parametrize("how", [not_agreed, without_controls, without_blind])
def test_two_rows_that_ignore_the_item_are_not_equal(how: Change, tmp_path: Path) -> None:
    equal_rows(tmp_path)
    change(tmp_path, FROZEN, how)
    assert part(tmp_path, 3).verdict == Verdict.CONFIRMED
    change(tmp_path, ELM, how)
    found = part(tmp_path, 3)
    assert found.verdict == Verdict.UNDECIDED
    assert found.why.startswith("neither row is known to be above all controls")


@pytest.mark.parametrize("above", [True, False])
def test_rows_that_ignore_the_item_may_be_unequal(above: bool, tmp_path: Path) -> None:
    put(tmp_path, FROZEN, 45.0)
    put(tmp_path, ELM, 58.0)
    if not above:
        change(tmp_path, "", not_agreed)
    found = built(tmp_path, 3)[1]
    assert found.parts["SC"][0].verdict == Verdict.REFUTED
    assert found.said("SC") == ("refuted (3 seeds)" if above else "refuted (3 seeds; rows not above their controls)")


def test_a_refutation_is_told_with_the_rows_it_rests_on(tmp_path: Path) -> None:
    for encoder, (frozen, mlp) in {"combined": (50.0, 55.0), "semantic": (55.0, 50.0)}.items():
        put(tmp_path, FROZEN, frozen, encoder=encoder)
        put(tmp_path, MLP, mlp, encoder=encoder)
    for row in (FROZEN, MLP):
        change(tmp_path, f"{row}-semantic", not_agreed)
    assert built(tmp_path, 2)[1].said("SC") == "refuted (3 seeds)"
    change(tmp_path, f"{MLP}-combined", not_agreed)
    assert built(tmp_path, 2)[1].said("SC") == "refuted (3 seeds; 1 of 2 rows not above their controls)"


@pytest.mark.parametrize("row", [FROZEN, MLP])
def test_copies_of_one_run_decide_nothing(row: str, tmp_path: Path) -> None:
    put(tmp_path, FROZEN, 55.0)
    put(tmp_path, MLP, 50.0)
    assert part(tmp_path, 2).verdict == Verdict.CONFIRMED
    shutil.copyfile(
        tmp_path / f"{row}-combined-0/predictions.parquet", tmp_path / f"{row}-combined-2/predictions.parquet"
    )
    found = part(tmp_path, 2)
    assert found.verdict == Verdict.UNDECIDED
    label = {FROZEN: "ILM-QFormer", MLP: "ILM-MLP"}[row]
    assert found.why.endswith(f"so that their spread is not known: {label} (combined), seeds 0 and 2")


# measures


def test_noise_of_the_second_measures_confirms_no_equality(tmp_path: Path) -> None:
    equal_rows(tmp_path, {FROZEN: (28.5, 12.0), ELM: (30.0, 12.0)})
    found = part(tmp_path, 3)
    assert [reading.says for reading in found.readings] == ["yes", "open", "no veto"]
    assert found.verdict == Verdict.UNDECIDED
    assert found.why.startswith("SC (all-MiniLM-L6-v2) alone supports it; ROUGE-L does not decide; slot accuracy")
    assert "ROUGE-L: to " in found.why
    assert "within 0.25" in found.why


def lost_value(frame: pl.DataFrame, measure: str) -> pl.DataFrame:
    """One text without a value."""
    lost = (pl.col("example_id") == frame["example_id"][0]) & (pl.col("condition") == "own")
    return frame.with_columns(pl.when(lost).then(None).otherwise(pl.col(measure)).alias(measure))


@pytest.mark.parametrize("measure", ["rouge_l", "slot_accuracy"])
def test_a_contradiction_that_cannot_be_compared_does_not_vanish(measure: str, tmp_path: Path) -> None:
    other = {"rouge_l": "slot_accuracy", "slot_accuracy": "rouge_l"}[measure]
    against = pl.when(pl.col("sc") > 52).then(27.0).otherwise(30.0)  # the higher SC, the lower

    def scored(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(against.alias(measure), pl.col("sc").alias(other))

    for name, changed in (("whole", scored), ("lacking", lambda frame: lost_value(scored(frame), measure))):
        put(tmp_path / name, FROZEN, 65.0, changed=scored)
        put(tmp_path / name, MLP, 45.0, changed=changed)
    assert part(tmp_path / "whole", 2).why.startswith("the scorers do not agree")
    found = part(tmp_path / "lacking", 2)
    assert found.verdict == Verdict.UNDECIDED
    assert found.why.endswith("is not comparable")
    (reading,) = (reading for reading in found.readings if reading.says == "not comparable")
    assert reading.numbers == "the examples that have it are not the same (counts differ)"


def test_a_measure_that_one_row_lacks_forbids_a_verdict(tmp_path: Path) -> None:
    put(tmp_path, FROZEN, 55.0, changed=lambda frame: frame.with_columns(slot_accuracy=pl.col("sc")))
    put(tmp_path, MLP, 50.0)
    found = part(tmp_path, 2)
    assert (found.verdict, found.why) == (Verdict.UNDECIDED, "slot accuracy is not comparable")
    assert found.readings[2].numbers == "no seed of all that are compared has it"


def test_a_measure_on_fewer_seeds_counts_with_them(tmp_path: Path) -> None:
    put(tmp_path, FROZEN, 55.0)
    put(tmp_path, MLP, 50.0, (0, 1))
    put(tmp_path, MLP, 50.0, (2,), changed=lambda frame: frame.drop("rouge_l"))
    found = part(tmp_path, 2)
    assert (found.verdict, found.seeds) == (Verdict.UNDECIDED, 2)
    assert found.why.startswith("2 seeds of at least 3")


def test_a_curve_of_which_a_point_lacks_a_value_is_undecided(tmp_path: Path) -> None:
    for queries, level in LEVELS.items():
        changed = (lambda frame: lost_value(frame, "rouge_l")) if queries == 4 else (lambda frame: frame)
        put(tmp_path, MLP, level, tag=f"-{queries}", adapter__num_queries=queries, changed=changed)
    found = part(tmp_path, 7, 2)
    assert (found.verdict, found.why) == (Verdict.UNDECIDED, "ROUGE-L is not comparable")


def test_item_specific_sc_beside_one_blind_control_is_said_to_be_sc(tmp_path: Path) -> None:
    put(tmp_path, FROZEN, 55.0)
    put(tmp_path, MLP, 50.0)
    put(tmp_path, FULL, 60.0, blind=45.0)
    told = "; same blind control: equal to SC by construction"
    assert part(tmp_path, 2, 0, "item-specific SC").text.endswith(told)
    assert not part(tmp_path, 2).text.endswith(told)
    assert not part(tmp_path, 4, 3, "item-specific SC").text.endswith(told)


# seeds and budgets


@pytest.mark.parametrize(("seeds", "said"), [(3, "confirmed (3 seeds)"), (4, "confirmed (4 seeds)"), (5, "confirmed")])
def test_a_verdict_on_fewer_seeds_than_asked_for_says_so(seeds: int, said: str, tmp_path: Path) -> None:
    for encoder in ENCODERS:
        put(tmp_path, FROZEN, 55.0, range(seeds), encoder=encoder)
        put(tmp_path, MLP, 50.0, range(5), encoder=encoder)
    document, found = built(tmp_path, 2)
    assert claims_page.verdicts(found) == said
    text = claims_page.write([found], document.main)
    assert "The protocol asks for 5 seeds" in text
    assert f"- ILM-QFormer (combined) above ILM-MLP (combined): **{said}**" in text


def test_a_refutation_rests_on_the_seeds_of_the_part_that_refutes(tmp_path: Path) -> None:
    put(tmp_path, FROZEN, 50.0, range(5))
    put(tmp_path, MLP, 55.0, range(5))
    put(tmp_path, FROZEN, 55.0, encoder="semantic")
    put(tmp_path, MLP, 50.0, encoder="semantic")
    assert built(tmp_path, 2)[1].said("SC") == "refuted"


def test_the_page_tells_the_budget_with_its_exceptions(tmp_path: Path) -> None:
    for experiment, level, steps in ((FROZEN, 55.0, 450), (RANDOM, 53.0, 450), (MLP, 50.0, 900)):
        put(tmp_path, experiment, level, tuning__lr_trials=[1e-3, 3e-3], tuning__steps=steps)
    document, found = built(tmp_path, 2)
    assert (
        "Budget: phase 2: 450 steps of 8 examples, but 900 steps of 8 examples in ILM-MLP (combined); phase 1: 300 "
        "steps; test movies a task: 40; learning-rate trials: 2."
    ) in claims_page.write([found], document.main)


# runs that are elsewhere


def test_rows_that_only_other_examples_keep_apart_are_not_missing(tmp_path: Path) -> None:
    put(tmp_path, FROZEN, 55.0)
    put(tmp_path, RANDOM, 55.0)
    put(tmp_path, MLP, 50.0, changed=lambda frame: lost_value(frame, "sc"))
    found = part(tmp_path, 2)
    assert found.missing == ()
    assert found.why.startswith("ILM-MLP (combined) is there under protocol B: movies '30 movies, 180 examples (")
    assert ", not '30 movies, 180 examples (" in found.why


def test_rows_of_which_other_movies_were_asked_for_can_be_run_anew(tmp_path: Path) -> None:
    put(tmp_path, FROZEN, 55.0, evaluation__movies=30)
    put(tmp_path, RANDOM, 55.0, evaluation__movies=30)
    put(tmp_path, MLP, 50.0, movies=40, evaluation__movies=40)
    (missing,) = part(tmp_path, 2).missing
    assert missing.startswith(
        "ILM-MLP (combined), there under protocol B (other movies): python -m ilm_lightning.train"
    )


def test_rows_short_of_seeds_are_asked_for_with_those_they_lack(tmp_path: Path) -> None:
    run = {"command": f"ilm_lightning.train experiment={MLP} tuning.warmup_steps=7 seed=0"}
    put(tmp_path, FROZEN, 55.0)
    put(tmp_path, MLP, 50.0, (0,), run=run)
    document, found = built(tmp_path, 2)
    (first, *_) = found.parts["SC"]
    assert first.why == "1 seed of at least 3: the spread over trainings is not known"
    assert first.missing == (
        "ILM-MLP (combined), seeds 1, 2: python -m ilm_lightning.train -m experiment=ilm_mlp encoder=combined "
        "tuning.warmup_steps=7 seed=1,2",
    )
    page = claims_page.write([found], document.main)
    assert "the spread over trainings is not known; missing: ILM-MLP (combined), seeds 1, 2\n" in page
    assert f"- {first.missing[0].replace(': ', ': `', 1)}`" in page


def test_neither_row_has_enough_seeds(tmp_path: Path) -> None:
    put(tmp_path, FROZEN, 55.0, (0, 4))
    put(tmp_path, MLP, 50.0, (4,))
    assert [entry.split("ilm_lightning.train")[0] for entry in part(tmp_path, 2).missing] == [
        "ILM-QFormer (combined), seed 1: python -m ", "ILM-MLP (combined), seeds 0, 1: python -m ",
    ]  # fmt: skip


def test_long_reasons_are_not_cut(tmp_path: Path) -> None:
    equal_rows(tmp_path, {FROZEN: (28.5, 12.0), ELM: (30.0, 12.0)})
    document, found = built(tmp_path, 3)
    why = found.parts["SC"][0].why
    assert len(why) > 250
    page = claims_page.write([replace(found, notes=("a note " * 100,))], document.main)
    assert "…" not in page


def test_figure_3_is_asked_for_without_a_blind_control(tmp_path: Path) -> None:
    run = {"command": f"ilm_lightning.train experiment={MLP} evaluation.conditions=[own,shuffled,blind] seed=0"}
    put(tmp_path, MLP, 50.0, (0,), run=run)
    (missing,) = part(tmp_path, 7, 2).missing
    assert "adapter.num_queries=1,2,4,16,32 'evaluation.conditions=[own,shuffled]' seed=0,1,2" in missing


def test_a_budget_by_name_and_one_written_out_are_one(tmp_path: Path) -> None:
    settings = {"evaluation__movies": 24, "tuning__steps": 120}
    for seed, budget in enumerate(("budget=tables", "tuning.steps=120 evaluation.movies=24", "budget=tables")):
        run = {"command": f"ilm_lightning.train experiment={FROZEN} {budget} seed={seed}"}
        put(tmp_path, FROZEN, 55.0, (seed,), run=run, **settings)
    (missing,) = part(tmp_path, 2).missing
    assert "-m experiment=ilm_mlp encoder=combined tuning.steps=120 evaluation.movies=24 seed=0,1,2" in missing


def test_rows_of_another_protocol_are_missing_and_said_to_be_there(tmp_path: Path) -> None:
    put(tmp_path, FROZEN, 55.0)
    put(tmp_path, RANDOM, 55.0)
    put(tmp_path, MLP, 50.0, protocol={"split": "validation"})
    (missing,) = part(tmp_path, 2).missing
    assert missing.startswith("ILM-MLP (combined), there under protocol B (other split): python -m ilm_lightning.train")


def test_seeds_that_another_protocol_holds_are_told(tmp_path: Path) -> None:
    put(tmp_path, FROZEN, 55.0)
    put(tmp_path, MLP, 50.0, (0, 1))
    put(tmp_path, MLP, 50.0, (2,), changed=lambda frame: lost_value(frame, "sc"))
    assert "; ILM-MLP (combined), seed 2, there under protocol B: movies '" in part(tmp_path, 2).why


def test_missing_runs_of_phase_1_are_asked_for_like_those_at_hand(tmp_path: Path) -> None:
    hardware = {"processor": "AMD EPYC", "cores": 2, "gpus": [], "bf16": True, "threads": 1}
    command = f"python -m ilm_lightning.train experiment={MLP} seed=0 tuning.steps=450"
    put(tmp_path, MLP, 50.0, run={"command": command, "hardware": hardware})
    missing = part(tmp_path, 6, 0, "phase-1 evaluation loss").missing
    assert len(missing) == 2
    for entry in missing:
        assert entry.endswith(" tuning.steps=450 trainer.threads=1 encoder=combined seed=0,1,2")
