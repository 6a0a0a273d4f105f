"""Broken, truncated and hostile files of the user's: refused with the file, the place and what to do."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file, save_file

from faults.declared import Case, told
from ilm_lightning.data.custom import read_custom
from ilm_lightning.data.film_facts import read_films
from ilm_lightning.data.load import load_dataset
from ilm_lightning.data.openp5.indexing import read_indexing
from ilm_lightning.data.openp5.sequences import read_sequences
from ilm_lightning.data.tables import Interactions, ItemCatalog
from ilm_lightning.embeddings.vectors import ItemVectors
from impossible_parquet import impossible

AREA = "The user's data"
ITEMS = "item,title,year\n" + "".join(f"m{i},Film {i},{1950 + i}\n" for i in range(9))
EVENTS = "user,item,rating,timestamp\n" + "".join(f"u{u},m{i},{1 + u % 5},{i}\n" for u in range(9) for i in range(9))
PACKED = gzip.compress("".join(f"u{u} a b c d{u}\n" for u in range(99)).encode())
CORRECT = "refused, with line and remedy"


def custom(events: bytes | str = EVENTS, items: bytes | str = ITEMS, name: str = "events.csv") -> Callable[[Path], Any]:
    """Read two files with this content."""

    def provoke(folder: Path) -> Any:
        for path, content in ((folder / name, events), (folder / "items.csv", items)):
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_custom(folder / name, folder / "items.csv")

    return provoke


def parquet(damage: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    """Read interactions in a damaged parquet file."""

    def provoke(folder: Path) -> Any:
        pl.read_csv(EVENTS.encode()).write_parquet(folder / "whole.parquet")
        return custom(damage((folder / "whole.parquet").read_bytes()), name="events.parquet")(folder)

    return provoke


def movielens(kind: str, **files: str) -> Callable[[Path], Any]:
    def provoke(folder: Path) -> Any:
        for name, text in files.items():
            (folder / name.replace("__", ".")).write_text(text, encoding="latin-1")
        return load_dataset(kind, {"ratings": folder})

    return provoke


def sequences(text: bytes, packed: bool = False) -> Callable[[Path], Any]:
    def provoke(folder: Path) -> Any:
        (folder / ("user_sequence.txt.gz" if packed else "user_sequence.txt")).write_bytes(text)
        return read_sequences(folder)

    return provoke


def indexing(folder: Path) -> Any:
    (folder / "user_sequence.txt").write_text("u1 a b c\nu2 b c a\n")
    (folder / "user_indexing.txt").write_text("u1 1\nu2 2\n")
    (folder / "item_sequential_indexing_original.txt").write_text("a 1001\nb 1001\nc 1003\n")
    return read_indexing(folder, "sequential", read_sequences(folder))


def vectors(folder: Path) -> ItemVectors:
    draw = np.random.default_rng(0)
    made = ItemVectors(
        {"semantic": draw.normal(size=(5, 4)).astype(np.float32)}, {}, np.ones(5, dtype=bool)
    )  # fmt: skip
    made.save(folder)
    return made


def vector_tensors(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    def provoke(folder: Path) -> Any:
        vectors(folder)
        tensors = load_file(folder / "vectors.safetensors")
        change(tensors)
        save_file(tensors, folder / "vectors.safetensors")
        return ItemVectors.load(folder)

    return provoke


def vector_bytes(damage: Callable[[bytes], bytes], name: str = "vectors.safetensors") -> Callable[[Path], Any]:
    def provoke(folder: Path) -> Any:
        vectors(folder)
        (folder / name).write_bytes(damage((folder / name).read_bytes()))
        return ItemVectors.load(folder)

    return provoke


def wrong_width(folder: Path) -> Any:
    vectors(folder)
    return ItemVectors.load(folder, {"semantic": 384})


def catalogue(folder: Path) -> Any:
    pl.DataFrame({"a": [1]}).write_parquet(folder / "items.parquet")
    return ItemCatalog.read(folder / "items.parquet")


def foreign_interactions(folder: Path) -> Any:
    pl.DataFrame({"user": [0], "item": [0]}).write_parquet(folder / "interactions.parquet")
    return Interactions.read(folder / "interactions.parquet")


def not_films(folder: Path) -> Any:
    (folder / "films.db").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 8)
    return read_films(folder / "films.db")


U_ITEM = "|".join(["1", "Toy Story (1995)", "01-Jan-1995", "", "", *["0"] * 19]) + "\n"
CASES = [
    Case("an empty CSV file", custom(b""), "first line is empty"),
    Case("a CSV file without rows", custom("user,item\n"), "no |empty|without"),
    Case("a CSV file in UTF-16", custom(EVENTS.encode("utf-16")), "UTF-16.*save it as UTF-8", CORRECT),
    Case("NUL bytes in a header", custom(b"user\0,item\0\n1,2\n"), "UTF-16|NUL|missing"),
    Case("bytes that are no UTF-8", custom(EVENTS.encode() + b"u\xff\xfe,m1,3,4\n"), "line 83 is not UTF-8", CORRECT),
    Case("a row with too many fields", custom(EVENTS + "u1,m1,3,4,5,6\n"), "line 83 has 6 columns", CORRECT),
    Case("a quote that is never closed", custom(EVENTS + 'u1,"m1,3,4\n'), "line 83 opens a quote", CORRECT),
    Case("a missing column", custom("person,thing\n1,2\n"), "column 'user' is missing.*data.columns.user"),
    Case("two rows with one item's id", custom(items=ITEMS + "m1,Again,1999\n"), "'m1' more than once .line", CORRECT),
    Case("an item without an id", custom(items=ITEMS + ",Nobody,1999\n"), "empty cells, the first in line", CORRECT),
    Case("a rating that is a word", custom(EVENTS + "u1,m1,good,4\n"), "line 83.*rating", CORRECT),
    Case("a rating that is infinite", custom(EVENTS + "u1,m1,inf,4\n"), "line 83.*rating", CORRECT),
    Case("a rating that is NaN", custom(EVENTS + "u1,m2,nan,4\n"), "line 83.*rating", CORRECT),
    Case("a time that is none", custom(EVENTS + "u1,m1,3,yesterday\n"), "line 83.*timestamp", CORRECT),
    Case("items that nobody rated", custom(EVENTS.replace(",m", ",x")), "no |none|items"),
    Case("a program in place of a CSV file", custom(b"\x7fELF" + bytes(range(256)) * 40), "not readable|UTF-16"),
    Case("a CSV file that ends with .parquet", custom(EVENTS, name="events.parquet"), "not readable"),
    Case("a parquet file cut in the middle", parquet(lambda data: data[: len(data) // 2]), "not readable"),
    Case("a parquet file without its end", parquet(lambda data: data[:-9]), "not readable"),
    Case("a parquet file of zeros", parquet(lambda data: bytes(len(data))), "not readable"),
    Case(
        "a parquet file whose pages claim less than no values, which kills the process that reads it",
        parquet(impossible), "kills the process.*write the file again",
    ),
    Case("a gzip file cut in its first line", custom(gzip.compress(EVENTS.encode())[:15], name="events.csv.gz"), "gz"),
    Case("a gzip file cut in the middle", custom(gzip.compress(EVENTS.encode())[:200], name="events.csv.gz"), "gz"),
    Case("a file that only claims to be gzip", custom(b"\x1f\x8b" + b"junk" * 50, name="events.csv.gz"), "gz"),
    Case(
        "MovieLens 100K: a line with three fields",
        movielens("ml_100k", u__data="1\t1\t5\n", u__item=U_ITEM), "u.data", CORRECT,
    ),
    Case(
        "MovieLens 100K: a movie without genres' columns",
        movielens("ml_100k", u__data="1\t1\t5\t9\n", u__item="1|Toy Story\n"), "u.item", CORRECT,
    ),
    Case(
        "MovieLens 1M: a line with other separators",
        movielens("ml_1m", ratings__dat="1:1:5:9\n", movies__dat="1::Toy Story (1995)::Comedy\n"),
        "ratings.dat", CORRECT,
    ),
    Case(
        "MovieLens CSV: a rating that is no number",
        movielens(
            "ml_latest_small", ratings__csv="userId,movieId,rating,timestamp\n1,1,four,9\n",
            movies__csv="movieId,title,genres\n1,Toy Story (1995),Comedy\n",
        ), "ratings.csv: line 2", CORRECT,
    ),
    Case("MovieLens: a folder without its files", lambda folder: load_dataset("ml_1m", {"ratings": folder}), "missing"),
    Case("OpenP5: an empty line", sequences(b"u1 a b c\n\nu2 a b c\n"), "line 2.*empty", CORRECT),
    Case("OpenP5: a user with one item", sequences(b"u1 a b c\nu2 a\n"), "line 2", CORRECT),
    Case("OpenP5: a user twice", sequences(b"u1 a b c\nu1 c b a\n"), "u1", CORRECT),
    Case("OpenP5: bytes that are no text", sequences(b"u1 a \xff\xfe b\n"), "line 1: not UTF-8", CORRECT),
    Case("OpenP5: a gzip file cut in the middle", sequences(PACKED[:-20], True), "not readable"),
    Case("OpenP5: two items with one index", indexing, "lines 1 and 2.*1001.*twice", CORRECT),
    Case("item vectors of another width", wrong_width, "'semantic': 4.*needs.*384.*embed again"),
    Case("item vectors that are no numbers", vector_tensors(lambda t: t["items.semantic"].fill(np.nan)), "finite"),
    Case("item vectors without a tensor", vector_tensors(lambda t: t.pop("items.semantic")), "damaged"),
    Case("item vectors cut in the middle", vector_bytes(lambda data: data[: len(data) // 2]), "damaged"),
    Case(
        "item vectors whose header claims 2^62 bytes",
        vector_bytes(lambda data: (1 << 62).to_bytes(8, "little") + data[8:]), "damaged",
    ),
    Case("a description of vectors that is no JSON", vector_bytes(lambda _: b"{", "vectors.json"), "damaged"),
    Case("a pickle in place of safetensors", vector_bytes(lambda _: b"\x80\x04cos\nsystem\n(S'true'\ntR."), "damaged"),
    Case("another table in place of the catalogue", catalogue, "items.parquet"),
    Case("another table in place of the interactions", foreign_interactions, "interactions.parquet"),
    Case("a damaged film-facts database", not_films, "films.db"),
]  # fmt: skip


@pytest.mark.parametrize("case", [case.param(AREA) for case in CASES])
def test_refused(case: Case, tmp_path: Path, seen: Callable[[str], None]) -> None:
    seen(told(case, tmp_path))


@pytest.mark.parametrize("ours", ["items.parquet", "interactions.parquet"])
def test_our_own_tables_are_read_or_refused_whatever_byte_changed(ours: str, tmp_path: Path) -> None:
    events = pl.DataFrame({"user": [0, 1], "item": [0, 1], "rating": [3.0, 4.0], "timestamp": [1, 2]})
    dataset = custom()(tmp_path)
    dataset.catalog.write(tmp_path / "items.parquet")
    Interactions(events, ["a", "b"], 2).write(tmp_path / "interactions.parquet")
    reader = ItemCatalog.read if ours.startswith("items") else Interactions.read
    whole = (tmp_path / ours).read_bytes()
    draw = random.Random(0)
    for _ in range(60):
        place = draw.randrange(len(whole))
        (tmp_path / ours).write_bytes(
            whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :]
        )
        try:
            reader(tmp_path / ours)
        except (ValueError, OSError):
            continue


def test_names_in_vectors_stay_names(tmp_path: Path) -> None:
    vectors(tmp_path)
    meta = json.loads((tmp_path / "vectors.json").read_text())
    meta["dims"] = {"../../etc/passwd": 4}
    (tmp_path / "vectors.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match="damaged"):
        ItemVectors.load(tmp_path)
