"""The card beside exported weights: what model hubs read from it, and the terms it passes on."""

from pathlib import Path

import pytest
import yaml

from ilm_lightning.assets import ResolvedAsset
from ilm_lightning.assets.licences import APACHE_2, THEIRS, YOURS
from ilm_lightning.engine.card import front_matter
from ilm_lightning.engine.config import Config, DataConfig, TuningConfig

EMBEDDED = ResolvedAsset(Path("x"), "wheel", "SmolLM2, dequantised", "0" * 64, APACHE_2, "smollm2-135m-instruct")
HUB = ResolvedAsset(Path("x"), "hub", "org/lm@abc", "0" * 64, THEIRS, "org/lm@" + "c" * 40)
FOLDER = ResolvedAsset(Path("/x/lm"), "path /x/lm", "lm", "0" * 64, YOURS)


def config(name: str, kind: str, mode: str = "frozen") -> Config:
    return Config(data=DataConfig(name=name, kind=kind), tuning=TuningConfig(mode=mode))


@pytest.mark.parametrize(
    ("name", "kind", "licence", "link"),
    [
        ("movielens-small", "movielens_small", "movielens-share-alike", "ml-latest-small-README"),
        ("ml-1m", "ml_1m", "movielens-no-redistribution", "grouplens.org"),
        # another name for a folder of ml-100k's files
        ("mine", "ml_100k", "movielens-no-redistribution", "grouplens.org"),
    ],
)
def test_weights_carry_the_terms_of_their_data(name: str, kind: str, licence: str, link: str) -> None:
    found = yaml.safe_load(front_matter(config(name, kind), EMBEDDED))
    assert (found["license"], found["license_name"]) == ("other", licence)
    assert link in found["license_link"]


def test_own_data_has_no_licence_of_ours() -> None:
    # a name chosen by the user may be that of an asset
    found = yaml.safe_load(front_matter(config("ml-1m", "custom"), EMBEDDED))
    assert found["license"] == "unknown"
    assert "license_link" not in found


@pytest.mark.parametrize(
    ("lm", "mode", "base"),
    [
        (EMBEDDED, "frozen", ("HuggingFaceTB/SmolLM2-135M-Instruct", "adapter")),
        (EMBEDDED, "full", ("HuggingFaceTB/SmolLM2-135M-Instruct", "finetune")),
        (HUB, "lora", ("org/lm", "adapter")),
        (FOLDER, "frozen", (None, None)),
    ],
)
def test_base_model_is_a_name_that_the_hub_knows(
    lm: ResolvedAsset, mode: str, base: tuple[str | None, str | None], tmp_path: Path
) -> None:
    from huggingface_hub import metadata_load

    path = tmp_path / "README.md"
    path.write_text(f"---\n{front_matter(config('movielens-small', 'movielens_small', mode), lm)}\n---\n# name\n")
    found = metadata_load(path)
    assert found is not None
    assert (found.get("base_model"), found.get("base_model_relation")) == base
    assert found["library_name"] == "ilm_lightning"
    assert found["tags"][0] == "item-language-model"
