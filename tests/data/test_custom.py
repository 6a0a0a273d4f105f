"""The user's own two files, good and bad, and the example of the guide."""

import gzip
import re
from pathlib import Path

import polars as pl
import pytest

from ilm_lightning.data.custom import read_items, read_raters
from ilm_lightning.data.load import check_files, load_dataset
from ilm_lightning.data.prepare import prepare
from ilm_lightning.data.tables import DataError

EVENTS = "user,item,rating,timestamp\nann,heat,5,20\nann,alien,,10\nbob,heat,4.5,\nbob,mystery,3,5\n"
ITEMS = (
    "item,title,year,genres,directors,runtime,text\nheat,Heat (1995),,Action| Crime,Michael Mann,170.0,A duel.\n"
    "alien,Alien,1979,Horror,,,\nunseen,Nobody rated me,,,,,\n"
)
GUIDE = Path(__file__).parents[2] / "docs" / "your-own-data.md"


def write(folder: Path, events: str = EVENTS, items: str = ITEMS) -> dict[str, Path]:
    paths = {"interactions": folder / "events.csv", "items": folder / "items.csv"}
    paths["interactions"].write_text(events, encoding="utf-8")
    paths["items"].write_text(items, encoding="utf-8")
    return paths


def test_csv(tmp_path: Path) -> None:
    dataset = load_dataset("custom", write(tmp_path))
    heat = dataset.catalog[0]
    assert (heat.label, heat.genres, heat.directors, heat.runtime) == (
        "Heat (1995)",
        ("Action", "Crime"),
        ("Michael Mann",),
        170,
    )
    assert [i.item_id for i in dataset.catalog] == ["heat", "alien", "unseen", "mystery"]
    assert [i.n_ratings for i in dataset.catalog] == [2, 1, 0, 1]
    assert dataset.catalog[3].label == "item mystery"
    assert dataset.name == "events"
    assert dataset.interactions.frame["rating"].is_nan().sum() == 1
    assert dataset.interactions.frame.filter(pl.col("user") == 0)["timestamp"].to_list() == [10, 20]


def test_parquet_with_lists_and_other_column_names(tmp_path: Path) -> None:
    paths = {"interactions": tmp_path / "e.parquet", "items": tmp_path / "i.parquet"}
    pl.DataFrame({"customer": [7, 7, 8], "sku": [1, 2, 1]}).write_parquet(paths["interactions"])
    items = pl.DataFrame({"sku": [1, 2], "name": ["Red lamp", "Blue lamp"], "tags": [["light", "red"], None]})
    items.write_parquet(paths["items"])
    columns = {"user": "customer", "item": "sku", "title": "name"}
    dataset = load_dataset("custom", paths, columns=columns)
    assert [(i.label, i.tags) for i in dataset.catalog] == [("Red lamp", ("light", "red")), ("Blue lamp", ())]
    assert dataset.interactions.user_ids == ["7", "8"]
    assert dataset.interactions.matrix().toarray().tolist() == [[1, 1], [1, 0]]


def test_tsv_and_another_list_separator(tmp_path: Path) -> None:
    paths = {"interactions": tmp_path / "e.tsv", "items": tmp_path / "i.tsv"}
    paths["interactions"].write_text("user\titem\na\t1\nb\t2\n")
    paths["items"].write_text("item\ttitle\tgenres\n1\tA\tx; y\n2\tB\t\n")
    dataset = load_dataset("custom", paths, list_separator=";")
    assert [i.genres for i in dataset.catalog] == [("x", "y"), ()]


def test_files_of_new_items_are_mended_in_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "new.csv"
    path.write_text("userId\n1\n")
    with pytest.raises(DataError, match=r"the file has userId; rename userId to 'user'$"):
        read_raters(path)
    path.write_text("user,item\n1,heat\n2, \n")
    with pytest.raises(
        DataError, match=r"column 'item' has empty cells, the first in line 3; every rating needs its item"
    ):
        read_raters(path)
    path.write_text("sku,title\n1,Heat\n")
    with pytest.raises(DataError, match=r"the file has sku, title; rename the one that holds it to 'item'$"):
        read_items(path, settings=False)
    path.write_text('item,title,genres\n1,Heat,"Crime, Drama"\n')
    read_items(path, settings=False)
    assert "most hold ','; if that parts them, write '|' instead" in caplog.text


@pytest.mark.parametrize(
    ("events", "items", "message"),
    [
        ("who,item\na,heat\n", ITEMS, r"events.csv: column 'user' is missing; the file has who, item; name yours with"),
        (EVENTS, "item,name\nheat,Heat\n", r"items.csv: column 'title' is missing.*data.columns.title=NAME"),
        (
            "user,item,rating\na,heat,great\n",
            ITEMS,
            "events.csv: line 2 is broken: column 'rating' holds 'great', which is not a number",
        ),
        ("user,item,rating\na,heat,nan\n", ITEMS, "column 'rating' holds 'nan'"),
        ("user,item,timestamp\na,heat,1999-13-01\n", ITEMS, "line 2 is broken: column 'timestamp' holds '1999-13-01'"),
        (EVENTS, "item,title,year\nheat,Heat,soon\n", "items.csv: line 2 is broken: column 'year' holds 'soon'"),
        (
            EVENTS,
            "item,title,year\nheat,Heat,99999999999\n",
            "items.csv: line 2 is broken: column 'year' holds '99999999999'",
        ),
        (
            EVENTS,
            "item,title\nheat,Heat\nheat,Heat\n",
            r"items.csv: column 'item' holds 'heat' more than once \(line 2 and line 3\)",
        ),
        (
            EVENTS,
            "item,title\n,Heat\nalien,Alien\n",
            "items.csv: column 'item' has empty cells, the first in line 2; give",
        ),
        (EVENTS, "item,title\n", "items.csv: no items"),
        ("user,item\n", ITEMS, "events.csv: no interactions"),
        ("", ITEMS, "events.csv: not readable"),
        (
            "user,item\na,heat\nb,\n",
            ITEMS,
            "column 'item' has empty cells, the first in line 3; every interaction needs its item",
        ),
        ("userId,itemId\na,heat\n", ITEMS, r"column 'user' is missing.*data\.columns\.user=userId"),
        ("user,item\na,heat\nb,heat,7\n", ITEMS, "events.csv: line 3 has 3 columns, the header 2; put texts"),
        (EVENTS, "item,title,text\na,Heat,x\nb,Heat,one, two\n", "items.csv: line 3 has 4 columns, the header 3"),
        ("user,item\na,HEAT\n", ITEMS, "'HEAT' there, 'heat' here"),
    ],
)
def test_bad_files_are_named_with_column_and_remedy(events: str, items: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as error:
        load_dataset("custom", write(tmp_path, events, items))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("between", "where"),
    [
        ('b,Alien,"a text of\r\nthree\r\nlines",1979\r\n', "line 6"),
        ("\r\n".join(["b,Alien,,", "c,Ran,,1985", ""]), "line 5"),
        ('b,Alien,"not "closed" well",1979\r\n', "row 3"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_broken_row_is_named_by_the_line_an_editor_shows(
    between: str, where: str, packed: bool, tmp_path: Path
) -> None:
    text = ("item,title,text,year\r\na,Heat,,1995\r\n" + between + "d,Next,,soon\r\n").encode("utf-8-sig")
    path = tmp_path / ("items.csv.gz" if packed else "items.csv")
    path.write_bytes(gzip.compress(text) if packed else text)
    with pytest.raises(DataError, match=f"{where} is broken: column 'year' holds 'soon'"):
        read_items(path)


def test_broken_rows_of_parquet_are_counted(tmp_path: Path) -> None:
    paths = write(tmp_path) | {"interactions": tmp_path / "e.parquet"}
    bad = pl.DataFrame({"user": ["a"] * 3, "item": ["heat", "alien", "heat"], "rating": ["1", "2", "five"]})
    bad.write_parquet(paths["interactions"])
    with pytest.raises(DataError, match="row 3 is broken: column 'rating' holds 'five', which is not a number"):
        load_dataset("custom", paths)
    bad.with_columns(user=pl.Series(["a", None, "b"]), rating=None).write_parquet(paths["interactions"])
    with pytest.raises(DataError, match="empty cells, the first in row 2; every interaction needs its user"):
        load_dataset("custom", paths)


def test_the_header_check_finds_a_missing_column_without_reading_the_rows(tmp_path: Path) -> None:
    paths = write(tmp_path, events="user,item,rating\na,heat,great\n")
    check_files("custom", paths)
    with pytest.raises(DataError, match="column 'stars' is missing"):
        check_files("custom", paths, {"rating": "stars"})
    with pytest.raises(DataError, match=r"data\.columns\.usr: no such column; choose from user, item"):
        check_files("custom", paths, {"usr": "u"})
    with pytest.raises(DataError, match=r"no such file; set data\.items"):
        check_files("custom", {**paths, "items": tmp_path / "nothing.csv"})
    with pytest.raises(DataError, match=r"data=custom needs data\.items=FILE"):
        check_files("custom", {"interactions": paths["interactions"]})
    (tmp_path / "items.xlsx").write_text("x")
    with pytest.raises(DataError, match="unknown ending"):
        check_files("custom", {**paths, "items": tmp_path / "items.xlsx"})


def test_one_item_cannot_be_learned_from(tmp_path: Path) -> None:
    paths = write(tmp_path, "user,item\na,heat\nb,heat\n", "item,title\nheat,Heat\n")
    with pytest.raises(DataError, match="at least two are needed"):
        prepare(load_dataset("custom", paths), min_ratings=1)


def test_the_guides_example_is_true(tmp_path: Path) -> None:
    blocks = re.findall(r"```csv\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 2
    dataset = prepare(load_dataset("custom", write(tmp_path, *blocks)), min_ratings=1)
    assert dataset.report["items_without_text"] == 0
    assert dataset.catalog[0].genres
    assert len(dataset.interactions) == len(blocks[0].splitlines()) - 1


AWKWARD_EVENTS = (
    "User ;item;Rating;timestamp\r\nann;B-1;4,5;2023-01-05T10:00:00Z\r\nann; B-2 ;3;2023-01-04\r\n"
    "bob;B-1;;2023-01-05 12:00:00.5+02:00\r\n"
)
AWKWARD_ITEMS = 'item;title;genres;text\r\n B-1 ;"Lamp; the ""big"" one";Light, Office;Schön\r\nB-2;;;\r\n'


def test_a_spreadsheets_csv_with_byte_order_mark_semicolons_and_dates(tmp_path: Path) -> None:
    paths = write(tmp_path, "\ufeff" + AWKWARD_EVENTS, "\ufeff" + AWKWARD_ITEMS)
    dataset = load_dataset("custom", paths, list_separator=",")
    assert [(i.item_id, i.title, i.genres, i.text) for i in dataset.catalog] == [
        ("B-1", 'Lamp; the "big" one', ("Light", "Office"), "Schön"),
        ("B-2", "", (), None),
    ]
    frame = dataset.interactions.frame.sort("user", "timestamp")
    assert frame["timestamp"].to_list() == [1672790400, 1672912800, 1672912800]
    assert frame["rating"].to_list()[:2] == [3.0, 4.5]


@pytest.mark.parametrize("times", [pl.Datetime("ns"), pl.Datetime("ms", "Europe/Paris"), pl.Date, pl.Int64])
def test_parquet_times_and_ids_with_gaps(times: pl.DataType, tmp_path: Path) -> None:
    paths = {"interactions": tmp_path / "e.parquet", "items": tmp_path / "i.parquet"}
    days = pl.Series("timestamp", [86400, 0]).cast(pl.Int64)
    stamp = days if times == pl.Int64 else pl.from_epoch(days, "s").dt.replace_time_zone("UTC")
    stamp = stamp.dt.replace_time_zone(None) if times == pl.Date else stamp
    frame = pl.DataFrame({"user": ["a", "a"], "item": [1.0, 2.0], "timestamp": stamp})
    frame.with_columns(pl.col("timestamp").cast(times)).write_parquet(paths["interactions"])
    pl.DataFrame({"item": [1, 2], "title": ["A", "B"]}).write_parquet(paths["items"])
    frame = load_dataset("custom", paths).interactions.frame
    assert frame.select("item", "timestamp").rows() == [(1, 0), (0, 86400)]


def test_a_parquets_nan_is_an_empty_cell(tmp_path: Path) -> None:
    paths = {"interactions": tmp_path / "e.parquet", "items": tmp_path / "i.parquet"}
    gap = float("nan")
    events = {"user": [1, 1, 2], "item": [1, 2, 1], "rating": [3.0, gap, 4.0], "timestamp": [5.0, gap, 6.0]}
    pl.DataFrame(events).write_parquet(paths["interactions"])
    items = {"item": [1, 2], "title": ["Heat (1995)", "Ran"], "year": [gap, 1985.0], "runtime": [170.0, gap]}
    pl.DataFrame(items).write_parquet(paths["items"])
    dataset = load_dataset("custom", paths)
    assert [(i.year, i.runtime) for i in dataset.catalog] == [(1995, 170), (1985, None)]
    assert dataset.interactions.frame["rating"].is_nan().sum() == 1
    assert dataset.interactions.frame["timestamp"].to_list() == [0, 5, 6]


def test_gaps_and_blanks_in_a_parquets_lists_are_no_genre(tmp_path: Path) -> None:
    paths = write(tmp_path) | {"items": tmp_path / "i.parquet"}
    tags = pl.Series("tags", ["slow|dark", "loud"], dtype=pl.Categorical)
    lists = {"item": ["heat", "alien"], "title": ["Heat", "Alien"], "genres": [["Crime ", None, ""], None]}
    pl.DataFrame(lists).with_columns(tags).write_parquet(paths["items"])
    heat, alien = list(load_dataset("custom", paths).catalog)[:2]
    assert (heat.genres, alien.genres) == (("Crime",), ())
    assert (heat.tags, alien.tags) == (("slow", "dark"), ("loud",))


@pytest.mark.parametrize(
    ("column", "value", "wanted"),
    [
        ("critic_score", "0.85", "a whole number from 0 to 100"),
        ("critic_score", "850", "a whole number from 0 to 100"),
        ("runtime", "-5", "0 or more"),
    ],
)
def test_refused_numbers_that_would_be_read_as_others(tmp_path: Path, column: str, value: str, wanted: str) -> None:
    paths = write(tmp_path, items=f"item,title,{column}\nheat,Heat,{value}\n")
    with pytest.raises(DataError, match=f"column '{column}' holds '{value}', which is not {wanted}"):
        load_dataset("custom", paths)


def test_gaps_in_ids_are_no_user_called_nan(tmp_path: Path) -> None:
    paths = write(tmp_path)
    paths["interactions"] = tmp_path / "e.parquet"
    pl.DataFrame({"user": [1.0, float("nan")], "item": ["heat", "heat"]}).write_parquet(paths["interactions"])
    with pytest.raises(DataError, match="column 'user' has empty cells"):
        load_dataset("custom", paths)


def test_compressed_whatever_the_encoding_is(tmp_path: Path) -> None:
    paths = write(tmp_path)
    packed = tmp_path / "events.csv.gz"
    packed.write_bytes(gzip.compress(EVENTS.encode()))
    assert load_dataset("custom", {**paths, "interactions": packed}).interactions.n_users == 2
    paths["items"].write_bytes("item,title\nheat,Heat\nalien,Aliéné\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"items.csv: line 3 is not UTF-8; save the file as UTF-8"):
        load_dataset("custom", paths)
    paths["items"].write_bytes(ITEMS.encode("utf-16"))
    with pytest.raises(DataError, match="written as UTF-16"):
        check_files("custom", paths)


def test_a_list_that_looks_parted_otherwise_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = write(tmp_path, items="item,title,genres\nheat,Heat,Action; Crime\nalien,Alien,\n")
    assert load_dataset("custom", paths).catalog[0].genres == ("Action; Crime",)
    assert "data.list_separator=';'" in caplog.text
    caplog.clear()
    assert load_dataset("custom", paths, list_separator=";").catalog[0].genres == ("Action", "Crime")
    assert caplog.text == ""
