"""Runs of earlier versions keep their settings, and artefacts of today keep the names that these gave them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from ilm_lightning.engine.composition import composed
from ilm_lightning.engine.config import TuningConfig, as_config
from ilm_lightning.engine.runs import stored_config
from ilm_lightning.engine.stages.recommend_batches import tuning_that_matters
from ilm_lightning.engine.stages.tune import _that_matters
from ilm_lightning.older import renamed
from ilm_lightning.reporting.runs import read_runs


def stored(**tuning: Any) -> dict[str, Any]:
    """A configuration as a run of before left it: both settings are there, the one that it used is not zero."""
    plain = OmegaConf.to_container(OmegaConf.structured(composed()))
    assert isinstance(plain, dict)
    now = {key: value for key, value in plain["tuning"].items() if not key.startswith("lm_first")}
    before = {"blind_first_steps": 0, "blind_first_lr": 1e-3, "text_first_steps": 0, "text_first_lr": 1e-3}
    return {**plain, "tuning": {**now, **before, **tuning}}


@pytest.mark.parametrize("kind", ["blind", "text"])
def test_a_stored_run_keeps_what_was_learned_first(kind: str, tmp_path: Path) -> None:
    node = stored(**{f"{kind}_first_steps": 40, f"{kind}_first_lr": 2e-3})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(node))
    tuning = stored_config(tmp_path).tuning
    assert (tuning.lm_first_steps, tuning.lm_first_lr) == (40, 2e-3)


def test_a_stored_run_without_it_is_the_run_of_today() -> None:
    assert as_config(OmegaConf.create(stored())) == composed()


def test_settings_of_today_pass_as_they_are() -> None:
    plain = OmegaConf.to_container(OmegaConf.structured(composed("tuning.lm_first_steps=3")))
    assert renamed(plain) == plain  # type: ignore[arg-type]
    assert renamed({"tuning": None, "tasks": [1]}) == {"tuning": None, "tasks": [1]}


def test_tables_read_earlier_numbers_under_the_names_of_today(tmp_path: Path) -> None:
    recipe = {
        "adapter": {"kind": "qformer", "init": "random", "num_queries": 8},
        "tuning": {"mode": "frozen", "steps": 9, "batch_size": 8, "text_first_steps": 300, "text_first_lr": 1e-3},
        "tasks": {"history": 20},
    }
    metrics = {"ranking": {}, "baselines": {}, "protocol": {"seed": 0}, "tasks": {}, "recipe": recipe}
    (tmp_path / "one.json").write_text(json.dumps(metrics))
    _, (run,), _ = read_runs([tmp_path])
    tuning = run.metrics["recipe"]["tuning"]
    assert tuning == {"mode": "frozen", "steps": 9, "batch_size": 8, "lm_first_steps": 300, "lm_first_lr": 1e-3}


def test_artefacts_of_before_are_found() -> None:
    tuning = TuningConfig(mode="frozen", lm_first_steps=300)
    kept = tuning_that_matters(tuning)
    assert not [key for key in kept if key.startswith("lm_first")]
    assert (kept["text_first_steps"], kept["text_first_lr"]) == (300, 1e-3)
    assert (kept["blind_first_steps"], kept["blind_first_lr"]) == (0, 1e-3)
    # on language tasks what was learned first is an input of its own
    assert not [key for key in _that_matters(tuning) if "_first_" in key and key != "adapter_first_share"]
