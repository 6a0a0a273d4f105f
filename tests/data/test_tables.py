"""The two tables: types, texts, lookup, files, and what bad tables say."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ilm_lightning.data.schema import string_lists
from ilm_lightning.data.tables import DataError, Interactions, ItemCatalog, UnknownItemError

ROWS = [
    {
        "item_id": "6",
        "title": "Heat",
        "year": 1995,
        "genres": ["Action", "Crime"],
        "tags": ["heist"],
        "directors": ["Michael Mann"],
        "countries": ["United States"],
        "languages": ["English"],
        "cast": ["Al Pacino", "Amy Brenneman", "Ashley Judd", "Val Kilmer"],
        "n_ratings": 90,
    },
    {"item_id": "7", "title": "Heat", "year": 1986, "n_ratings": 3},
    {"item_id": "8", "title": "The Client", "year": 1993, "aliases": ["Der Klient"]},
    {"item_id": "9", "title": ""},
    {"item_id": "10", "title": "9", "year": 2009},
    {"item_id": "11", "title": "(500) Days of Summer", "year": 2009},
]


@pytest.fixture
def catalog() -> ItemCatalog:
    return ItemCatalog.from_rows(ROWS)


def test_items_are_typed_and_missing_columns_are_filled(catalog: ItemCatalog) -> None:
    heat = catalog[0]
    assert (heat.index, heat.label, heat.genres, heat.runtime, heat.oscars_won) == (
        0,
        "Heat (1995)",
        ("Action", "Crime"),
        None,
        0,
    )
    assert heat.group == "heat|1995"
    assert [item.label for item in catalog][2:4] == ["The Client (1993)", "item 9"]
    assert catalog[-1].item_id == "11"
    with pytest.raises(IndexError):
        catalog[6]


def test_item_text_is_one_line_and_none_without_text(catalog: ItemCatalog) -> None:
    assert catalog.item_text(0) == (
        "Heat (1995). Genres: Action, Crime. Tags: heist. Released in the 1990s. Made in United States. "
        "Language: English. Directed by Michael Mann. Cast includes Al Pacino, Amy Brenneman, Ashley Judd."
    )
    assert catalog.item_text(3) is None
    assert catalog.text_fields(0, ("title", "genres", "decade")) == ["Heat (1995)", "Action", "Crime", "1990s"]
    assert catalog.text_fields(3, ("title", "genres", "tags", "text")) == []
    with pytest.raises(DataError, match="unknown text field 'genre'; choose from title"):
        catalog.text_fields(0, ("genre",))


@pytest.mark.parametrize(
    ("mention", "row"),
    [
        ("Heat (1995)", 0),
        ("[heat (1986)]", 1),
        ("Heat", 0),
        ("client, the", 2),
        ("The Client (Der Klient) (1993)", 2),
        ("Der Klient", 2),
        ("6", 0),
        ("id:9", 3),
        ("9", 4),
        ("(500) Days of Summer (2009)", 5),
    ],
)
def test_find_understands_what_people_write(catalog: ItemCatalog, mention: str, row: int) -> None:
    assert catalog.find(mention) == row


@pytest.mark.parametrize("mention", ["The Cliant", "Heat (2001)", "", "[]", "?!"])
def test_an_unknown_mention_names_the_nearest_titles(catalog: ItemCatalog, mention: str) -> None:
    with pytest.raises(UnknownItemError, match="the nearest are") as error:
        catalog.find(mention)
    if "Cliant" in mention:
        assert "The Client (1993)" in str(error.value).split("nearest are")[1].split(",")[0]


def test_nothing_can_be_found_in_a_catalogue_without_titles() -> None:
    with pytest.raises(UnknownItemError, match="no titles"):
        ItemCatalog.from_rows([{"item_id": "1", "title": ""}]).find("Heat")


def test_catalogue_survives_the_disk(catalog: ItemCatalog, tmp_path: Path) -> None:
    catalog.write(tmp_path / "items.parquet")
    assert ItemCatalog.read(tmp_path / "items.parquet").frame.equals(catalog.frame)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pl.DataFrame({"title": ["Heat"]}), "column 'item_id' is missing"),
        (pl.DataFrame({"item_id": ["1"]}), "column 'title' is missing"),
        (pl.DataFrame({"item_id": ["1", "1"], "title": ["a", "b"]}), "'1' more than once"),
        (pl.DataFrame({"item_id": [None, "1"], "title": ["a", "b"]}), "give every item an id"),
        (pl.DataFrame({"item_id": ["1"], "title": ["a"], "year": ["then"]}), "column 'year' must be Int32"),
        (pl.DataFrame({"index": [4], "item_id": ["1"], "title": ["a"]}), "count the rows from 0"),
    ],
)
def test_a_bad_catalogue_is_named_by_its_column(frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ItemCatalog(frame)


def events(users: list[int], items: list[int]) -> pl.DataFrame:
    return pl.DataFrame({"user": users, "item": items, "rating": [4.0] * len(users), "timestamp": [0] * len(users)})


def test_matrix_is_binary_and_survives_the_disk(tmp_path: Path) -> None:
    interactions = Interactions(events([0, 0, 2, 2], [1, 3, 0, 0]), ["a", "b", "c"], 4)
    interactions.write(tmp_path / "interactions.parquet")
    again = Interactions.read(tmp_path / "interactions.parquet")
    assert (again.user_ids, again.n_users, again.n_items) == (["a", "b", "c"], 3, 4)
    expected = np.array([[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]], dtype=np.float32)
    for table in (interactions, again):
        matrix = table.matrix()
        assert matrix.dtype == np.float32
        np.testing.assert_array_equal(matrix.toarray(), expected)


def test_bad_interactions_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column 'item' points beyond the 2 items"):
        Interactions(events([0], [2]), ["a"], 2)
    with pytest.raises(DataError, match="column 'timestamp' is missing"):
        Interactions(events([0], [0]).drop("timestamp"), ["a"], 2)
    with pytest.raises(DataError, match="column 'user' must be UInt32"):
        Interactions(events([-1], [0]), ["a"], 2)
    with pytest.raises(DataError, match="no such file"):
        Interactions.read(tmp_path / "nothing.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match="not readable as parquet"):
        ItemCatalog.read(tmp_path / "broken.parquet")
    events([0], [0]).write_parquet(tmp_path / "foreign.parquet")
    with pytest.raises(DataError, match="not an interactions file"):
        Interactions.read(tmp_path / "foreign.parquet")


@pytest.mark.parametrize("rows", [[(0, 2), (0, 1), (1, 2), (1, 2)], [(1, 2), (0, 1), (1, 2), (0, 2)], []])
def test_the_matrix_is_binary_whatever_the_order(rows: list[tuple[int, int]]) -> None:
    frame = pl.DataFrame(
        {
            "user": [user for user, _ in rows],
            "item": [item for _, item in rows],
            "rating": [1.0] * len(rows),
            "timestamp": [0] * len(rows),
        }
    )
    matrix = Interactions(frame, ["a", "b", "c"], 4).matrix()
    expected = np.zeros((3, 4))
    for user, item in rows:
        expected[user, item] = 1.0
    assert matrix.shape == (3, 4)
    assert (matrix.toarray() == expected).all()
    assert (matrix.dtype, matrix.has_sorted_indices) == (np.float32, True)


@pytest.mark.parametrize("rows", [[], [[]], [["a"]], [[], ["a", "b"], [], ["", "c|d"]]])
def test_lists_of_strings_become_a_column(rows: list[list[str]]) -> None:
    column = string_lists(rows)
    assert column.to_list() == rows
    assert column.dtype == pl.List(pl.String)
