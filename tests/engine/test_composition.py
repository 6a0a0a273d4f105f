"""Values laid over what was composed before, against compositions by Hydra alone."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException

from ilm_lightning.engine.command_line import conf_dir, told
from ilm_lightning.engine.composition import composed, composed_node, register_schema
from ilm_lightning.engine.config import Config, as_config


def by_hydra(overrides: list[str]) -> Config:
    register_schema()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return as_config(compose("train", overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["seed=3", "name=mine", "run=null", "outputs='a, b'"],
        ["experiment=ilm_qformer", "adapter.num_queries=3", "encoder=semantic", "encoder.als.factors=8"],
        ["tuning.adapter_lr=2e-4", "experiment=elm", "tuning=lora", "tuning.adapter_lr=3e-4"],
        ["pretraining.losses=[itc,vg]", "++pretraining.loss_weights.vg=2", "+teacher.body.top_k=3"],
        [
            "sweep=table3",
            "experiment=ilm_mlp",
            "data=custom",
            "++data.columns.user=person",
            "data.name=mine",
        ],
        ["tuning.steps=5", "tuning={steps: 3}"],
        ["tuning={steps: 3, val_every: 3}", "tuning.steps=5", "tuning=lora"],
        ["+assets.film-facts=/somewhere", "++seed=5", "hydra/launcher=basic", "hydra.verbose=false"],
    ],
)
def test_the_same_as_hydra_composes(overrides: list[str]) -> None:
    expected = by_hydra(overrides)
    assert composed(*overrides) == expected
    # what one changed is not in the next
    composed(*overrides, "seed=77", "pretraining.losses=[itg]", "++assets.reviews=/there")
    assert composed(*overrides) == expected


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=nope"],
        ["experimnt=elm"],
        ["tuning.stepz=3"],
        ["+seed=3"],
        ["~tuning.stepz"],
        ["seed=1,2"],
        ["adapter.num_queries=[1"],
        ["adapter@tuning=mlp"],
        ["tuning.steps@x=3"],
        ["tuning.steps=abc"],
    ],
)
def test_errors_are_those_of_hydra(overrides: list[str]) -> None:
    with pytest.raises(HydraException) as expected:
        by_hydra(overrides)
    with pytest.raises(HydraException) as found:
        composed(*overrides)
    assert type(found.value) is type(expected.value)
    assert told(found.value) == told(expected.value)


def test_configurations_of_ones_own_are_found(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nname: mine\ntuning:\n  steps: 9\n")
    node = composed_node([f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine", "tuning.val_every=3"])
    assert (node.name, node.tuning.steps, node.tuning.val_every) == ("mine", 9, 3)
