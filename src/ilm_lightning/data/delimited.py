"""CSV files as people have them: any usual separator, a byte order mark, dates; a broken line is named."""

import csv
import gzip
import io
import zlib
from itertools import islice
from pathlib import Path
from typing import IO

import polars as pl

from ilm_lightning.data.errors import DataError

SEPARATORS = (",", ";", "\t", "|")
ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
BROKEN = (OSError, EOFError, zlib.error)
"""What reading a damaged compressed file raises."""
_GZIP = b"\x1f\x8b"
_ISO_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")


def scan_delimited(path: Path) -> pl.LazyFrame:
    """Open a CSV file; its separator is the one that its header line holds most often.

    Args:
        path: UTF-8 file with a header, with or without byte order mark, compressed or not.

    Returns:
        The lazy frame, every column text, names without blanks around them.

    Raises:
        DataError: the file is empty or UTF-16.
    """
    separator = separator_of(header_line(path))
    return pl.scan_csv(
        path, separator=separator, infer_schema=False, with_column_names=lambda names: [name.strip() for name in names]
    )


def header_line(path: Path, if_empty: str = "the first line names the columns") -> str:
    """The first line of a file, without byte order mark.

    Args:
        path: the file, compressed or not.
        if_empty: what to do where the line is empty.

    Raises:
        DataError: the file is empty or UTF-16.
    """
    try:
        with open_bytes(path) as stream:
            line = stream.readline(1 << 16)
    except BROKEN as error:
        raise DataError(f"{path}: not readable ({error}); get the file again") from error
    if line[:2] in _UTF16 or b"\0" in line:
        raise DataError(f"{path}: written as UTF-16; save it as UTF-8 (spreadsheets call it 'CSV UTF-8')")
    if not line.strip():
        raise DataError(f"{path}: not readable (its first line is empty); {if_empty}")
    return line.decode("utf-8-sig", errors="replace").strip("\r\n")


def separator_of(header: str) -> str:
    """The separator of a header line.

    >>> separator_of("user;item;rating"), separator_of('item,"a;b;c",title'), separator_of("item")
    (';', ',', ',')
    """
    plain = "".join(header.split('"')[::2])
    return max(SEPARATORS, key=lambda candidate: (plain.count(candidate), candidate == ","))


def utf8_text(path: Path) -> str:
    """A text file, without byte order mark.

    Raises:
        DataError: it cannot be opened, or is not UTF-8; names the line.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: not readable ({error}); get the file again") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = raw.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {number}: not UTF-8; save the file as UTF-8") from error


def explain(path: Path) -> str | None:
    """Find the first line that makes a CSV file unreadable.

    Args:
        path: a file that could not be read.

    Returns:
        What is wrong with which line and what to do; None where every line looks well.
    """
    try:
        return _explain(path)
    except (*BROKEN, csv.Error) as error:
        return f"not readable ({error}); get the file again"


def _explain(path: Path) -> str | None:
    separator = separator_of(header_line(path))
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return f"line {number} is not UTF-8; save the file as UTF-8 (spreadsheets call it 'CSV UTF-8')"
    with open_bytes(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text:
        rows = csv.reader(text, delimiter=separator)
        width = len(next(rows))
        begin = rows.line_num + 1
        for row in rows:
            if len(row) > width:
                remedy = f"put texts that hold {separator!r} in double quotes"
                return f"line {begin} has {len(row)} columns, the header {width}; {remedy}"
            begin = rows.line_num + 1
    return _open_quote(path)


def unread_fault(path: Path) -> str | None:
    """Find what reading a CSV file does not stumble over: a row with too few columns, a quote that is never closed.

    Args:
        path: a file that could be read.

    Returns:
        What is wrong with which line; None where nothing is.
    """
    separator = separator_of(header_line(path))
    with open_bytes(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="") as text:
        rows = csv.reader(text, delimiter=separator, strict=True)
        try:
            width = len(next(rows))
            begin = rows.line_num + 1
            for row in rows:
                if row and len(row) < width:
                    return f"line {begin} has {len(row)} column{'s' * (len(row) != 1)}, the header {width}"
                begin = rows.line_num + 1
        except csv.Error:
            return _open_quote(path)
    return None


def _open_quote(path: Path) -> str | None:
    """The line that opens a quote which is not closed before the file ends."""
    opened = 0
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, start=1):
            if line.count(b'"') % 2:
                opened = 0 if opened else number
    return f"line {opened} opens a quote that is not closed" if opened else None


def place(path: Path, row: int) -> str:
    """Say where a row of a file stands, for messages.

    Args:
        path: a file that could be read, of text or parquet.
        row: its number from 0, the header not counted.

    Returns:
        The line it begins on, such as "line 3"; "row 2" where the file has no lines, or they are not told exactly.
    """
    if path.name.lower().endswith(ENDINGS):
        separator = separator_of(header_line(path))
        with open_bytes(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="") as text:
            # quotes that are not as they should be are parted otherwise by polars, and here refused
            rows = csv.reader(text, delimiter=separator, strict=True)
            try:
                for _ in islice(rows, row + 1):
                    pass
                begin = rows.line_num + 1
                if next(rows, None) is not None:
                    return f"line {begin}"
            except csv.Error:
                pass
    return f"row {row + 1}"


def broken_cell(path: Path, row: int, column: str, cell: str, wanted: str) -> str:
    """Say of a cell that it is not what it must be; ``row`` as for `place`."""
    fault = f"column {column!r} holds {cell!r}, which is not {wanted}"
    return f"{path}: {place(path, row)} is broken: {fault}; correct it or leave it empty"


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file, compressed or not."""
    with path.open("rb") as stream:
        packed = stream.read(2) == _GZIP
    return gzip.open(path) if packed else path.open("rb")  # type: ignore[return-value]


def ids(column: str, dtype: pl.DataType) -> pl.Expr:
    """An id as text; numbers that a table holds as 7.0 (a column with gaps) become "7", blanks and NaN null."""
    value = pl.col(column)
    if dtype.is_float():
        whole = pl.when(value == value.round()).then(value.cast(pl.Int64, strict=False).cast(pl.String))
        return whole.otherwise(value.fill_nan(None).cast(pl.String)).alias(column)
    return value.cast(pl.String).str.strip_chars().replace("", None).alias(column)


def seconds(column: str, dtype: pl.DataType) -> pl.Expr:
    """A time in seconds since 1970; ISO dates and times are turned into it, anything else stays as it is."""
    value = pl.col(column)
    if dtype in (pl.Date, pl.Datetime):
        return value.dt.epoch("s").alias(column)
    if dtype != pl.String:
        return value.fill_nan(None) if dtype.is_float() else value
    text = value.str.strip_chars().str.replace(" ", "T", literal=True).str.replace("Z$", "+0000")
    parsed = [
        text.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC" if form.endswith("z") else None)
        for form in _ISO_FORMATS
    ]
    return pl.coalesce(*(time.dt.epoch("s").cast(pl.String) for time in parsed), value).alias(column)


def decimal_point(column: str, dtype: pl.DataType) -> pl.Expr:
    """A number whose decimals follow a comma ("4,5") with a point; a parquet's NaN is an empty cell."""
    value = pl.col(column)
    if dtype.is_float():
        return value.fill_nan(None)
    return value.str.replace(r"^\s*(-?\d+),(\d+)\s*$", "$1.$2") if dtype == pl.String else value
