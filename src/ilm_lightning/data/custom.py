"""The user's own data: a file of interactions and a file of items, CSV or parquet."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from ilm_lightning.data.dataset import EVENT_COLUMNS, Dataset, assemble
from ilm_lightning.data.delimited import (
    ENDINGS,
    broken_cell,
    decimal_point,
    explain,
    ids,
    place,
    scan_delimited,
    seconds,
)
from ilm_lightning.data.errors import DataError
from ilm_lightning.data.files import UNREADABLE, first_line
from ilm_lightning.data.probe import check_parquet
from ilm_lightning.data.schema import CATALOG_SCHEMA, LIST_COLUMNS
from ilm_lightning.data.titles import parse_title

log = logging.getLogger(__name__)
TERMS = "The user's own data."
# What the items file may hold, under our names; "item" is the id. The rest of the catalogue is derived.
ITEM_COLUMNS = ("item", *(c for c in CATALOG_SCHEMA if c not in ("index", "item_id", "group", "n_ratings", "aliases")))
_REQUIRED = {"interactions": ("user", "item"), "items": ("item", "title"), "raters": ("user",)}
_OPTIONAL = {"interactions": EVENT_COLUMNS[2:], "items": ITEM_COLUMNS[2:], "raters": ()}
# A share of 0.85 would be read as 0 per cent, and half a year is a mistake; other numbers are rounded.
_RANGES = {"critic_score": (0, 100), "year": (-9999, 9999)}
# A list column without the separator in any cell is suspicious where this share of its cells holds another one.
_OTHER_SEPARATOR = 0.5


def read_custom(
    interactions: Path, items: Path, columns: Mapping[str, str] | None = None, list_separator: str = "|"
) -> Dataset:
    """Read two files.

    Args:
        interactions: columns user, item and, where known, rating and timestamp (seconds, or ISO dates and times).
        items: columns item, title and, where known, year, genres, tags, text, directors, cast, countries,
            languages, ... (the catalogue's columns). A title may carry its year, as "Heat (1995)".
        columns: our name -> the file's name, for both files, e.g. ``{"user": "customer", "item": "sku"}``.
        list_separator: splits genres, tags and people in a CSV; parquet may hold lists.

    Returns:
        The data, named after the interactions file.

    Raises:
        DataError: what is wrong, with file, column and remedy.
    """
    events = open_table(interactions, "interactions", columns or {})
    _survive(interactions)
    catalog = read_items(items, columns, list_separator)
    name = interactions.name.split(".")[0]
    try:
        return assemble(events, catalog, interactions, name, TERMS)
    except DataError as error:
        # a broken line is found by reading the file again, only where reading failed
        why = explain(interactions) if "not readable" in str(error) and _is_csv(interactions) else None
        if why is None:
            raise
        raise DataError(f"{interactions}: {why}") from error


def read_items(
    path: Path, columns: Mapping[str, str] | None = None, list_separator: str = "|", settings: bool = True
) -> pl.DataFrame:
    """Read a file of items.

    Args:
        path: as ``items`` of `read_custom`.
        columns: our name -> the file's name.
        list_separator: splits genres, tags and people in a CSV.
        settings: whether messages may advise ``data.…``; False where the file itself must be changed.

    Returns:
        The catalogue's columns that the file holds, ``item_id`` and ``title`` among them.

    Raises:
        DataError: what is wrong, with file, column and remedy.
    """
    table = _collect(open_table(path, "items", columns or {}, settings), path)
    if table.height == 0:
        raise DataError(f"{path}: no items; the file needs one row per item")
    item = table["item"]
    again = (item.is_duplicated() & ~item.is_first_distinct() & item.is_not_null()).arg_true()
    if again.len():
        first, second = int(item.index_of(item[again[0]]) or 0), again[0]
        where = f"{place(path, first)} and {place(path, second)}"
        raise DataError(f"{path}: column 'item' holds {item[second]!r} more than once ({where}); keep one row per item")
    _no_gaps(item, path, "give every item an id")
    return _catalog_columns(table, path, list_separator, settings)


def read_raters(path: Path, columns: Mapping[str, str] | None = None) -> pl.DataFrame:
    """Read who rated which new item.

    Args:
        path: CSV or parquet with a column ``user``, and ``item`` where it speaks of several items; ratings' values
            and times are not read.
        columns: our name -> the file's name.

    Returns:
        Distinct pairs: ``user``, and ``item`` where the file has it, as text.

    Raises:
        DataError: what is wrong, with file, column and remedy.
    """
    names = [name.lower() for name in _schema(path, "ratings").names()]
    role = "interactions" if (columns or {}).get("item", "item").lower() in names else "raters"
    table = _collect(open_table(path, role, columns or {}, settings=False), path).select(pl.col("^user$|^item$"))
    for column in table:
        _no_gaps(column, path, f"every rating needs its {column.name}")
    if table.height == 0:
        raise DataError(f"{path}: no ratings; the file needs one row per user")
    return table.unique(maintain_order=True)


def read_columns_of(path: Path, names: Sequence[str], rows: int | None = None) -> pl.DataFrame:
    """Read some columns of a file as text.

    Args:
        path: CSV or parquet.
        names: the columns; upper and lower case are one. ``item`` and ``other`` are ids.
        rows: how many rows; None for all.

    Returns:
        The columns; empty cells are empty texts.

    Raises:
        DataError: a missing column or an unreadable file.
    """
    schema = _schema(path, "targets")
    have = {name.lower(): name for name in reversed(schema.names())}
    missing = [name for name in names if name not in have]
    if missing:
        raise DataError(f"{path}: column {missing[0]!r} is missing; the file has {', '.join(schema.names())}")
    frame = _scan(path).select(
        (ids(have[name], schema[have[name]]) if name in ("item", "other") else pl.col(have[name]).cast(pl.String))
        .fill_null("")
        .alias(name)
        for name in names
    )
    return _collect(frame if rows is None else frame.head(rows), path)


def _no_gaps(column: pl.Series, path: Path, remedy: str) -> None:
    gaps = column.is_null().arg_true()
    if gaps.len():
        raise DataError(
            f"{path}: column {column.name!r} has empty cells, the first in {place(path, gaps[0])}; {remedy}"
        )


def _is_csv(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS)


def _survive(path: Path) -> None:
    """Refuse parquet that would end the process."""
    if not path.name.lower().endswith(".parquet"):
        return
    try:
        check_parquet(path)
    except OSError as error:
        raise DataError(f"{path}: not readable ({first_line(error)}); write the file again") from error


def _collect(frame: pl.LazyFrame, path: Path) -> pl.DataFrame:
    _survive(path)
    try:
        return frame.collect()
    except UNREADABLE as error:
        why = explain(path) if _is_csv(path) else None
        raise DataError(f"{path}: {why or f'not readable ({first_line(error)})'}") from error


def open_table(path: Path, role: str, columns: Mapping[str, str], settings: bool = True) -> pl.LazyFrame:
    """Open one of the two files and check its columns, reading no more than its header.

    Args:
        path: .csv, .tsv (also .gz) or .parquet.
        role: "interactions" or "items".
        columns: our name -> the file's name.
        settings: whether a message may advise ``data.columns``; False where the file itself must be changed.

    Returns:
        The known columns under our names.

    Raises:
        DataError: a missing file or column, an unknown ending, an unknown name in ``columns``.
    """
    known = (*_REQUIRED[role], *_OPTIONAL[role])
    for ours in columns:
        if ours not in {name for group in (*_REQUIRED.values(), *_OPTIONAL.values()) for name in group}:
            raise DataError(
                f"data.columns.{ours}: no such column; choose from {', '.join((*EVENT_COLUMNS, *ITEM_COLUMNS[1:]))}"
            )
    schema = _schema(path, role)
    frame = _scan(path)
    have = schema.names()
    chosen: dict[str, str] = {}
    for ours in known:
        theirs = columns.get(ours, ours)
        # "User" is as good as "user", unless a name was given
        same = [name for name in have if name.lower() == theirs.lower()] if ours not in columns else []
        if theirs in have or len(same) == 1:
            chosen[ours] = theirs if theirs in have else same[0]
        elif ours in _REQUIRED[role]:
            near = [name for name in have if ours in name.lower()]
            hint = f"name yours with data.columns.{ours}={near[0] if near else 'NAME'}"
            if not settings:
                hint = f"rename {near[0] if near else 'the one that holds it'} to {theirs!r}"
            raise DataError(f"{path}: column {theirs!r} is missing; the file has {', '.join(have)}; {hint}")
        elif ours in columns and not any(ours in _REQUIRED[r] + _OPTIONAL[r] for r in _REQUIRED if r != role):
            raise DataError(f"{path}: column {theirs!r} is missing; the file has {', '.join(have)}")
    typed = {"user": ids, "item": ids, "timestamp": seconds, "rating": decimal_point}
    return frame.select(
        (typed[ours](theirs, schema[theirs]) if ours in typed else pl.col(theirs)).alias(ours)
        for ours, theirs in chosen.items()
    )


def _schema(path: Path, role: str) -> pl.Schema:
    if not path.is_file():
        raise DataError(f"{path}: no such file; set data.{role} to your {role} file")
    try:
        return _scan(path).collect_schema()
    except UNREADABLE as error:
        raise DataError(f"{path}: not readable ({first_line(error)}); save it as CSV or parquet") from error


def _scan(path: Path) -> pl.LazyFrame:
    name = path.name.lower()
    if name.endswith(".parquet"):
        return pl.scan_parquet(path)
    if name.endswith(ENDINGS):
        return scan_delimited(path)
    raise DataError(f"{path}: unknown ending; give a .csv, .tsv or .parquet file")


def _catalog_columns(table: pl.DataFrame, path: Path, list_separator: str, settings: bool) -> pl.DataFrame:
    """Our columns, typed; title and year taken apart where the title carries the year."""
    parsed = [parse_title(title or "") for title in table["title"].cast(pl.String)]
    frame = table.rename({"item": "item_id"}).with_columns(
        pl.Series("title", [p.title for p in parsed], dtype=pl.String),
        pl.Series("aliases", [list(p.aliases) for p in parsed], dtype=pl.List(pl.String)),
    )
    from_title = pl.Series("from_title", [p.year for p in parsed], dtype=pl.Int32)
    for name, dtype in CATALOG_SCHEMA.items():
        if name not in frame.columns or name in ("item_id", "title", "aliases"):
            continue
        column = frame[name]
        if isinstance(column.dtype, pl.Categorical | pl.Enum):
            column = column.cast(pl.String)
        if name in LIST_COLUMNS and isinstance(column.dtype, pl.List):
            # a list may hold gaps and blanks, which are no genre
            parts = pl.element().cast(pl.String).str.strip_chars().replace("", None).drop_nulls()
            frame = frame.with_columns(column.list.eval(parts))
        elif name in LIST_COLUMNS and column.dtype == pl.String:
            _warn_of_separator(column, path, list_separator, settings)
            cells = [[v.strip() for v in (cell or "").split(list_separator) if v.strip()] for cell in column]
            frame = frame.with_columns(pl.Series(name, cells, dtype=pl.List(pl.String)))
        elif dtype == pl.Int32:
            frame = frame.with_columns(_whole_numbers(column, path))
    if "year" not in frame.columns:
        return frame.with_columns(from_title.alias("year"))
    return frame.with_columns(pl.col("year").fill_null(from_title))


def _warn_of_separator(column: pl.Series, path: Path, separator: str, settings: bool) -> None:
    """Say so where cells look like lists with another separator: they would all be one long genre."""
    cells = column.drop_nulls()
    if cells.str.contains(separator, literal=True).any():
        return
    for other in (",", ";", "|", "/"):
        if other != separator and cells.str.contains(other, literal=True).sum() > _OTHER_SEPARATOR * cells.len():
            where = f"{path}: no cell of column {column.name!r} holds {separator!r}, but most hold {other!r}"
            remedy = f"add \"data.list_separator='{other}'\"" if settings else f"write {separator!r} instead"
            log.warning("%s; if that parts them, %s", where, remedy)
            return


def _whole_numbers(column: pl.Series, path: Path) -> pl.Series:
    """Cells to integers ("1995" and "1995.0"); the first that is none, or out of its range, is named."""
    column = column.fill_nan(None) if column.dtype.is_float() else column
    text = column.cast(pl.String).str.strip_chars().replace("", None)
    number = text.cast(pl.Float64, strict=False)
    wrong = text.is_not_null() & ~(number.is_finite() & (number.abs() < 2**31)).fill_null(False)
    if column.name in _RANGES:
        low, high = _RANGES[column.name]
        odd, allowed = (
            (number != number.round()) | (number < low) | (number > high),
            f"a whole number from {low} to {high}",
        )
    else:
        odd, allowed = number < 0, "0 or more"
    for rows, wanted in ((wrong, "a number"), (odd.fill_null(False), allowed)):
        if rows.any():
            row = rows.arg_true()[0]
            raise DataError(broken_cell(path, row, column.name, text[row], wanted))
    return number.round().cast(pl.Int32).alias(column.name)
