"""Which settings make two runs of a row different runs, and how they are told."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from synthetic import config_of

from ilm_lightning.reporting.columns import Column, columns_of, unlike
from ilm_lightning.reporting.runs import Run
from ilm_lightning.reporting.variants import SWITCHES, settings_of


def run_of(seed: int, **settings: Any) -> Run:
    """A run without predictions."""
    config = config_of("ilm_qformer", seed=seed, **settings)
    return Run(f"run-{seed}", Path(f"run-{seed}"), config, {"protocol": {"seed": seed}, "run": {}}, None)


def columns(*runs: Run) -> list[Column]:
    return columns_of(runs, {})[0]


# teachers


def test_teachers_with_other_settings_are_not_pooled() -> None:
    lm = {"teacher__kind": "lm", "teacher__max_train_examples": 200}
    few = lm | {"teacher__max_train_examples": 20}
    found = columns(run_of(0, **lm), run_of(1, **lm), run_of(2, **few))
    assert [(c.apart, c.seeds) for c in found] == [("", (0, 1)), ("teacher.max_train_examples=20", (2,))]


def test_how_a_teacher_was_reached_sets_nothing_apart() -> None:
    endpoint = {"teacher__kind": "endpoint", "teacher__max_train_examples": 200}
    reached = {
        "url": "http://127.0.0.1:8000", "api_key_env": "KEY", "concurrency": 32, "batch_size": 4, "attempts": 2,
        "requests_per_minute": 500, "tokens_per_minute": 9, "timeout_s": 5, "max_requests": 7,
        "max_left_out_share": 0.5,
    }  # fmt: skip
    other = {f"teacher__{key}": value for key, value in reached.items()}
    (found,) = columns(run_of(0, **endpoint), run_of(1, **endpoint, **other))
    assert found.seeds == (0, 1)


def test_settings_of_a_teacher_that_the_rules_do_not_read_set_nothing_apart() -> None:
    (found,) = columns(run_of(0), run_of(1, teacher__kind="facts", teacher__max_train_examples=200, teacher__tries=3))
    assert found.seeds == (0, 1)


# settings that do something after all


def test_lora_of_the_steps_alone_sets_runs_apart() -> None:
    alone = {"tuning__lm_first_steps": 400, "tuning__lm_first_seed": 0}
    found = columns(run_of(0, **alone), run_of(1, **alone), run_of(2, **alone, tuning__lora_rank=4))
    assert [(c.apart, c.seeds) for c in found] == [("", (0, 1)), ("tuning.lora_rank=4", (2,))]
    (found_without,) = columns(run_of(0), run_of(1, tuning__lora_rank=4))
    assert found_without.seeds == (0, 1)


def test_the_examples_that_choose_rate_and_checkpoint_set_runs_apart() -> None:
    found = columns(*(run_of(seed, tuning__val_examples=240) for seed in (0, 1)), run_of(2, tuning__val_examples=24))
    assert [(c.apart, c.seeds) for c in found] == [("", (0, 1)), ("tuning.val_examples=24", (2,))]
    assert unlike(*found) == "tuning.val_examples 240 against 24"


# what is set to 0


@pytest.mark.parametrize(("key", "value"), [("adapter.dropout", 0.1), ("tuning.warmup_steps", 12)])
def test_a_setting_of_0_is_told_as_0(key: str, value: float) -> None:
    name = key.replace(".", "__")
    found = columns(*(run_of(seed, **{name: value}) for seed in (0, 1)), run_of(2, **{name: 0}))
    assert [c.apart for c in found] == ["", f"{key}=0"]
    assert unlike(*found) == f"{key} {value} against 0"


def test_an_off_switch_is_as_good_as_none_and_told_as_the_file_says_it() -> None:
    off = {"tuning__lm_first_steps": 0}
    (found,) = columns(run_of(0), run_of(1, **off))
    assert found.seeds == (0, 1)
    found, on = columns(run_of(0, **off), run_of(1, **off), run_of(2, tuning__lm_first_steps=400))
    assert on.apart == "tuning.lm_first_steps=400"
    assert unlike(found, on) == "tuning.lm_first_steps 0 against 400"
    first, other = columns(*(run_of(seed, tuning__lm_first_steps=400) for seed in (0, 1)), run_of(2, **off))
    assert (first.apart, other.apart) == ("", "tuning.lm_first_steps=0")


def test_switches_are_the_settings_that_are_off_by_default() -> None:
    from ilm_lightning.engine.config import Config

    name = "ilm_qformer"
    plain = {key: value for key, value in asdict(Config()).items() if key not in ("evaluation", "logger", "trainer")}
    run = Run(name, Path(name), plain, {"protocol": {"seed": 0}}, None)
    off = {key for key, value in run.flat.items() if value in (False, 0, 0.0) and not key.endswith("seed")}
    assert off - SWITCHES == {"teacher.requests_per_minute", "teacher.tokens_per_minute"}
    # of a recommendation run's recipe
    assert SWITCHES - {"encoder_decoder"} <= off
    assert not {key for key, _ in settings_of(run)} & SWITCHES
