from dataclasses import replace
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from ilm_lightning.engine.command import conf_dir, register_schema
from ilm_lightning.engine.config import Config, as_config
from ilm_lightning.engine.stages.selection import configurations_tried


def composed(folder: Path, *overrides: str) -> Config:
    register_schema()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return as_config(compose("train", ["experiment=ilm_mlp", f"outputs={folder}", *overrides]))


def keep(config: Config, name: str) -> None:
    folder = Path(config.outputs) / name
    folder.mkdir(parents=True)
    OmegaConf.save(OmegaConf.structured(config), folder / "config.yaml")


def test_only_what_can_be_chosen_is_counted(tmp_path: Path) -> None:
    config = composed(tmp_path)
    assert configurations_tried(config) == 1
    keep(config, "itself")
    assert configurations_tried(config) == 1
    # another seed, place or test set is no try
    keep(replace(config, seed=3, artifacts="elsewhere"), "seed")
    keep(composed(tmp_path, "evaluation=full", "trainer=cpu"), "tested")
    assert configurations_tried(config) == 1
    keep(composed(tmp_path, "tuning.adapter_lr=0.0007"), "rate")
    keep(composed(tmp_path, "tuning.adapter_lr=0.0007", "seed=4"), "rate-again")
    keep(composed(tmp_path, "encoder.als.factors=32"), "als")
    assert configurations_tried(config) == 3
    # two rates tried before phase 2, one of them known already
    keep(composed(tmp_path, "tuning.lr_trials=[0.0007,0.0009]"), "trials")
    assert configurations_tried(config) == 4
    # other rows, data and encoders are variants of their own
    keep(replace(config, name="other"), "row")
    keep(composed(tmp_path, "encoder=semantic"), "encoder")
    keep(composed(tmp_path, "tuning=lora"), "tuning")
    keep(composed(tmp_path, "data=ml_1m"), "data")
    assert configurations_tried(config) == 4
    assert configurations_tried(composed(tmp_path, "encoder=semantic")) == 1


def test_what_is_no_run_is_passed_over(tmp_path: Path) -> None:
    config = composed(tmp_path)
    for place, text in enumerate(("{", "- a list", "name: ilm_mlp\nseed: much", "", "name: ilm_mlp\nold_key: 1")):
        (tmp_path / str(place)).mkdir()
        (tmp_path / str(place) / "config.yaml").write_text(text, encoding="utf-8")
    assert configurations_tried(config) == 1
