import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ilm_lightning.embeddings.vectors import (
    META_FILE,
    TENSOR_FILE,
    ItemVectors,
    Scaling,
    VectorFileError,
    fit_scaling,
)


@pytest.fixture
def vectors() -> ItemVectors:
    rng = np.random.default_rng(0)
    items = {"behavioral": rng.normal(size=(5, 3)), "semantic": rng.normal(size=(5, 4))}
    users = {"behavioral": rng.normal(size=(2, 3)), "semantic": rng.normal(size=(2, 4))}
    return ItemVectors(
        {name: m.astype(np.float32) for name, m in items.items()},
        {name: m.astype(np.float32) for name, m in users.items()},
        np.array([True, True, False, True, True]),
        {"behavioral": Scaling(np.array([1.0, 2.0, 3.0], dtype=np.float32), 2.0)},
        np.array([True, False, True, True, True]),
    )


def test_scaling_by_hand() -> None:
    rows = np.array([[0.0, 4.0], [2.0, 0.0], [100.0, 100.0]], dtype=np.float32)
    scaling = fit_scaling(rows, np.array([True, True, False]))
    assert scaling.centre.tolist() == [1.0, 2.0]
    assert scaling.scale == pytest.approx(np.sqrt((1 + 4 + 1 + 4) / 4))
    np.testing.assert_allclose(scaling.invert(scaling.apply(rows)), rows, rtol=1e-6)


def test_scaling_of_equal_rows_is_one_and_of_no_rows_an_error() -> None:
    rows = np.ones((3, 2), dtype=np.float32)
    assert fit_scaling(rows, np.ones(3, dtype=np.bool_)).scale == 1.0
    with pytest.raises(ValueError, match="no training item"):
        fit_scaling(rows, np.zeros(3, dtype=np.bool_))


def test_select_and_dims(vectors: ItemVectors) -> None:
    assert vectors.dims == {"behavioral": 3, "semantic": 4}
    assert vectors.n_items == 5
    assert vectors.select("semantic").dims == {"semantic": 4}
    assert list(vectors.select("combined").tensors()) == ["behavioral", "semantic"]
    assert vectors.select("behavioral").user_tensors()["behavioral"].shape == (2, 3)
    with pytest.raises(ValueError, match="choose one of behavioral, semantic, combined"):
        vectors.select("both")
    with pytest.raises(ValueError, match="needs behavioral vectors"):
        vectors.select("semantic").select("combined")


def test_slots_point_to_items_and_then_users(vectors: ItemVectors) -> None:
    for name, rows in vectors.slot_tensors().items():
        assert torch.equal(rows[:5], torch.from_numpy(vectors.sources[name]))
        assert torch.equal(rows[5:], torch.from_numpy(vectors.user_sources[name]))
    lonely = ItemVectors(vectors.sources, {}, vectors.has_text)
    with pytest.raises(ValueError, match="no user vectors of behavioral, semantic"):
        lonely.slot_tensors()


def test_raw_gives_the_sources_own_units(vectors: ItemVectors) -> None:
    raw = vectors.raw("behavioral")
    np.testing.assert_allclose(raw[0], vectors.sources["behavioral"][0] * 2 + [1, 2, 3], rtol=1e-6)
    assert (raw[1] == 0).all()  # nobody rated it
    assert np.array_equal(vectors.raw("semantic"), vectors.sources["semantic"])


def test_round_trip(vectors: ItemVectors, tmp_path: Path) -> None:
    vectors.save(tmp_path / "v")
    back = ItemVectors.load(tmp_path / "v", {"behavioral": 3, "semantic": 4})
    for name in vectors.dims:
        assert np.array_equal(back.sources[name], vectors.sources[name])
        assert np.array_equal(back.user_sources[name], vectors.user_sources[name])
    assert np.array_equal(back.has_text, vectors.has_text)
    assert np.array_equal(back.has_ratings, vectors.has_ratings)
    assert back.scaling["behavioral"].scale == 2.0
    assert torch.equal(back.tensors()["semantic"], vectors.tensors()["semantic"])


def test_missing_damaged_and_misfitting_files_are_named(vectors: ItemVectors, tmp_path: Path) -> None:
    with pytest.raises(VectorFileError, match="is missing; run the embed stage"):
        ItemVectors.load(tmp_path)
    vectors.save(tmp_path)
    with pytest.raises(VectorFileError, match=r"this run needs .*'behavioral': 64"):
        ItemVectors.load(tmp_path, {"behavioral": 64, "semantic": 4})
    meta = json.loads((tmp_path / META_FILE).read_text())
    (tmp_path / META_FILE).write_text(json.dumps({**meta, "dims": {"behavioral": 9, "semantic": 4}}))
    with pytest.raises(VectorFileError, match="their description says"):
        ItemVectors.load(tmp_path)
    whole = (tmp_path / TENSOR_FILE).read_bytes()
    (tmp_path / TENSOR_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VectorFileError, match="are damaged"):
        ItemVectors.load(tmp_path)
    (tmp_path / META_FILE).write_text("[]")
    with pytest.raises(VectorFileError, match="are damaged"):
        ItemVectors.load(tmp_path)


def test_vectors_that_do_not_fit_together_are_refused() -> None:
    two, three = np.zeros((2, 4), dtype=np.float32), np.zeros((3, 4), dtype=np.float32)
    has_text = np.ones(2, dtype=np.bool_)
    with pytest.raises(ValueError, match="at least one source"):
        ItemVectors({}, {}, has_text)
    with pytest.raises(ValueError, match="of 3 items, the others of 2"):
        ItemVectors({"semantic": three}, {}, has_text)
    with pytest.raises(ValueError, match="finite float32"):
        ItemVectors({"semantic": np.full((2, 4), np.nan, dtype=np.float32)}, {}, has_text)
    with pytest.raises(ValueError, match="do not match items"):
        ItemVectors({"semantic": two}, {"semantic": np.zeros((2, 5), dtype=np.float32)}, has_text)
