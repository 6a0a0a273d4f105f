"""New items in an old space: an item folded in by its own ratings or texts lands where it was."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ilm_lightning.data.tables import Interactions, ItemCatalog
from ilm_lightning.embeddings.behavioral import fit_als
from ilm_lightning.embeddings.build import build_vectors
from ilm_lightning.embeddings.new_items import fold_in_items, nearest_items, new_item_vectors
from ilm_lightning.embeddings.semantic import encode_items
from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.sentences import SentenceEncoder

ITEMS, USERS = 40, 60
SETTINGS = {"regularization": 0.7, "alpha": 3.0}


@pytest.fixture(scope="module")
def tables() -> tuple[Interactions, ItemCatalog]:
    draw = np.random.default_rng(0)
    # two tastes, so that the factors have something to say
    likes = draw.random((USERS, ITEMS)) < np.where((np.arange(USERS)[:, None] + np.arange(ITEMS)) % 2, 0.08, 0.4)
    user, item = np.nonzero(likes)
    frame = pl.DataFrame({"user": user, "item": item, "rating": np.ones(len(user)), "timestamp": np.zeros(len(user))})
    words = ("heat", "crime", "drama", "comedy", "war", "love")
    rows = [
        {"item_id": str(i), "title": f"{words[i % 6]} {words[i % 5]}", "year": 1995, "genres": [words[i % 4]]}
        for i in range(ITEMS)
    ]
    return Interactions(frame, [f"u{u}" for u in range(USERS)], ITEMS), ItemCatalog.from_rows(rows)


@pytest.fixture(scope="module")
def known(tables: tuple[Interactions, ItemCatalog], tiny_sentence_model: Path) -> ItemVectors:
    train = np.arange(ITEMS) % 5 != 0
    encoded = encode_items(tables[1], tiny_sentence_model, bf16=False, train=train)
    return build_vectors(*tables, fit_als(tables[0], factors=6, iterations=40, **SETTINGS), encoded, train=train)


def raters(tables: tuple[Interactions, ItemCatalog], item: int) -> list[int]:
    return tables[0].frame.filter(pl.col("item") == item)["user"].to_list()


def cosine(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return (one * two).sum(1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1))


def test_an_item_with_its_own_ratings_gets_its_own_vector(
    tables: tuple[Interactions, ItemCatalog], known: ItemVectors
) -> None:
    found = fold_in_items(known, [raters(tables, item) for item in range(ITEMS)], **SETTINGS)
    assert cosine(found, known.sources["behavioral"]).min() > 0.999
    # other settings of ALS, or another item's raters, are another vector
    other = fold_in_items(known, [raters(tables, item) for item in range(ITEMS)], 0.7, 30.0)
    assert cosine(other, known.sources["behavioral"]).min() < 0.99
    turned = fold_in_items(known, [raters(tables, (item + 1) % ITEMS) for item in range(ITEMS)], **SETTINGS)
    assert cosine(turned, known.sources["behavioral"]).mean() < 0.5


def test_a_few_iterations_come_close(tables: tuple[Interactions, ItemCatalog]) -> None:
    short = build_vectors(*tables, fit_als(tables[0], factors=6, iterations=5, **SETTINGS))
    found = fold_in_items(short, [raters(tables, item) for item in range(ITEMS)], **SETTINGS)
    assert cosine(found, short.sources["behavioral"]).min() > 0.99


def test_an_item_with_its_own_texts_gets_its_own_vector(
    tables: tuple[Interactions, ItemCatalog], known: ItemVectors, tiny_sentence_model: Path
) -> None:
    texts = [tables[1].text_fields(row, ("title", "genres", "tags")) for row in (3, 10)]
    encoder = SentenceEncoder(tiny_sentence_model, bf16=False)
    new = new_item_vectors(known, texts, [[], []], encoder, **SETTINGS)
    np.testing.assert_allclose(new.sources["semantic"], known.sources["semantic"][[3, 10]], atol=1e-4)
    near = nearest_items(known, new)
    assert near["semantic"][0][0][1] == pytest.approx(1.0, abs=1e-5)
    assert near["behavioral"] == [[], []]


def test_what_is_not_given_is_the_mean_of_the_training_items_and_flagged(
    tables: tuple[Interactions, ItemCatalog], known: ItemVectors, tiny_sentence_model: Path
) -> None:
    encoder = SentenceEncoder(tiny_sentence_model, bf16=False)
    new = new_item_vectors(known, [["heat"], []], [[], raters(tables, 7)], encoder, **SETTINGS)
    assert (new.has_text.tolist(), new.has_ratings.tolist()) == ([True, False], [False, True])
    train = np.arange(ITEMS) % 5 != 0
    for source, row in (("behavioral", 0), ("semantic", 1)):
        # in the source's own units it is the mean itself
        np.testing.assert_allclose(known.sources[source][train].mean(0), new.sources[source][row], atol=1e-5)
    assert cosine(new.sources["behavioral"][1:], known.sources["behavioral"][7:8])[0] > 0.999


def test_a_run_of_one_source_reads_one(
    tables: tuple[Interactions, ItemCatalog], known: ItemVectors, tmp_path: Path
) -> None:
    known.select("behavioral").save(tmp_path)
    kept = ItemVectors.load(tmp_path)
    new = new_item_vectors(kept, [[]], [raters(tables, 0)], None, **SETTINGS)
    assert set(new.sources) == {"behavioral"}
    with pytest.raises(ValueError, match="no user factors"):
        fold_in_items(ItemVectors(kept.sources, {}, kept.has_text, kept.scaling), [[0]], **SETTINGS)
    with pytest.raises(ValueError, match="sentence encoder"):
        new_item_vectors(known, [["heat"]], [[]], None, **SETTINGS)
