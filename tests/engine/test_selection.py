from dataclasses import replace
from pathlib import Path

from omegaconf import OmegaConf

from ilm_lightning.engine.composition import composed
from ilm_lightning.engine.config import Config
from ilm_lightning.engine.stages.selection import configurations_tried


def config_of(folder: Path, *overrides: str) -> Config:
    return composed("experiment=ilm_mlp", f"outputs={folder}", *overrides)


def keep(config: Config, name: str) -> None:
    folder = Path(config.outputs) / name
    folder.mkdir(parents=True)
    OmegaConf.save(OmegaConf.structured(config), folder / "config.yaml")


def test_only_what_can_be_chosen_is_counted(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert configurations_tried(config) == 1
    keep(config, "itself")
    assert configurations_tried(config) == 1
    # another seed, place or test set is no try
    keep(replace(config, seed=3, artifacts="elsewhere"), "seed")
    keep(config_of(tmp_path, "evaluation=full", "trainer=cpu"), "tested")
    assert configurations_tried(config) == 1
    keep(config_of(tmp_path, "tuning.adapter_lr=0.0007"), "rate")
    keep(config_of(tmp_path, "tuning.adapter_lr=0.0007", "seed=4"), "rate-again")
    keep(config_of(tmp_path, "encoder.als.factors=32"), "als")
    assert configurations_tried(config) == 3
    # two rates tried before phase 2, one of them known already
    keep(config_of(tmp_path, "tuning.lr_trials=[0.0007,0.0009]"), "trials")
    assert configurations_tried(config) == 4
    # other rows, data and encoders are variants of their own
    keep(replace(config, name="other"), "row")
    keep(config_of(tmp_path, "encoder=semantic"), "encoder")
    keep(config_of(tmp_path, "tuning=lora"), "tuning")
    keep(config_of(tmp_path, "data=ml_1m"), "data")
    assert configurations_tried(config) == 4
    assert configurations_tried(config_of(tmp_path, "encoder=semantic")) == 1


def test_what_is_no_run_is_passed_over(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    for place, text in enumerate(
        ("{ # ilm_mlp", "- ilm_mlp", "name: ilm_mlp\nseed: much", "ilm_mlp", "name: ilm_mlp\nold_key: 1")
    ):
        (tmp_path / str(place)).mkdir()
        (tmp_path / str(place) / "config.yaml").write_text(text, encoding="utf-8")
    assert configurations_tried(config) == 1
