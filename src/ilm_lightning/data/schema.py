"""Columns and types of the two tables, and the checks that name a wrong column."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from ilm_lightning.data.errors import DataError
from ilm_lightning.data.files import UNREADABLE, first_line
from ilm_lightning.data.probe import check_parquet
from ilm_lightning.data.titles import title_group

_STRINGS = pl.List(pl.String)
# Column -> type and default; None as default means "unknown". The first two must be given.
CATALOG_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "index": pl.UInt32,
    "item_id": pl.String,
    "title": pl.String,
    "year": pl.Int32,
    "genres": _STRINGS,
    "tags": _STRINGS,
    "genome_tags": _STRINGS,
    "directors": _STRINGS,
    "writers": _STRINGS,
    "cast": _STRINGS,
    "countries": _STRINGS,
    "languages": _STRINGS,
    "studios": _STRINGS,
    "runtime": pl.Int32,
    "critic_score": pl.Int32,
    "n_reviews": pl.Int32,
    "oscars_won": pl.Int32,
    "oscar_nominations": pl.Int32,
    "certificate": pl.String,
    "text": pl.String,
    "group": pl.String,
    "n_ratings": pl.Int32,
    "aliases": _STRINGS,
}
INTERACTION_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "user": pl.UInt32,
    "item": pl.UInt32,
    "rating": pl.Float32,
    "timestamp": pl.Int64,
}
_COUNTS = ("oscars_won", "oscar_nominations", "n_ratings")
LIST_COLUMNS = tuple(name for name, dtype in CATALOG_SCHEMA.items() if dtype == _STRINGS)


def string_lists(rows: Sequence[Sequence[str]]) -> pl.Series:
    """Turn lists of strings into a column; polars itself looks at every list and takes ten times as long.

    >>> string_lists([["a", "b"], []]).to_list()
    [['a', 'b'], []]
    """
    if not rows:
        return pl.Series([], dtype=_STRINGS)
    lengths = pl.Series("n", [len(row) for row in rows], dtype=pl.UInt32)
    flat = pl.Series("s", [text for row in rows for text in row], dtype=pl.String)
    ends = lengths.cum_sum()
    frame = pl.DataFrame({"start": ends - lengths, "n": lengths})
    return frame.select(pl.lit(flat).implode().list.slice(pl.col("start"), pl.col("n"))).to_series()


def read_parquet(path: Path, checked: bool = False) -> pl.DataFrame:
    """Read a parquet file.

    Args:
        path: the file.
        checked: whether its bytes were compared with a checksum; a file of which nothing is known is read by another
            process first (see `probe`).

    Returns:
        The table.

    Raises:
        DataError: the file is missing or damaged.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file; check the path")
    try:
        if not checked:
            check_parquet(Path(path))
        return pl.read_parquet(path)
    except UNREADABLE as error:
        raise DataError(f"{path}: not readable as parquet ({first_line(error)}); write it again") from error


def cast_columns(
    frame: pl.DataFrame, schema: Mapping[str, pl.DataType | type[pl.DataType]], source: str
) -> pl.DataFrame:
    """Select a schema's columns and cast each, so that a wrong value is named by its column.

    Args:
        frame: any frame.
        schema: column name -> type.
        source: the file or table, for messages.

    Returns:
        The frame with exactly the schema's columns.

    Raises:
        DataError: a missing column or a value that does not fit.
    """
    missing = [name for name in schema if name not in frame.columns]
    if missing:
        have = ", ".join(frame.columns) or "none"
        raise DataError(f"{source}: column {missing[0]!r} is missing; it has {have}")
    for name, dtype in schema.items():
        try:
            frame = frame.with_columns(pl.col(name).cast(dtype))
        except pl.exceptions.PolarsError as error:
            raise DataError(f"{source}: column {name!r} must be {dtype}; {first_line(error)}") from error
    return frame.select(list(schema))


def catalog_frame(frame: pl.DataFrame) -> pl.DataFrame:
    """Fill, type and check a catalogue's columns.

    Args:
        frame: at least ``item_id`` and ``title``.

    Returns:
        The frame with exactly the columns of `CATALOG_SCHEMA`.

    Raises:
        DataError: see `ItemCatalog`.
    """
    source = "the item catalogue"
    for name in ("item_id", "title"):
        if name not in frame.columns:
            raise DataError(f"{source}: column {name!r} is missing; it has {', '.join(frame.columns) or 'none'}")
    frame = frame if "index" in frame.columns else frame.with_row_index("index")
    absent = {name: dtype for name, dtype in CATALOG_SCHEMA.items() if name not in frame.columns}
    frame = frame.with_columns(pl.lit(None).cast(dtype).alias(name) for name, dtype in absent.items())
    frame = cast_columns(frame, CATALOG_SCHEMA, source)
    frame = frame.with_columns(
        pl.col("title").fill_null(""),
        pl.col("text").replace("", None),
        *(pl.col(name).fill_null([]) for name in LIST_COLUMNS),
        *(pl.col(name).fill_null(0) for name in _COUNTS),
    )
    if frame["item_id"].null_count():
        raise DataError(f"{source}: column 'item_id' has empty cells; give every item an id")
    twice = frame.filter(pl.col("item_id").is_duplicated())["item_id"]
    if twice.len():
        raise DataError(f"{source}: column 'item_id' holds {twice[0]!r} more than once; keep one row per item")
    if not (frame["index"] == pl.int_range(frame.height, eager=True)).all():
        raise DataError(f"{source}: column 'index' must count the rows from 0; drop it and it is made")
    if frame["group"].null_count():
        keys = [title_group(*row) for row in frame.select("title", "year", "item_id").iter_rows()]
        frame = frame.with_columns(pl.col("group").fill_null(pl.Series(keys, dtype=pl.String)))
    return frame
