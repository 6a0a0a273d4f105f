"""Readers of the embedded ratings and of the older MovieLens releases, ml-100k and ml-1m."""

from pathlib import Path

import polars as pl

from ilm_lightning.data.dataset import Dataset, assemble
from ilm_lightning.data.delimited import header_line
from ilm_lightning.data.errors import DataError
from ilm_lightning.data.files import Column, existing, read_headless, select
from ilm_lightning.data.schema import string_lists
from ilm_lightning.data.titles import parse_title

SHARED_TERMS = (
    "MovieLens (GroupLens): non-commercial use, redistribution under the same terms, cite Harper and Konstan 2015."
)
CLOSED_TERMS = "MovieLens (GroupLens): non-commercial use, no redistribution, cite Harper and Konstan 2015."
# Older releases say "Children's"; IMAX is a format; the others say that nothing is known.
_GENRE_NAMES = {"Children's": "Children", "IMAX": "", "(no genres listed)": "", "unknown": ""}
# The order of the flags in u.item.
_FLAGS_100K = ["unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"]
_FLAGS_100K += [
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]
NUMBER = Column(pl.UInt32)
STARS = Column(pl.Float32, least=0.5, most=5.0)
SECONDS = Column(pl.Int64)
MovieRow = tuple[str, str | None, float | None, list[str]]


def clean_genres(genres: list[str]) -> list[str]:
    """Bring genre names of all releases to those of the newest.

    Args:
        genres: names as a release writes them.

    Returns:
        Distinct names; "Children's" is "Children"; "IMAX", "unknown" and "(no genres listed)" are left out.

    >>> clean_genres(["Children's", "IMAX", "Comedy"]), clean_genres(["(no genres listed)"])
    (['Children', 'Comedy'], [])
    """
    names = (_GENRE_NAMES.get(genre.strip(), genre.strip()) for genre in genres)
    return list(dict.fromkeys(name for name in names if name))


def read_movielens_small(folder: Path) -> Dataset:
    """Read the embedded ratings: ``ratings.parquet`` and ``movies.parquet`` (title and year apart).

    Args:
        folder: holds both files.

    Returns:
        100,004 ratings, 671 users, 9,066 movies.

    Raises:
        DataError: a missing or damaged file or column.
    """
    ratings, movies = (existing(folder, name) for name in ("ratings.parquet", "movies.parquet"))
    table = select(pl.scan_parquet(movies), ["movieId", "title", "year", "genres"], movies).collect()
    rows = [(i, title, year, (genres or "").split("|")) for i, title, year, genres in table.iter_rows()]
    return assemble(
        _ratings(pl.scan_parquet(ratings), ratings), movie_table(rows), ratings, "movielens-small", SHARED_TERMS
    )


def read_ml_100k(folder: Path) -> Dataset:
    """Read ml-100k: ``u.data`` (tabs) and ``u.item`` (bars, Latin-1).

    Args:
        folder: the unpacked archive.

    Returns:
        100,000 ratings, 943 users, 1,682 movies.

    Raises:
        DataError: a missing or damaged file.
    """
    ratings, movies = existing(folder, "u.data"), existing(folder, "u.item")
    rows: list[MovieRow] = []
    for number, line in _latin_lines(movies):
        parts = line.split("|")
        if len(parts) != 5 + len(_FLAGS_100K):
            raise DataError(
                f"{movies}: line {number} has {len(parts)} fields, not 24; use the file as GroupLens gives it"
            )
        title = "" if parts[1] == "unknown" else parts[1]
        genres = [name for name, flag in zip(_FLAGS_100K, parts[5:], strict=True) if flag == "1"]
        rows.append((parts[0], title, None, genres))
    return assemble(_headless(ratings, "\t"), movie_table(rows), ratings, "ml-100k", CLOSED_TERMS)


def read_ml_1m(folder: Path) -> Dataset:
    """Read ml-1m: ``ratings.dat`` and ``movies.dat`` (``::``, Latin-1).

    Args:
        folder: the unpacked archive; ``ratings.reconstructed.dat.gz`` (some timestamps interpolated) stands in
            where there is no ``ratings.dat``, and the data's name then says so.

    Returns:
        1,000,209 ratings, 6,040 users, 3,883 movies, of which 3,706 are rated.

    Raises:
        DataError: a missing or damaged file.
    """
    rebuilt = folder / "ratings.reconstructed.dat.gz"
    official = (folder / "ratings.dat").is_file() or not rebuilt.is_file()
    ratings = existing(folder, "ratings.dat") if official else rebuilt
    movies = existing(folder, "movies.dat")
    rows: list[MovieRow] = []
    for number, line in _latin_lines(movies):
        parts = line.split("::")
        if len(parts) != 3:
            raise DataError(
                f"{movies}: line {number} is not MovieID::Title::Genres; use the file as GroupLens gives it"
            )
        rows.append((parts[0], parts[1], None, parts[2].split("|")))
    name = "ml-1m" if official else "ml-1m (reconstructed order)"
    return assemble(_headless(ratings, "::"), movie_table(rows), ratings, name, CLOSED_TERMS)


def _ratings(frame: pl.LazyFrame, path: Path) -> pl.LazyFrame:
    names = {"userId": "user", "movieId": "item", "rating": "rating", "timestamp": "timestamp"}
    return select(frame, list(names), path).rename(names)


def _headless(path: Path, separator: str) -> pl.LazyFrame:
    # an empty or UTF-16 file is told apart from a broken line
    header_line(path, "get the file again")
    columns = {"user": NUMBER, "item": NUMBER, "rating": STARS, "timestamp": SECONDS}
    return read_headless(path, columns, separator).lazy()


def _latin_lines(path: Path) -> list[tuple[int, str]]:
    """Numbered non-empty lines of a Latin-1 file; splitlines() would also split at characters inside titles."""
    text = path.read_bytes().decode("latin-1")
    return [(number, line) for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1) if line]


def movie_table(rows: list[MovieRow]) -> pl.DataFrame:
    """Turn raw movies into columns of the catalogue.

    Args:
        rows: id, raw title, year (None: it stands in the title), genres.

    Returns:
        Columns item_id, title, year, genres, aliases.
    """
    parsed = [parse_title(row[1] or "") for row in rows]
    years = [p.year if row[2] is None else int(row[2]) for p, row in zip(parsed, rows, strict=True)]
    return pl.DataFrame(
        {
            "item_id": [str(row[0]) for row in rows],
            "title": [p.title for p in parsed],
            "year": years,
            "genres": string_lists([clean_genres(row[3]) for row in rows]),
            "aliases": string_lists([p.aliases for p in parsed]),
        },
        schema={
            "item_id": pl.String,
            "title": pl.String,
            "year": pl.Int32,
            "genres": pl.List(pl.String),
            "aliases": pl.List(pl.String),
        },
    )
