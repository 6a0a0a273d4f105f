"""Joins films with facts from Wikidata: people, countries, languages, length, critics, awards, age rating.

The database is sqlite with the tables ``omdb`` and ``tomatoes`` of the bokeh sample data (CC0). Its casts are in
alphabetical order, so the first name is not the leading actor.
"""

import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ilm_lightning.data.errors import DataError
from ilm_lightning.data.item import Item
from ilm_lightning.data.schema import CATALOG_SCHEMA, LIST_COLUMNS, string_lists
from ilm_lightning.data.tables import ItemCatalog
from ilm_lightning.data.titles import normalise_title

# Wikidata genres that MovieLens has no name for; others are left to MovieLens, so that its genres keep their meaning.
ADDED_GENRES = ("Biography", "Family", "Sport")
# The source calls every epic "History": Star Wars and Heat among them.
_UNRELIABLE_GENRES = ("History",)
_SAME_GENRE = {"Family": "Children"}
_COUNTRIES = {
    "People's Republic of China": "China",
    "Republic of China": "Taiwan",
    "Taiwan Island": "Taiwan",
    "British Hong Kong": "Hong Kong",
    "Kingdom of the Netherlands": "Netherlands",
    "Kingdom of Italy": "Italy",
    "Kingdom of Great Britain": "United Kingdom",
    "Wales": "United Kingdom",
    "Federal Republic of Yugoslavia": "Yugoslavia",
    "Socialist Federal Republic of Yugoslavia": "Yugoslavia",
    "Occupied Palestinian territory": "Palestine",
    "Georgian SSR": "Georgia",
    "The Bahamas": "Bahamas",
}
_LANGUAGES = {
    "Standard Chinese": "Mandarin",
    "Putonghua": "Mandarin",
    "Standard Taiwanese Mandarin": "Mandarin",
    "Yue Chinese": "Cantonese",
    "Modern Greek": "Greek",
    "Modern Hebrew": "Hebrew",
    "American English": "English",
    "Australian English": "English",
    "Brazilian Portuguese": "Portuguese",
    "Quebec French": "French",
    "Flemish Dutch": "Dutch",
    "Dari": "Persian",
    "parseltongue": "",
    "artistic language": "",
    "multiple languages": "",
}
# Earlier names of the same rating.
_CERTIFICATES = {"M/PG": "PG", "GP": "PG"}
_SUFFIXES = ("Jr.", "Jr", "Sr.", "II", "III", "IV")
_AWARD = re.compile(r"(Won|Nominated for) (\d+) Oscars?")
_QUERY = """
    SELECT o.imdbID, o.Title, o.Year, o.Rating, o.Runtime, o.Genre, o.Director, o.Writer, o."Cast", o.Language,
           o.Country, o.Awards, t.Meter, t.Reviews, t.Production
    FROM omdb AS o LEFT JOIN tomatoes AS t ON t.ID = o.ID ORDER BY o.ID
"""


@dataclass(frozen=True)
class FilmFacts:
    """The facts of one film; the fields are those of `Item`."""

    imdb_id: str
    title: str
    year: int
    genres: tuple[str, ...]
    directors: tuple[str, ...]
    writers: tuple[str, ...]
    cast: tuple[str, ...]
    countries: tuple[str, ...]
    languages: tuple[str, ...]
    studios: tuple[str, ...]
    runtime: int | None
    critic_score: int | None
    n_reviews: int | None
    oscars_won: int
    oscar_nominations: int
    certificate: str | None


def split_names(cell: str | None) -> tuple[str, ...]:
    """Split a cell of names; "Jr." behind a comma belongs to the name before it.

    Args:
        cell: comma-separated names or None.

    Returns:
        Distinct names in order.

    >>> split_names("William Wisher, Jr., James Cameron, James Cameron")
    ('William Wisher Jr.', 'James Cameron')
    """
    names: list[str] = []
    for part in (cell or "").split(","):
        name = " ".join(part.split())
        if name in _SUFFIXES and names:
            names[-1] = f"{names[-1]} {name}"
        elif name:
            names.append(name)
    return tuple(dict.fromkeys(names))


def oscars(awards: str | None) -> tuple[int, int]:
    """Count Oscars.

    Args:
        awards: as "Won 1 Oscar. Nominated for 2 Oscars."

    Returns:
        Won and nominated. A win counts as a nomination too, also where the source forgot it.

    >>> oscars("Won 2 Oscars. Nominated for 1 Oscar."), oscars("Nominated for 3 Oscars."), oscars(None)
    ((2, 2), (0, 3), (0, 0))
    """
    found = {verb: int(number) for verb, number in _AWARD.findall(awards or "")}
    won = found.get("Won", 0)
    return won, max(won, found.get("Nominated for", 0))


def read_films(database: Path) -> list[FilmFacts]:
    """Read all films; the database is opened read-only.

    Args:
        database: the sqlite file, or the folder that holds it as ``movies.db``.

    Returns:
        The films, in the order of their ids.

    Raises:
        DataError: no such file, or not this database.
    """
    path = database / "movies.db" if database.is_dir() else database
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the film-facts database or set data.film_facts=false")
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            rows = connection.execute(_QUERY).fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise DataError(f"{path}: not the film-facts database ({error}); fetch it again") from error
    return [_film(row) for row in rows if row[1] and row[2]]


def match_films(items: Iterable[Item], films: list[FilmFacts], imdb_ids: Mapping[str, str]) -> dict[int, int]:
    """Find each item's film: by IMDb id, else title and year, else another title and year, else a year beside.

    A title and year that several films bear, or a year beside that is not unique, is no match. Of several items
    that claim one film, the better match keeps it, then the item with more ratings; one that has an IMDb id of
    another film gets nothing by its title.

    Args:
        items: the catalogue.
        films: `read_films`.
        imdb_ids: item id -> IMDb id, where known.

    Returns:
        Row of the catalogue -> row of ``films``.
    """
    by_imdb = {film.imdb_id: row for row, film in enumerate(films)}
    by_title: dict[tuple[str, int], list[int]] = defaultdict(list)
    for row, film in enumerate(films):
        by_title[normalise_title(film.title), film.year].append(row)
    claims: list[tuple[int, int, int, int]] = []
    for item in items:
        imdb = imdb_ids.get(item.item_id)
        if imdb in by_imdb:
            claims.append((0, -item.n_ratings, item.index, by_imdb[imdb]))
            continue
        found = _by_title(item, by_title)
        if found is not None and (imdb is None or not films[found[1]].imdb_id):
            claims.append((found[0], -item.n_ratings, item.index, found[1]))
    owners: dict[int, int] = {}
    for _step, _ratings, index, film_row in sorted(claims):
        owners.setdefault(film_row, index)
    return {index: film_row for film_row, index in owners.items()}


def attach_film_facts(
    catalog: ItemCatalog, database: Path, imdb_ids: Mapping[str, str] | None = None
) -> tuple[ItemCatalog, dict[str, int]]:
    """Add the facts to a catalogue; what the catalogue already knows is kept.

    Genres stay the catalogue's own. Only those of `ADDED_GENRES` are appended (Family not beside Children), and an
    item without genres gets all of its film's. "History" is never taken: the source gives it to every epic.

    Args:
        catalog: the items.
        database: see `read_films`.
        imdb_ids: item id -> IMDb id, where known.

    Returns:
        The richer catalogue, and the count of items that were found.

    Raises:
        DataError: see `read_films`.
    """
    films = read_films(database)
    matches = match_films(catalog, films, imdb_ids or {})
    rows = [_merge(catalog[index], films[row]) for index, row in matches.items()]
    columns = {name: [row[name] for row in rows] for name in CATALOG_SCHEMA}
    found = pl.DataFrame(
        {
            name: string_lists(columns[name]) if name in LIST_COLUMNS else pl.Series(columns[name], dtype=dtype)
            for name, dtype in CATALOG_SCHEMA.items()
        }
    )
    others = catalog.frame.filter(~pl.col("index").is_in(found["index"].implode()))
    return ItemCatalog(pl.concat([others, found]).sort("index")), {"film_facts_found": len(matches)}


def _merge(item: Item, film: FilmFacts) -> dict[str, Any]:
    """Columns of the item, with the film's facts where the item has none."""
    row: dict[str, Any] = {name: getattr(item, name) for name in CATALOG_SCHEMA}
    for name in CATALOG_SCHEMA:
        if name in ("title", "year", "genres") or not hasattr(film, name):
            continue
        # A critics' score of 0 is known; an empty list or a count of 0 is not.
        if row[name] is None or (row[name] in ((), 0) and name != "critic_score"):
            row[name] = getattr(film, name)
    added = tuple(g for g in film.genres if g in ADDED_GENRES and _SAME_GENRE.get(g) not in item.genres)
    row["genres"] = tuple(dict.fromkeys(item.genres + added)) if item.genres else film.genres
    return row


def _by_title(item: Item, films: Mapping[tuple[str, int], list[int]]) -> tuple[int, int] | None:
    """The step at which a title matched, and the film's row."""
    if not item.title or item.year is None:
        return None
    names = [normalise_title(name) for name in (item.title, *item.aliases)]
    for step, (name, years) in enumerate(
        [(n, (item.year,)) for n in names] + [(n, (item.year - 1, item.year + 1)) for n in names], start=1
    ):
        rows = [row for year in years for row in films.get((name, year), ())]
        if len(rows) == 1:
            return step, rows[0]
        if rows:
            return None
    return None


def _film(row: tuple[str | float | None, ...]) -> FilmFacts:
    imdb, title, year, certificate, runtime, genre, director, writer, cast, language, country, awards, *review = row
    meter, reviews, studios = review
    won, nominated = oscars(_text(awards))
    return FilmFacts(
        imdb_id=_text(imdb),
        title=_text(title),
        year=_number(year) or 0,
        genres=tuple(g for g in split_names(_text(genre)) if g not in _UNRELIABLE_GENRES),
        directors=split_names(_text(director)),
        writers=split_names(_text(writer)),
        cast=split_names(_text(cast)),
        countries=_renamed(split_names(_text(country)), _COUNTRIES),
        languages=_renamed((n.removesuffix(" language") for n in split_names(_text(language))), _LANGUAGES),
        studios=split_names(_text(studios)),
        runtime=_number(runtime) or None,
        critic_score=_number(meter),
        n_reviews=_number(reviews),
        oscars_won=won,
        oscar_nominations=nominated,
        certificate=_CERTIFICATES.get(_text(certificate), _text(certificate)) or None,
    )


def _renamed(names: Iterable[str], shorter: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in (shorter.get(n, n) for n in names) if name))


def _text(value: str | float | None) -> str:
    return "" if value is None else str(value)


def _number(value: str | float | None) -> int | None:
    return None if value is None or value == "" else round(float(value))
