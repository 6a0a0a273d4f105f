"""Nothing that is held out from a user reaches a vector, a pair set or an index."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ilm_lightning.data.openp5 import Indexing, Sequences
from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.engine.composition import composed
from ilm_lightning.engine.pipeline import open_context
from ilm_lightning.engine.stages.data import prepare, read_tables
from ilm_lightning.engine.stages.embed import embed
from ilm_lightning.engine.stages.openp5 import load_sequences
from ilm_lightning.engine.stages.pretrain import pair_sets
from ilm_lightning.engine.validate import validate
from tiny_run import WORDS, make_shop, shop_settings

Made = tuple[Sequences, Indexing, ItemVectors, dict[str, Any]]
EVERYTHING = " ".join(["all", *(f"i{i}" for i in range(15))])
"""A user of all items comes first, so that rows of the catalogue do not depend on the others."""


def with_lines(folder: Path, change: Callable[[list[str]], list[str]]) -> Path:
    """The invented shop, its users' items changed."""
    shop = make_shop(folder)
    path = shop / "Shop" / "user_sequence.txt"
    lines = [" ".join(change(line.split())) for line in path.read_text().splitlines()]
    path.write_text("\n".join([EVERYTHING, *lines]))
    # titles in words that the tiny encoder knows, so that items differ
    rows = [f"i{i}\t{WORDS[i]} {WORDS[i + 1]}\tBrand\t'Shop', 'Kind'" for i in range(15)]
    (shop / "texts.tsv").write_text("\n".join(["asin\ttitle\tbrand\tcategories", *rows]))
    return shop


def others(fields: list[str], places: slice) -> list[str]:
    """Put items there that the user has not met."""
    draw = random.Random(fields[0])
    new = draw.sample(sorted({f"i{i}" for i in range(15)} - set(fields)), 2)
    changed = list(fields)
    changed[places] = new
    return changed


@pytest.fixture
def made(tiny_overrides: list[str], tmp_path: Path) -> Callable[[str, Callable[[list[str]], list[str]]], Made]:
    def build(name: str, change: Callable[[list[str]], list[str]]) -> Made:
        settings = shop_settings(with_lines(tmp_path / name, change), tiny_overrides)
        more = ["experiment=ilm_qformer", "pretraining.losses=[itc,iic,uic]", "encoder=combined"]
        config = composed(*more, *settings)
        validate(config)
        context = open_context(config)
        prepared = prepare(context)
        train, held_out = pair_sets(context, prepared)
        pairs = {kind: np.concatenate([_pairs(half[kind]) for half in (train, held_out)]) for kind in train}
        pairs["n_ratings"] = read_tables(prepared)[1].frame["n_ratings"].to_numpy()
        return *load_sequences(prepared), ItemVectors.load(embed(context, prepared).path), pairs

    return build


def _pairs(found: Any) -> np.ndarray:
    return np.stack([found.left, found.right], 1) if hasattr(found, "left") else np.stack([found.items] * 2, 1)


def same(one: Made, two: Made) -> dict[str, bool]:
    """What of two preparations is equal, to the last bit."""
    found = {"index": one[1].items == two[1].items}
    for name, rows in one[2].sources.items():
        found[f"items.{name}"] = np.array_equal(rows, two[2].sources[name])
    for name, rows in one[2].user_sources.items():
        found[f"users.{name}"] = np.array_equal(rows, two[2].user_sources[name])
    for name, rows in one[3].items():
        found[name] = np.array_equal(rows, two[3][name])
    return found


def test_held_out_items_reach_nothing_that_is_learned_from(
    made: Callable[[str, Callable[[list[str]], list[str]]], Made],
) -> None:
    whole = made("whole", list)
    expected = {"items.behavioral", "users.behavioral", "items.semantic", "users.semantic", "item_item", "user_item"}
    assert expected <= set(same(whole, whole))
    changed = made("held-out", lambda fields: others(fields, slice(-2, None)))
    # what is held out did change, for everybody but the first
    for split in ("validation", "test"):
        assert (whole[0].targets(split) != changed[0].targets(split))[1:].all()
    assert same(whole, changed) == dict.fromkeys(same(whole, whole), True)
    # the pair sets hold what they are to hold
    follow, _ = whole[0].item_pairs()
    assert sorted(map(tuple, whole[3]["item_item"].tolist())) == sorted(map(tuple, follow.tolist()))
    assert len(whole[3]["user_item"]) == whole[0].statistics()["user_item_pairs"]


def test_the_same_change_of_training_items_is_seen(
    made: Callable[[str, Callable[[list[str]], list[str]]], Made],
) -> None:
    whole, changed = made("whole", list), made("trained", lambda fields: others(fields, slice(1, 3)))
    found = same(whole, changed)
    # texts alone stay as they are; the first user comes first with every item, so the index does too
    assert {name for name, equal in found.items() if equal} <= {"items.semantic", "item_text", "index"}
