"""The user's own two files, good and bad, and the example of the guide."""

import re
from pathlib import Path

import polars as pl
import pytest

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


@pytest.mark.parametrize(
    ("events", "items", "message"),
    [
        ("who,item\na,heat\n", ITEMS, r"events.csv: column 'user' is missing; the file has who, item; name yours with"),
        (EVENTS, "item,name\nheat,Heat\n", r"items.csv: column 'title' is missing.*data.columns.title=NAME"),
        ("user,item,rating\na,heat,great\n", ITEMS, "events.csv: column 'rating' holds 'great', which is not a number"),
        ("user,item,rating\na,heat,nan\n", ITEMS, "column 'rating' holds 'nan'"),
        ("user,item,timestamp\na,heat,1999-01-01\n", ITEMS, "column 'timestamp' holds '1999-01-01'"),
        (EVENTS, "item,title,year\nheat,Heat,soon\n", "items.csv: column 'year' holds 'soon'"),
        (EVENTS, "item,title,year\nheat,Heat,99999999999\n", "items.csv: column 'year' holds '99999999999'"),
        (EVENTS, "item,title\nheat,Heat\nheat,Heat\n", "items.csv: column 'item' holds 'heat' more than once"),
        (EVENTS, "item,title\n,Heat\nalien,Alien\n", "items.csv: column 'item' has empty cells"),
        (EVENTS, "item,title\n", "items.csv: no items"),
        ("user,item\n", ITEMS, "events.csv: no interactions"),
        ("", ITEMS, "events.csv: not readable"),
        ("user,item\na,HEAT\n", ITEMS, "'HEAT' there, 'heat' here"),
    ],
)
def test_bad_files_are_named_with_column_and_remedy(events: str, items: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as error:
        load_dataset("custom", write(tmp_path, events, items))
    assert "\n" not in str(error.value)


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
