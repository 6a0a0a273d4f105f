"""One-time conversions of raw assets into the folders that the package reads; heavy imports stay in the functions."""

import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

from ilm_lightning.permissions import follow_umask
from ilm_lightning.progress import without_bars

from .cache import verify_file
from .registry import MOVIELENS_TABLE_SHA256

log = logging.getLogger(__name__)


def gguf_to_folder(raw: Path, out: Path) -> None:
    """Turn ``model.gguf`` into a transformers folder with float32 safetensors and the tokenizer.

    The weights are dequantised: without that they could be neither trained nor saved.

    Args:
        raw: folder with ``model.gguf``.
        out: folder to fill.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    log.info("converting the quantised weights to float32 (once, under a minute)")
    with nullcontext() if sys.stderr.isatty() else without_bars():
        tokenizer = AutoTokenizer.from_pretrained(raw, gguf_file="model.gguf")
        model = AutoModelForCausalLM.from_pretrained(
            raw, gguf_file="model.gguf", dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    follow_umask(out)


def movielens_table(raw: Path, out: Path) -> None:
    """Turn the pinned MovieLens table into ``ratings.parquet`` and ``movies.parquet``.

    ``ratings``: userId i32, movieId i32, rating f32, timestamp i64 (seconds), in the table's order.
    ``movies``: movieId i32, title str or null, year i16 or null, genres str (``"Action|Drama"``), by movieId.

    Args:
        raw: folder with ``movielens.pkl.xz``.
        out: folder to fill.

    Raises:
        ChecksumError: the file is not the pinned one; it is not read then.
    """
    path = raw / "movielens.pkl.xz"
    verify_file(path, MOVIELENS_TABLE_SHA256)
    import pandas as pd
    import polars as pl

    # the only pickle that is ever read: its content was pinned by hash a line above
    table = pd.read_pickle(path, compression="xz")  # noqa: S301
    # title and genres are categories of Python strings with NaN for nothing
    title = [value if isinstance(value, str) else None for value in table["title"]]
    frame = pl.DataFrame(
        {
            "userId": table["userId"].to_numpy(),
            "movieId": table["movieId"].to_numpy(),
            "rating": table["rating"].to_numpy(),
            "timestamp": table["timestamp"].to_numpy(),
            "title": pl.Series(title, dtype=pl.String),
            "year": pl.Series(table["year"].to_numpy(), nan_to_null=True),
            "genres": pl.Series([str(value) for value in table["genres"]], dtype=pl.String),
        }
    )
    frame = frame.cast(
        {"userId": pl.Int32, "movieId": pl.Int32, "rating": pl.Float32, "timestamp": pl.Int64, "year": pl.Int16}
    )
    out.mkdir(parents=True, exist_ok=True)
    frame.select("userId", "movieId", "rating", "timestamp").write_parquet(out / "ratings.parquet")
    movies = frame.select("movieId", "title", "year", "genres").unique("movieId", keep="first")
    movies.sort("movieId").write_parquet(out / "movies.parquet")


CONVERSIONS: Mapping[str, Callable[[Path, Path], None]] = {
    "gguf": gguf_to_folder,
    "movielens-table": movielens_table,
}
