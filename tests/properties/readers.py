"""Every reader with a small file that it reads, for properties and fuzzing: the file may be changed in any way."""

import gzip
import io
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ilm_lightning.assets.archive import Limits, extract
from ilm_lightning.assets.errors import AssetError
from ilm_lightning.data.custom import read_custom
from ilm_lightning.data.load import load_dataset
from ilm_lightning.data.openp5.indexing import read_indexing
from ilm_lightning.data.openp5.sequences import read_sequences
from ilm_lightning.data.tables import Interactions, ItemCatalog
from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.engine.checkpoints import read_checkpoint
from ilm_lightning.engine.runs import stored_config
from ilm_lightning.lm.journal import Journal
from ilm_lightning.tasks.elm.own import read_own_tasks

DOCUMENTED = (ValueError, OSError, AssetError)
"""What readers may raise: data, configuration and asset errors are of these, with file and reason."""
ITEMS = b'item,title,year,genres\nm0,Heat (1995),,Crime|Drama\nm1,Big,1988,Comedy\nm2,"Alien, The",1979,Horror\n'
EVENTS = b"user,item,rating,timestamp\nu0,m0,4.5,1000\nu0,m1,3,2000-01-01\nu1,m2,5,1002\nu1,m0,1,1003\n"
TASKS = b"""tasks:
  tagline:
    phrasings: ["Write a tagline for {item}."]
    target: "{name} is {a label}[ from {countries}]."
"""


@dataclass(frozen=True)
class Reader:
    """A reader and a file that it reads.

    Attributes:
        name: of the file; its folder holds nothing else but what ``beside`` puts there.
        whole: content that is read without complaint.
        read: reads the file.
        beside: other files.
    """

    name: str
    whole: bytes
    read: Callable[[Path], Any]
    beside: dict[str, bytes]

    def __call__(self, folder: Path, content: bytes) -> Any:
        """Read this content."""
        for name, data in {**self.beside, self.name: content}.items():
            (folder / name).write_bytes(data)
        return self.read(folder / self.name)


def _bytes_of(write: Callable[[Path], Any], name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return (Path(folder) / name).read_bytes()


def _catalogue() -> bytes:
    frame = pl.DataFrame({"item_id": ["a", "b"], "title": ["Heat", "Big"], "genres": [["Crime"], []]})
    return _bytes_of(lambda folder: ItemCatalog(frame).write(folder / "x"), "x")


def _interactions() -> bytes:
    frame = pl.DataFrame({"user": [0, 1], "item": [0, 1], "rating": [3.0, 4.0], "timestamp": [1, 2]})
    return _bytes_of(lambda folder: Interactions(frame, ["a", "b"], 2).write(folder / "x"), "x")


def _parquet() -> bytes:
    stream = io.BytesIO()
    pl.read_csv(EVENTS, infer_schema=False).write_parquet(stream)
    return stream.getvalue()


def _vectors(name: str) -> bytes:
    made = ItemVectors({"semantic": np.eye(3, 4, dtype=np.float32)}, {}, np.ones(3, dtype=bool))
    return _bytes_of(made.save, name)


def _checkpoint() -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save({"global_step": 3, "state_dict": {"w": torch.ones(3)}}, stream)
    return stream.getvalue()


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a/b.txt", b"text" * 9)
        packed.writestr("c.txt", b"more")
    return stream.getvalue()


def _tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as packed:
        for name in ("a/b.txt", "c.txt"):
            info = tarfile.TarInfo(name)
            info.size = 4
            packed.addfile(info, io.BytesIO(b"text"))
    return stream.getvalue()


def _unpack(path: Path) -> Any:
    target = path.parent / "out"
    try:
        return extract(path, target, limits=Limits(max_bytes=1 << 20, max_files=20))
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _indexing(path: Path) -> Any:
    return read_indexing(path.parent, "sequential", read_sequences(path.parent))


def _movielens(kind: str) -> Callable[[Path], Any]:
    return lambda path: load_dataset(kind, {"ratings": path.parent})


SEQUENCES = b"u1 a b c d\nu2 b c a\nu3 c d a b\n"
U_ITEM = ("|".join(["1", "Toy Story (1995)", "01-Jan-1995", "", "", *["0"] * 18, "1"]) + "\n").encode()
ML_MOVIES = b'movieId,title,genres\n1,Toy Story (1995),Comedy\n2,"Heat, The (1995)",Crime|Drama\n'
READERS = {
    "custom interactions, CSV": Reader(
        "e.csv", EVENTS, lambda p: read_custom(p, p.parent / "items.csv"), {"items.csv": ITEMS}
    ),
    "custom interactions, gzip": Reader(
        "e.csv.gz",
        gzip.compress(EVENTS, mtime=0),
        lambda p: read_custom(p, p.parent / "items.csv"),
        {"items.csv": ITEMS},
    ),
    "custom interactions, parquet": Reader(
        "e.parquet", _parquet(), lambda p: read_custom(p, p.parent / "items.csv"), {"items.csv": ITEMS}
    ),
    "custom items, CSV": Reader("i.csv", ITEMS, lambda p: read_custom(p.parent / "e.csv", p), {"e.csv": EVENTS}),
    "MovieLens 100K ratings": Reader("u.data", b"1\t1\t5\t9\n2\t1\t3\t8\n", _movielens("ml_100k"), {"u.item": U_ITEM}),
    "MovieLens 100K movies": Reader("u.item", U_ITEM, _movielens("ml_100k"), {"u.data": b"1\t1\t5\t9\n"}),
    "MovieLens 1M ratings": Reader(
        "ratings.dat",
        b"1::1::5::9\n2::1::4::8\n",
        _movielens("ml_1m"),
        {"movies.dat": b"1::Toy Story (1995)::Comedy\n"},
    ),
    "MovieLens CSV ratings": Reader(
        "ratings.csv",
        b"userId,movieId,rating,timestamp\n1,1,4.0,9\n2,2,3.5,8\n",
        _movielens("ml_latest_small"),
        {"movies.csv": ML_MOVIES},
    ),
    "MovieLens CSV movies": Reader(
        "movies.csv",
        ML_MOVIES,
        _movielens("ml_latest_small"),
        {"ratings.csv": b"userId,movieId,rating,timestamp\n1,1,4.0,9\n2,2,3.5,8\n"},
    ),
    "OpenP5 sequences": Reader("user_sequence.txt", SEQUENCES, lambda p: read_sequences(p.parent), {}),
    "OpenP5 indexing": Reader(
        "item_sequential_indexing_original.txt",
        b"a 1001\nb 1002\nc 1003\nd 1004\n",
        _indexing,
        {"user_sequence.txt": SEQUENCES},
    ),
    "catalogue": Reader("items.parquet", _catalogue(), ItemCatalog.read, {}),
    "interactions": Reader("interactions.parquet", _interactions(), Interactions.read, {}),
    "item vectors": Reader(
        "vectors.safetensors",
        _vectors("vectors.safetensors"),
        lambda p: ItemVectors.load(p.parent),
        {"vectors.json": _vectors("vectors.json")},
    ),
    "description of vectors": Reader(
        "vectors.json",
        _vectors("vectors.json"),
        lambda p: ItemVectors.load(p.parent),
        {"vectors.safetensors": _vectors("vectors.safetensors")},
    ),
    "own tasks": Reader("tasks.yaml", TASKS, read_own_tasks, {}),
    "configuration of a run": Reader(
        "config.yaml", b"name: x\nseed: 3\ndata: {name: a}\n", lambda p: stored_config(p.parent), {}
    ),
    "texts of an unfinished pass": Reader("j.jsonl", b'{"a": 1}\n', Journal, {}),
    "checkpoint": Reader("last.ckpt", _checkpoint(), read_checkpoint, {}),
    "zip": Reader("a.zip", _zip(), _unpack, {}),
    "tar": Reader("a.tar", _tar(), _unpack, {}),
}
