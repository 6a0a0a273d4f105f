"""What a change of settings fits and encodes anew."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.engine.artifacts import Artifact, Store
from ilm_lightning.engine.composition import composed
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.data import prepare
from ilm_lightning.engine.stages.embed import embed
from ilm_lightning.engine.validate import validate
from ilm_lightning.sentences import SentenceEncoder
from tiny_run import make_shop, shop_settings


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of texts of each call of the sentence encoder."""
    calls: list[int] = []
    encode = SentenceEncoder.encode

    def counted(self: SentenceEncoder, texts: Sequence[str], *rest: Any) -> Any:
        calls.append(len(texts))
        return encode(self, texts, *rest)

    monkeypatch.setattr(SentenceEncoder, "encode", counted)
    return calls


def embedded(root: Path, settings: Sequence[str], *extra: str) -> tuple[Artifact, ItemVectors]:
    config = composed(*settings, *extra)
    validate(config)
    context = Context(config, Store(root / "artifacts"), root / "run")
    found = embed(context, prepare(context))
    return found, ItemVectors.load(found.path)


def test_texts_are_encoded_once_for_all_seeds_and_settings_of_als(
    encoded: list[int], tiny_settings: list[str], tmp_path: Path
) -> None:
    changes = [["seed=0"], ["seed=1"], ["encoder.als.alpha=9"], ["encoder=behavioral"], ["encoder=semantic"]]
    made = [embedded(tmp_path, tiny_settings, *change) for change in changes]
    assert len(encoded) == 1
    artifacts = [artifact for artifact, _ in made]
    assert len({artifact.manifest["inputs"]["encode"] for artifact in artifacts}) == 1
    # what the adapter reads of the vectors changes none of them
    assert [artifact.id == artifacts[0].id for artifact in artifacts] == [True, False, False, True, True]
    assert len({artifact.manifest["inputs"]["als"] for artifact in artifacts}) == 3
    (_, first), (_, second), (_, third) = made[:3]
    for other in (second, third):
        assert np.array_equal(first.sources["semantic"], other.sources["semantic"])
        assert np.array_equal(first.user_sources["semantic"], other.user_sources["semantic"])
        assert not np.allclose(first.sources["behavioral"], other.sources["behavioral"])
    assert set(artifacts[0].report["seconds"]) == {"als", "encode"}


def test_other_texts_are_encoded_without_another_als(
    encoded: list[int], tiny_settings: list[str], tmp_path: Path
) -> None:
    one, two = (embedded(tmp_path, tiny_settings, *e)[0] for e in ([], ["encoder.text_fields=[title]"]))
    assert len(encoded) == 2
    assert one.manifest["inputs"]["als"] == two.manifest["inputs"]["als"]


def test_recommendation_from_behavior_alone_encodes_nothing(
    encoded: list[int], tiny_settings: list[str], tmp_path: Path
) -> None:
    settings = shop_settings(make_shop(tmp_path / "shop"), tiny_settings)
    alone, vectors = embedded(tmp_path, settings, "encoder=behavioral")
    assert encoded == []
    assert (list(vectors.dims), vectors.has_text.all()) == (["behavioral"], True)
    both, more = embedded(tmp_path, settings, "encoder=combined")
    assert len(encoded) == 1
    assert list(more.dims) == ["behavioral", "semantic"]
    assert alone.manifest["inputs"]["als"] == both.manifest["inputs"]["als"]
    assert np.array_equal(vectors.sources["behavioral"], more.sources["behavioral"])


def test_items_without_any_text_have_ratings_alone(
    encoded: list[int], tiny_settings: list[str], own_data: tuple[Path, Path], tmp_path: Path
) -> None:
    items = tmp_path / "items.csv"
    ids = [line.split(",")[0] for line in own_data[1].read_text().splitlines()]
    items.write_text("\n".join(["item,title", *(f"{name}," for name in ids[1:])]) + "\n")
    _, vectors = embedded(tmp_path, tiny_settings, f"data.items={items}", "encoder=behavioral")
    assert encoded == []
    assert (list(vectors.dims), vectors.has_text.any()) == (["behavioral"], False)
