"""Raw files opened: what is broken is named with its line."""

from pathlib import Path

import polars as pl
import pytest

from ilm_lightning.data.errors import DataError
from ilm_lightning.data.files import TABLE_SIZE, Column, read_columns, rows_of

COLUMNS = {
    "user": Column(pl.UInt32),
    "score": Column(pl.Float32, least=0.5, most=5.0),
    "time": Column(pl.Int64),
    "note": Column(pl.String),
}
GOOD = ["user,score,time,note", "1,4.5,100,fine", '2,3,200,"two\nlines, quoted"', "3,1e0,300,"]


def write(folder: Path, lines: list[str], ending: str = "\n") -> Path:
    path = folder / "rows.csv"
    path.write_bytes(ending.join([*lines, ""]).encode("utf-8", "surrogateescape"))
    return path


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_columns_are_typed_and_in_the_order_asked_for(tmp_path: Path, ending: str) -> None:
    frame = read_columns(write(tmp_path, GOOD, ending), {name: COLUMNS[name] for name in ("note", "user", "score")})
    assert frame.columns == ["note", "user", "score"]
    assert frame.dtypes == [pl.String, pl.UInt32, pl.Float32]
    assert frame["user"].to_list() == [1, 2, 3]
    assert frame["score"].to_list() == [4.5, 3.0, 1.0]
    assert frame["note"].to_list() == ["fine", "two\nlines, quoted", None]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    path = write(tmp_path, ["\ufeff" + GOOD[0], GOOD[1], "x,1,1,bad"])
    with pytest.raises(DataError, match=r"line 3 is broken: column 'user' holds 'x'"):
        read_columns(path, COLUMNS)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("4,good,1,x", "line 6 is broken: column 'score' holds 'good', which is not a number"),
        ("4,nan,1,x", "column 'score' holds 'nan', which is not a number"),
        ("4,inf,1,x", "column 'score' holds 'inf'"),
        ("4,5.5,1,x", "column 'score' holds '5.5', more than 5"),
        ("4,0.4,1,x", "line 6 is broken: column 'score' holds '0.4', less than 0.5"),
        ("4,-4,1,x", "column 'score' holds '-4', less than 0.5"),
        ("four,1,1,x", "column 'user' holds 'four', which is not a whole number"),
        ("-4,1,1,x", "column 'user' holds '-4', which is not a whole number"),
        ("4.0,1,1,x", "column 'user' holds '4.0', which is not a whole number"),
        ("99999999999,1,1,x", "column 'user' holds '99999999999'"),
        ("4,1,-1,x", "column 'time' holds '-1'"),
        ("4,,1,x", "line 6 is broken: column 'score' is empty"),
        ("4,1,1", r"line 6 has 3 fields instead of 4 \(user, score, time, note\)"),
        ("4", "line 6 has 1 field instead of 4"),
        ("4,1,1,x,y", "line 6 has 5 fields instead of 4"),
        ("4,1,1,caf\udce9", "line 6 is not UTF-8 .*'note'"),
        ("4,1,\x00,x", "column 'time' holds '.x00'"),
    ],
)
def test_the_first_broken_row_is_named_by_its_line(line: str, message: str, tmp_path: Path) -> None:
    # the quoted cell before it holds a line end, so that rows and lines differ
    path = write(tmp_path, [*GOOD, line, "5,1,1,fine", "also,bad,1,x"])
    with pytest.raises(DataError, match=message) as error:
        read_columns(path, COLUMNS)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("rest", [1, 20_000])
@pytest.mark.parametrize("cell", ['"open', 'op"en'])
def test_a_single_quote_mark_is_found(cell: str, rest: int, tmp_path: Path) -> None:
    path = write(tmp_path, [*GOOD, f"4,1,1,{cell}", *["5,1,1,fine"] * rest])
    with pytest.raises(DataError, match=r"line 6 (opens a quote that is not closed|holds a single quote mark)"):
        read_columns(path, COLUMNS)


def test_an_empty_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 6 is empty; correct or delete it"):
        read_columns(write(tmp_path, [*GOOD, "", "4,1,1,x"]), COLUMNS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not readable .*; get the file again"),
        ("user,time,note\n1,2,x\n", "column 'score' is missing; the file has user, time, note"),
    ],
)
def test_a_file_without_the_columns(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_columns(path, COLUMNS)


def test_only_a_header_is_no_rows(tmp_path: Path) -> None:
    assert read_columns(write(tmp_path, GOOD[:1]), COLUMNS).height == 0


@pytest.mark.parametrize("offset", [0, TABLE_SIZE])
def test_rows_of_small_and_of_large_ids(offset: int) -> None:
    ids = pl.Series([offset + i for i in (9, 2, 40)], dtype=pl.UInt32)
    values = pl.Series("item", [offset + i for i in (2, 40, 9, 2)], dtype=pl.UInt32)
    assert rows_of(values, ids).to_list() == [1, 2, 0, 1]
