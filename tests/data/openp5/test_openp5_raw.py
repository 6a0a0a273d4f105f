"""Sequences made of raw interactions as they were published: every format, broken files, and Table 5's counts."""

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ilm_lightning.data.errors import DataError
from ilm_lightning.data.openp5 import Sequences, open_sequences, read_sequences, source_file, with_ties
from ilm_lightning.data.openp5.raw import write_sequences

RNG = np.random.default_rng(0)
# six users and six items, so that nobody leaves the 5-core; two visitors do; times repeat
EVENTS = [
    (f"u{u}", f"i{i}", 1 + (u + i) % 5, 900 + int(RNG.integers(20)))
    for u in range(6)
    for i in RNG.permutation(6).tolist()
]
EVENTS += [("visitor", "i0", 3, 1), ("u0", "rare", 3, 2)]


def lines(separator: str) -> str:
    return "".join(separator.join(map(str, event)) + "\n" for event in EVENTS)


def reviews() -> str:
    names = ("reviewerID", "asin", "overall", "unixReviewTime")
    return "".join(json.dumps(dict(zip(names, event, strict=True))) + "\n" for event in EVENTS)


FORMATS: dict[str, Callable[[], bytes]] = {
    "u.data": lambda: lines("\t").encode(),
    "ratings.dat": lambda: lines("::").encode(),
    "ratings.reconstructed.dat.gz": lambda: gzip.compress(lines("::").encode()),
    "ratings_Beauty.csv": lambda: lines(",").encode(),
    "reviews_Beauty_5.json": lambda: reviews().encode(),
    "reviews_Beauty_5.json.gz": lambda: gzip.compress(reviews().encode()),
}


def made(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("name", FORMATS)
def test_every_published_format(name: str, tmp_path: Path) -> None:
    found = open_sequences(made(tmp_path, name, FORMATS[name]()), "Shop")
    assert (found.name, found.reconstructed) == ("Shop", True)
    assert sorted(found.user_ids) == [f"u{u}" for u in range(6)]
    assert sorted(found.item_ids) == [f"i{i}" for i in range(6)]
    for row, user in enumerate(found.user_ids):
        own = [event for event in EVENTS if event[0] == user and event[1] != "rare"]
        # in order of time, equal times in order of the file
        assert [found.item_ids[i] for i in found.items(row)] == [e[1] for e in sorted(own, key=lambda e: e[3])]


def test_openp5s_own_file_comes_first(tmp_path: Path) -> None:
    folder = made(tmp_path, "u.data", FORMATS["u.data"]())
    (folder / "user_sequence.txt").write_text("u1 a b c d\n")
    assert source_file(folder).name == "user_sequence.txt"
    found = open_sequences(folder, "Shop")
    assert (found.item_ids, found.reconstructed) == (["a", "b", "c", "d"], False)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("u.data", b"", "not readable as lines of user<tab>item<tab>rating<tab>timestamp"),
        ("u.data", b"u1\ti1\t5\t881250949\nu1\ti2\t5\tyesterday\n", "line 2: u1, i2, 5, yesterday is no user, item"),
        ("u.data", b"u1\ti1\t5\t881250949\nu1\n", "line 2: u1, None, None, None is no user, item"),
        ("ratings.dat", b"1,2,3,4\n", "not readable as lines of user::item::rating::timestamp"),
        ("ratings.dat", b"1::2::3::4\n", "no user and item with at least 5 events each"),
        ("reviews_Beauty_5.json", b'{"reviewerID": "A1"}\n', "line 1: no review with reviewerID, asin"),
        ("reviews_Beauty_5.json", b"A1,B1,5,881250949\n", "line 1: no review with reviewerID, asin"),
        ("reviews_Beauty_5.json", b"[1, 2]\n", "line 1: no review with reviewerID, asin"),
        ("reviews_Beauty_5.json.gz", gzip.compress(reviews().encode())[:-40], "not readable"),
        ("ratings.reconstructed.dat.gz", gzip.compress(lines("::").encode())[:-20], "not readable"),
    ],
)
def test_broken_files_are_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as error:
        open_sequences(made(tmp_path, name, content), "Shop")
    assert name in str(error.value) or "Shop" in str(error.value)


def test_a_folder_of_neither_or_of_two(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"user_sequence\.txt is missing.*raw interactions: u\.data, ratings\.dat"):
        source_file(tmp_path)
    for name in ("ratings_Beauty.csv", "ratings_Toys.csv"):
        made(tmp_path, name, FORMATS["ratings_Beauty.csv"]())
    with pytest.raises(DataError, match=r"\(ratings_Beauty\.csv, ratings_Toys\.csv\); keep one"):
        source_file(tmp_path)


@pytest.mark.parametrize(("name", "raw"), [("ML100K", "ml-100k"), ("ML1M", "ml-1m")])
def test_raw_movielens_has_table_5s_counts(name: str, raw: str) -> None:
    if "ILM_DATA" not in os.environ:
        pytest.skip("ILM_DATA is not set: MovieLens and OpenP5's files may not be copied into the repository")
    root = Path(os.environ["ILM_DATA"])
    mine, official = open_sequences(root / raw, name), read_sequences(root / "openp5" / name)
    own, theirs = mine.statistics(), official.statistics()
    # which items follow each other depends on the order of equal times
    assert {k: v for k, v in own.items() if k != "item_item_pairs"} == {
        k: v for k, v in theirs.items() if k != "item_item_pairs"
    }
    assert own["item_item_pairs"] == pytest.approx(theirs["item_item_pairs"], rel=0.05)
    assert contents(mine) == contents(official)


def test_whose_last_two_items_have_one_time_is_known_from_raw_interactions(tmp_path: Path) -> None:
    # u1 and u2 end with two items of one time
    last = {("u1", "i0"): 2000, ("u1", "i3"): 2000, ("u2", "i4"): 2000, ("u2", "i5"): 2000, ("u3", "i1"): 2000}
    times = {(user, item): last.get((user, item), time) for user, item, _, time in EVENTS}
    rows = "".join(f"{user}::{item}::3::{time}\n" for (user, item), time in times.items())
    raw = open_sequences(made(tmp_path / "raw", "ratings.dat", rows.encode()), "Shop")
    assert raw.tied is not None
    for row, user in enumerate(raw.user_ids):
        one, other = (raw.item_ids[item] for item in raw.items(row)[-2:])
        assert raw.tied[row] == (times[user, one] == times[user, other])
    assert {"u1", "u2"} <= {raw.user_ids[row] for row in np.flatnonzero(raw.tied)}
    assert not raw.tied[raw.user_ids.index("u3")]
    # a file of sequences says no times; the raw file beside the texts does
    folder = write_sequences(raw, tmp_path / "openp5").parent
    (folder / "user_sequence.txt").rename(folder / "user_sequence.reconstructed.txt")
    packed = gzip.compress((folder / "user_sequence.reconstructed.txt").read_bytes())
    own = read_sequences(made(tmp_path / "mine", "user_sequence.reconstructed.txt.gz", packed), "Shop")
    assert own.tied is None
    assert np.array_equal(with_ties(own, tmp_path / "raw").tied, raw.tied)
    assert with_ties(own, None) is own
    assert with_ties(own, tmp_path / "mine") is own
    # OpenP5's own order needs none, and a raw file of other data tells nothing
    official = replace(own, reconstructed=False)
    assert with_ties(official, tmp_path / "raw") is official
    strangers = replace(own, user_ids=[f"x{user}" for user in own.user_ids])
    assert with_ties(strangers, tmp_path / "raw") is strangers


def contents(sequences: Sequences) -> dict[str, list[str]]:
    """Each user's items, whatever their order."""
    return {
        user: sorted(sequences.item_ids[i] for i in sequences.items(row)) for row, user in enumerate(sequences.user_ids)
    }
