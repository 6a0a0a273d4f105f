"""The facts join on a small database of the same shape."""

import sqlite3
from pathlib import Path

import pytest

from ilm_lightning.data.film_facts import attach_film_facts, read_films
from ilm_lightning.data.tables import DataError, ItemCatalog

OMDB = (
    "ID INTEGER, imdbID TEXT, Title TEXT, Year INTEGER, Rating TEXT, Runtime REAL, Genre TEXT, Released TEXT, "
    'Director TEXT, Writer TEXT, "Cast" TEXT, Language TEXT, Country TEXT, Awards TEXT'
)
FILMS = [
    (
        "tt1",
        "Heat",
        1995,
        "R",
        170.0,
        "Crime, History, Sport",
        "Michael Mann",
        "Al Pacino, Val Kilmer",
        "English",
        "Italy",
    ),
    ("tt2", "Il postino", 1994, None, None, "Drama", "Michael Radford", "", "Italian", "Kingdom of Italy, France"),
    ("tt3", "Aftermath", 2012, None, 90.0, "Drama", "A", "", "Polish", "Poland"),
    ("tt4", "Aftermath", 2012, None, 99.0, "Horror", "B", "", "Yue Chinese, Cantonese", "People's Republic of China"),
    ("tt5", "The Wall", 1990, "M/PG", 60.0, "Family, Music", "C", "", None, "West Germany"),
    ("tt6", "Twin", 2000, None, None, "", "D", "", "", ""),
    ("tt7", "Twin", 2002, None, None, "", "E", "", "", ""),
]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "movies.db"
    with sqlite3.connect(path) as db:
        db.execute(f"CREATE TABLE omdb ({OMDB})")
        db.execute("CREATE TABLE tomatoes (ID INTEGER, Meter INTEGER, Reviews INTEGER, Production TEXT)")
        for i, (imdb, title, year, rating, runtime, genre, director, cast, language, country) in enumerate(FILMS):
            awards = "Won 2 Oscars. Nominated for 5 Oscars." if i == 0 else None
            row = (
                i,
                imdb,
                title,
                year,
                rating,
                runtime,
                genre,
                "",
                director,
                "W, Jr.",
                cast,
                language,
                country,
                awards,
            )
            db.execute(f"INSERT INTO omdb VALUES ({','.join('?' * len(row))})", row)
        db.execute("INSERT INTO tomatoes VALUES (0, 84, 154, 'Regency')")
        db.execute("INSERT INTO tomatoes VALUES (1, 0, 5, NULL)")
    db.close()
    return path


def joined(database: Path, *rows: tuple[str, int | None], ids: dict[str, str] | None = None) -> ItemCatalog:
    catalog = ItemCatalog.from_rows(
        [{"item_id": str(i), "title": t, "year": y, "genres": ["Crime"]} for i, (t, y) in enumerate(rows)]
    )
    return attach_film_facts(catalog, database, ids)[0]


def test_every_fact_arrives(database: Path) -> None:
    before = database.read_bytes()
    heat = joined(database, ("HEAT", 1995))[0]
    assert (heat.directors, heat.cast, heat.countries, heat.languages, heat.studios) == (
        ("Michael Mann",),
        ("Al Pacino", "Val Kilmer"),
        ("Italy",),
        ("English",),
        ("Regency",),
    )
    assert (heat.runtime, heat.critic_score, heat.n_reviews, heat.certificate) == (170, 84, 154, "R")
    assert (heat.oscars_won, heat.oscar_nominations, heat.title) == (2, 5, "HEAT")
    assert heat.genres == ("Crime", "Sport")
    assert heat.writers == ("W Jr.",)
    assert database.read_bytes() == before
    assert sorted(p.name for p in database.parent.iterdir()) == ["movies.db"]


def test_alternative_titles_neighbouring_years_and_short_names(database: Path) -> None:
    catalog = ItemCatalog.from_rows(
        [
            {"item_id": "a", "title": "The Postman", "year": 1994, "aliases": ["Il postino"]},
            {"item_id": "b", "title": "Wall", "year": 1991, "genres": ["Children"]},
        ]
    )
    found, report = attach_film_facts(catalog, database.parent)
    assert found[0].countries == ("Italy", "France")
    # A score of 0 % is a score; an item without genres takes its film's.
    assert (found[0].critic_score, found[0].genres) == (0, ("Drama",))
    # Family adds nothing to Children, and Music is not one of the added genres.
    assert (found[1].genres, found[1].certificate, found[1].languages) == (("Children",), "PG", ())
    assert report == {"film_facts_found": 2}


def test_what_is_ambiguous_is_left_alone(database: Path) -> None:
    catalog = joined(database, ("Aftermath", 2012), ("Twin", 2001), ("Heat", None), ("", 1995), ("Heat", 1999))
    assert [item.directors for item in catalog] == [(), (), (), (), ()]


def test_imdb_ids_decide(database: Path) -> None:
    rows = (("Aftermath", 2012), ("Heat", 1995))
    catalog = joined(database, *rows, ids={"0": "tt4", "1": "tt999"})
    assert [item.directors for item in catalog] == [("B",), ()]
    assert (catalog[0].languages, catalog[0].countries) == (("Cantonese",), ("China",))


def test_one_film_goes_to_the_item_with_the_better_claim(database: Path) -> None:
    rows = [("remake", "Heat", 1996, 900), ("copy", "Heat", 1995, 5), ("real", "Heat", 1995, 50)]
    table = [{"item_id": i, "title": t, "year": y, "n_ratings": n} for i, t, y, n in rows]
    catalog, _ = attach_film_facts(ItemCatalog.from_rows(table), database)
    assert [bool(item.directors) for item in catalog] == [False, False, True]


def test_known_facts_are_kept(database: Path) -> None:
    row = {"item_id": "1", "title": "Heat", "year": 1995, "directors": ["Someone"], "critic_score": 0}
    heat = attach_film_facts(ItemCatalog.from_rows([row]), database)[0][0]
    assert (heat.directors, heat.critic_score, heat.runtime) == (("Someone",), 0, 170)


def test_a_wrong_database_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_films(tmp_path)
    (tmp_path / "movies.db").write_bytes(b"this is not sqlite, but long enough to be taken for a header" * 20)
    with pytest.raises(DataError, match="not the film-facts database"):
        read_films(tmp_path / "movies.db")
    sqlite3.connect(tmp_path / "empty.db").close()
    with pytest.raises(DataError, match="no such table"):
        read_films(tmp_path / "empty.db")
