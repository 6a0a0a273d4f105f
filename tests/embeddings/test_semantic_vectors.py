import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_matrix

from ilm_lightning.data.tables import Interactions, ItemCatalog
from ilm_lightning.embeddings.behavioral import fit_als
from ilm_lightning.embeddings.build import build_vectors
from ilm_lightning.embeddings.semantic import encode_items, mean_of_items
from ilm_lightning.sentences import SentenceEncoder


@pytest.fixture(scope="module")
def encoder(tiny_sentence_model: Path) -> SentenceEncoder:
    return SentenceEncoder(tiny_sentence_model, bf16=False)


@pytest.fixture
def catalog() -> ItemCatalog:
    return ItemCatalog.from_rows(
        [
            {"item_id": "1", "title": "Heat", "year": 1995, "genres": ["Crime", "Thriller"]},
            {"item_id": "2", "title": "War", "year": 1999, "genres": ["Drama"], "tags": ["big"]},
            {"item_id": "3", "title": ""},
            {"item_id": "4", "title": "Love", "year": 1999, "genres": ["Comedy", "Crime"]},
        ]
    )


def interactions() -> Interactions:
    pairs = [(0, 0), (0, 1), (1, 1), (1, 3), (2, 0), (2, 3), (3, 0)]
    frame = pl.DataFrame(
        {
            "user": [u for u, _ in pairs],
            "item": [i for _, i in pairs],
            "rating": [5.0] * len(pairs),
            "timestamp": [0] * len(pairs),
        }
    )
    return Interactions(frame, ["a", "b", "c", "d"], 4)


def test_each_distinct_text_is_encoded_once_and_order_does_not_matter(
    encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    original = encoder._model.encode

    def spy(texts: list[str], **options: object) -> object:
        seen.extend(texts)
        return original(texts, **options)

    monkeypatch.setattr(encoder._model, "encode", spy)
    vectors = encoder.encode(["war", "a good film", "war", "", "drama"])
    assert sorted(seen) == ["a good film", "drama", "war"]
    assert vectors.shape == (5, 16)
    assert np.array_equal(vectors[0], vectors[2])
    assert np.abs(vectors[0] - vectors[4]).max() > 0.01
    assert (vectors[3] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(vectors[[0, 1, 4]], axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(encoder.encode(["drama"])[0], vectors[4], atol=1e-6)
    assert encoder.encode([]).shape == (0, 16)


def test_bf16_is_close_to_fp32(encoder: SentenceEncoder, tiny_sentence_model: Path) -> None:
    low = SentenceEncoder(tiny_sentence_model, bf16=True).encode(["a good film", "war"])
    assert low.dtype == np.float32
    assert (np.sum(low * encoder.encode(["a good film", "war"]), axis=1) > 0.999).all()


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no sentence-transformers model"):
        SentenceEncoder(tmp_path)


def test_items_are_averages_of_their_texts(
    catalog: ItemCatalog, encoder: SentenceEncoder, tiny_sentence_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        vectors, has_text = encode_items(catalog, tiny_sentence_model, bf16=False)
    assert has_text.tolist() == [True, True, False, True]
    np.testing.assert_allclose(vectors[0], encoder.encode(["Heat (1995)", "Crime", "Thriller"]).mean(0), atol=1e-6)
    np.testing.assert_allclose(vectors[1], encoder.encode(["War (1999)", "Drama", "big"]).mean(0), atol=1e-6)
    np.testing.assert_allclose(vectors[2], vectors[[0, 1, 3]].mean(0), atol=1e-6)
    assert [r.message for r in caplog.records if "no text" in r.message] == [
        "1 of 4 items have no text: they hold the mean semantic vector"
    ]


def test_the_stand_in_comes_from_training_items(catalog: ItemCatalog, tiny_sentence_model: Path) -> None:
    train = np.array([True, True, True, False])
    vectors, _ = encode_items(catalog, tiny_sentence_model, bf16=False, train=train)
    np.testing.assert_allclose(vectors[2], vectors[[0, 1]].mean(0), atol=1e-6)


def test_no_text_at_all_is_an_error(tiny_sentence_model: Path) -> None:
    with pytest.raises(ValueError, match="encoder=behavioral"):
        encode_items(ItemCatalog.from_rows([{"item_id": "1", "title": ""}]), tiny_sentence_model)


def test_users_are_means_of_items_with_text() -> None:
    items = np.array([[1, 0], [3, 2], [9, 9]], dtype=np.float32)
    users = csr_matrix(np.array([[1, 1, 1], [0, 0, 1], [0, 0, 0]], dtype=np.float32))
    counted = np.array([True, True, False])
    assert mean_of_items(items, users, counted).tolist() == [[2, 1], [2, 1], [2, 1]]


def test_build_combined(catalog: ItemCatalog, tiny_sentence_model: Path) -> None:
    train = np.array([True, True, False, False])
    encoded = encode_items(catalog, tiny_sentence_model, bf16=False, train=train)
    vectors = build_vectors(interactions(), catalog, fit_als(interactions(), 2, num_threads=1), encoded, train=train)
    assert vectors.dims == {"behavioral": 2, "semantic": 16}
    for matrix in vectors.sources.values():
        np.testing.assert_allclose(matrix[:2].mean(0), 0, atol=1e-5)
        assert np.sqrt((matrix[:2] ** 2).mean()) == pytest.approx(1, abs=1e-4)
        np.testing.assert_allclose(matrix[2], 0, atol=1e-5)  # neither text nor ratings: the mean item
    assert vectors.has_ratings.tolist() == [True, True, False, True]
    assert {name: m.shape for name, m in vectors.user_sources.items()} == {"behavioral": (4, 2), "semantic": (4, 16)}
    np.testing.assert_allclose(vectors.user_sources["semantic"][0], vectors.sources["semantic"][:2].mean(0), atol=1e-5)
    assert (vectors.raw("behavioral")[2] == 0).all()


def test_build_behavioral_needs_no_model(catalog: ItemCatalog) -> None:
    vectors = build_vectors(interactions(), catalog, fit_als(interactions(), 2, num_threads=1))
    assert list(vectors.dims) == ["behavioral"]
    assert vectors.has_text.tolist() == [True, True, False, True]


def test_build_refuses_what_cannot_be() -> None:
    short = ItemCatalog.from_rows([{"item_id": "1", "title": "Heat"}])
    with pytest.raises(ValueError, match="over 4 items, the catalogue holds 1"):
        build_vectors(interactions(), short, fit_als(interactions(), 2, num_threads=1))
