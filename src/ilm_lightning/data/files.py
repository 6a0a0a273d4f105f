"""Opening raw files: a missing file or column is named at once, a broken row with its line."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl

from ilm_lightning.data.delimited import BROKEN, open_bytes
from ilm_lightning.data.errors import DataError

DataType = pl.DataType | type[pl.DataType]
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
"""What polars raises on damaged files; parquet with a changed byte may make it panic."""
_SHOWN = 60
TABLE_SIZE = 1 << 24
"""Ids below this are looked up in a table, larger ones by search."""
_ODD = " odd"
_PLAIN_TEXT = "[ -!#-+\\--~]*"
_WHOLE = re.compile(r"\d+")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_BITS: Mapping[DataType, int] = {pl.UInt16: 16, pl.UInt32: 32, pl.Int64: 63}
_REMEDY = "correct or delete it, or get the file again"


@dataclass(frozen=True)
class Column:
    """What a column of a file must hold.

    Attributes:
        dtype: an unsigned or 64-bit integer (whole numbers from 0), a float (finite numbers) or a string.
        least: smallest number allowed.
        most: largest number allowed.
        empty: whether a cell may be empty.
    """

    dtype: DataType
    least: float | None = None
    most: float | None = None
    empty: bool = False

    @property
    def plain(self) -> str:
        """A pattern of cells that are surely right; a cell that does not match may be right too."""
        if self.dtype == pl.String:
            return _PLAIN_TEXT
        if self.dtype in _BITS:
            return rf"\d{{1,{len(str(2 ** _BITS[self.dtype] // 10))}}}"
        if self.most is None and self.least is None:
            return r"\d{1,9}(?:\.\d{1,30})?"
        low, high = self.least or 0, 10 if self.most is None else self.most
        sure = "".join(str(digit) for digit in range(10) if low <= digit <= high - 1)
        return rf"[{sure}](?:\.\d{{1,30}})?" if sure else "(?!)"

    def fault(self, text: str) -> str | None:
        """Say what is wrong with a cell, None where it is right."""
        if text == "":
            return None if self.empty or self.dtype == pl.String else "is empty"
        if self.dtype == pl.String:
            return None
        shown = repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
        if self.dtype in _BITS:
            right = bool(_WHOLE.fullmatch(text)) and int(text) < 2 ** _BITS[self.dtype]
            return None if right else f"holds {shown}, which is not a whole number"
        if not _NUMBER.fullmatch(text):
            return f"holds {shown}, which is not a number"
        if self.least is not None and float(text) < self.least:
            return f"holds {shown}, less than {self.least:g}"
        return f"holds {shown}, more than {self.most:g}" if self.most is not None and float(text) > self.most else None

    def faulty(self, name: str) -> pl.Expr:
        """An expression that is true where a parsed cell is not allowed."""
        if self.dtype == pl.String:
            return pl.lit(value=False)
        wrong = pl.lit(value=False) if self.empty else pl.col(name).is_null()
        if self.dtype in (pl.Float32, pl.Float64):
            wrong |= ~pl.col(name).is_finite().fill_null(value=True)
        if self.dtype == pl.Int64:
            wrong |= (pl.col(name) < 0).fill_null(value=False)
        if self.least is not None:
            wrong |= (pl.col(name) < self.least).fill_null(value=False)
        return wrong if self.most is None else wrong | (pl.col(name) > self.most).fill_null(value=False)


def existing(folder: Path, name: str) -> Path:
    """Find a file in a folder.

    Raises:
        DataError: it is not there.
    """
    path = folder / name
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the folder that holds {name}")
    return path


def scan_csv(path: Path) -> pl.LazyFrame:
    """Open a CSV file with a header; every column is text, so that a wrong value can be named later.

    Args:
        path: UTF-8 file, compressed or not.

    Returns:
        The lazy frame.
    """
    return pl.scan_csv(path, infer_schema=False)


def select(frame: pl.LazyFrame, columns: Sequence[str], path: Path) -> pl.LazyFrame:
    """Select columns.

    Raises:
        DataError: one is missing, or the file is none.
    """
    try:
        have = frame.collect_schema().names()
    except UNREADABLE as error:
        raise DataError(f"{path}: not readable ({first_line(error)}); get the file again") from error
    missing = [column for column in columns if column not in have]
    if missing:
        raise DataError(f"{path}: column {missing[0]!r} is missing; the file has {', '.join(have)}")
    return frame.select(columns)


def read_columns(path: Path, columns: Mapping[str, Column]) -> pl.DataFrame:
    """Read columns of a CSV file in one pass, typed while they stream, so that no text of a large file is kept.

    Args:
        path: UTF-8 file with a header.
        columns: name -> what it must hold; other columns are not read.

    Returns:
        The columns, in this order.

    Raises:
        DataError: a missing column, or the first broken row by its line.
    """
    types = {name: column.dtype for name, column in columns.items()}
    select(scan_csv(path), list(columns), path)
    # what a row lacks at its end is null, as an empty text is
    odd = [pl.col(name).is_null() for name, column in columns.items() if column.dtype == pl.String]
    last = pl.scan_csv(path, infer_schema=False).collect_schema().names()[-1]
    rows = pl.scan_csv(path, infer_schema=False, schema_overrides=types)
    rows = rows.select(*columns, pl.any_horizontal(*odd, pl.col(last).is_null()).alias(_ODD))
    wrong = [column.faulty(name) for name, column in columns.items()]
    frame = _checked(rows, wrong, path, lambda: _broken_row(path, columns))
    fault = _short_row(path, columns) if frame[_ODD].any() else None
    if fault is not None:
        raise DataError(fault)
    return frame.drop(_ODD)


def read_headless(path: Path, columns: Mapping[str, Column], separator: str) -> pl.DataFrame:
    """Read a file without header and quotes, every column of it.

    Args:
        path: UTF-8 file, compressed or not.
        columns: name -> what it must hold, in the file's order.
        separator: stands between two fields; one character, or the same one twice.

    Returns:
        The columns.

    Raises:
        DataError: the first broken row by its line.
    """
    schema: dict[str, DataType] = {}
    wrong: list[pl.Expr] = []
    for place, (name, column) in enumerate(columns.items()):
        if place and len(separator) == 2:
            # half of the separator leaves an empty column between any two fields
            schema[f"gap {place}"] = pl.String
            wrong.append(pl.col(f"gap {place}").is_not_null())
        schema[name] = column.dtype
        wrong.append(column.faulty(name))
    rows = pl.scan_csv(path, separator=separator[0], has_header=False, schema=schema, quote_char=None)
    return _checked(rows, wrong, path, lambda: _broken_line(path, columns, separator)).select(*columns)


def _checked(rows: pl.LazyFrame, wrong: list[pl.Expr], path: Path, look: Callable[[], str | None]) -> pl.DataFrame:
    """Read rows; where that fails, or one is wrong, ``look`` finds the first broken one."""
    try:
        frame = rows.collect(engine="streaming")
    except (*UNREADABLE, UnicodeDecodeError) as error:
        raise DataError(look() or f"{path}: not readable ({first_line(error)}); get the file again") from error
    assert isinstance(frame, pl.DataFrame)
    if frame.select(pl.any_horizontal(wrong).any()).item():
        raise DataError(look() or f"{path}: holds impossible values; use the original file")
    return frame


def distinct(ids: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Find the distinct numbers, ascending, and how often each occurs.

    >>> [column.to_list() for column in distinct(pl.Series("item", [7, 5, 7]))]
    [[5, 7], [1, 2]]
    """
    if ids.len() and int(np.asarray(ids.max())) < TABLE_SIZE:
        counts = np.bincount(ids.to_numpy())
        present = np.flatnonzero(counts)
        counts = counts[present]
    else:
        present, counts = np.unique(ids.to_numpy(), return_counts=True)
    return pl.Series(ids.name, present, dtype=ids.dtype), pl.Series("len", counts, dtype=pl.UInt32)


def rows_of(values: pl.Series, ids: pl.Series) -> pl.Series:
    """Find the position in ``ids`` of each value; every value occurs there, once.

    >>> rows_of(pl.Series("item", [7, 5, 7]), pl.Series([5, 6, 7])).to_list()
    [2, 0, 2]
    """
    numbers = ids.to_numpy()
    if numbers.size and numbers.max() < TABLE_SIZE:
        position = np.zeros(int(numbers.max()) + 1, dtype=np.uint32)
        position[numbers] = np.arange(len(numbers), dtype=np.uint32)
        return pl.Series(values.name, position[values.to_numpy()])
    order = np.argsort(numbers).astype(np.uint32)
    return pl.Series(values.name, order[np.searchsorted(numbers, values.to_numpy(), sorter=order)])


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    if isinstance(error, pl.exceptions.PanicException):
        return "damaged inside"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _broken_row(path: Path, columns: Mapping[str, Column]) -> str | None:
    """Look for the first row that is not as it must be; only a broken file is read this way."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        header = next(csv.reader(stream), [])
        # most rows are right at a glance
        plain = re.compile(
            ",".join(columns[name].plain if name in columns else _PLAIN_TEXT for name in header) + r"\r?\n?"
        )
        line = 1
        for text in stream:
            line += 1
            if plain.fullmatch(text):
                continue
            taken: list[str] = []
            rows = csv.reader(_noted(chain([text], stream), taken))
            try:
                fault = _fault(header, next(rows, []), columns)
            except csv.Error:
                fault = "opens a quote that is not closed"
            if not fault and "".join(taken).count('"') % 2:
                fault = "holds a single quote mark"
            if fault:
                return f"{path}: line {line} {fault}; {_REMEDY}"
            line += len(taken) - 1
    return None


def _short_row(path: Path, columns: Mapping[str, Column]) -> str | None:
    """As `_broken_row`, but only where some row has too few fields."""
    with open_bytes(path) as raw:
        rows = csv.reader(io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline=""))
        width = len(next(rows, []))
        try:
            short = any(row and len(row) < width for row in rows)
        except csv.Error:
            short = True
    return _broken_row(path, columns) if short else None


def _broken_line(path: Path, columns: Mapping[str, Column], separator: str) -> str | None:
    """As `_broken_row`, for a file without header and quotes."""
    plain = re.compile(re.escape(separator).join(column.plain for column in columns.values()) + r"\r?\n?")
    try:
        with open_bytes(path) as raw:
            stream = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="\n")
            for line, text in enumerate(stream, start=1):
                if plain.fullmatch(text):
                    continue
                row = text.rstrip("\r\n")
                fault = _fault(list(columns), row.split(separator) if row else [], columns)
                if fault:
                    return f"{path}: line {line} {fault}; {_REMEDY}"
    except BROKEN as error:
        return f"{path}: not readable ({error}); get the file again"
    return None


def _noted(lines: Iterable[str], taken: list[str]) -> Iterator[str]:
    for line in lines:
        taken.append(line)
        yield line


def _fault(header: list[str], row: list[str], columns: Mapping[str, Column]) -> str | None:
    if not row:
        return "is empty"
    if len(row) != len(header):
        return f"has {len(row)} field{'s' * (len(row) != 1)} instead of {len(header)} ({', '.join(header)})"
    for name, text in zip(header, row, strict=True):
        if any(0xDC80 <= ord(char) <= 0xDCFF for char in text):
            return f"is not UTF-8 (column {name!r}); save the file as UTF-8"
        fault = columns[name].fault(text) if name in columns else None
        if fault:
            return f"is broken: column {name!r} {fault}"
    return None
