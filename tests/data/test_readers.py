"""Each format read from a small table, what is wrong with bad ones, and the real releases where they are."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from ilm_lightning.data.load import KINDS, check_files, load_dataset, required_files
from ilm_lightning.data.movielens_csv import read_imdb_ids
from ilm_lightning.data.prepare import prepare
from ilm_lightning.data.tables import DataError

EVENTS = [("1", "10", "4.0", "100"), ("1", "20", "3.0", "90"), ("2", "10", "5.0", "80"), ("3", "30", "1.0", "70")]


def write_small(folder: Path) -> None:
    columns = list(zip(*EVENTS, strict=True))
    pl.DataFrame(
        {
            "userId": [int(v) for v in columns[0]],
            "movieId": [int(v) for v in columns[1]],
            "rating": [float(v) for v in columns[2]],
            "timestamp": [int(v) for v in columns[3]],
        }
    ).write_parquet(folder / "ratings.parquet")
    pl.DataFrame(
        {
            "movieId": [10, 20, 30],
            "title": ["Client, The", "Amélie (Fabuleux destin, Le)", None],
            "year": [1993, 2001, None],
            "genres": ["Drama|Mystery", "Comedy|IMAX", "(no genres listed)"],
        }
    ).write_parquet(folder / "movies.parquet")


def write_latest(folder: Path) -> None:
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "\n".join(map(",".join, EVENTS)) + "\n")
    (folder / "movies.csv").write_text(
        'movieId,title,genres\n10,"Client, The (1993)",Drama|Mystery\n'
        '20,"Amélie (Fabuleux destin, Le) (2001)",Comedy|IMAX\n30,,(no genres listed)\n',
        encoding="utf-8",
    )
    (folder / "tags.csv").write_text(
        "userId,movieId,tag,timestamp\n1,10,Lawyers,1\n2,10,lawyers ,2\n1,10,dark,3\n3,20,Paris,4\n"
    )
    (folder / "links.csv").write_text("movieId,imdbId,tmdbId\n10,0109446,\n20,211915,194\n")


def write_100k(folder: Path) -> None:
    (folder / "u.data").write_text("\n".join("\t".join((u, i, r[0], t)) for u, i, r, t in EVENTS) + "\n")

    # Flags: 0 unknown, 5 Comedy, 8 Drama, 13 Mystery.
    def row(item: str, title: str, *on: int) -> str:
        return "|".join([item, title, "01-Jan-1995", "", "url", *("1" if g in on else "0" for g in range(19))])

    lines = [row("10", "Client, The (1993)", 8, 13), row("20", "Amélie (Fabuleux destin, Le) (2001)", 5)]
    (folder / "u.item").write_bytes("\n".join([*lines, row("30", "unknown", 0), ""]).encode("latin-1"))


def write_1m(folder: Path) -> None:
    ratings = "".join("::".join((u, i, r[0], t)) + "\n" for u, i, r, t in EVENTS)
    (folder / "ratings.dat").write_text(ratings)
    text = "10::Client, The (1993)::Drama|Mystery\n20::Amélie (Fabuleux destin, Le) (2001)::Comedy\n30::::\n"
    (folder / "movies.dat").write_bytes(text.encode("latin-1"))


def write_25m(folder: Path) -> None:
    write_latest(folder)
    (folder / "genome-tags.csv").write_text("tagId,tag\n1,Dark\n2,legal\n")
    (folder / "genome-scores.csv").write_text("movieId,tagId,relevance\n10,1,0.25\n10,2,0.9990000000000001\n")


WRITERS: dict[str, Callable[[Path], None]] = {
    "movielens_small": write_small,
    "ml_latest_small": write_latest,
    "ml_100k": write_100k,
    "ml_1m": write_1m,
    "ml_25m": write_25m,
}


def test_every_kind_has_a_test() -> None:
    assert {*WRITERS, "custom"} == set(KINDS)


@pytest.mark.parametrize("kind", WRITERS)
def test_all_formats_give_the_same_tables(kind: str, tmp_path: Path) -> None:
    WRITERS[kind](tmp_path)
    dataset = load_dataset(kind, {"ratings": tmp_path})
    rows = [(i.item_id, i.label, i.genres, i.aliases, i.n_ratings) for i in dataset.catalog]
    assert rows == [
        ("10", "The Client (1993)", ("Drama", "Mystery"), (), 2),
        ("20", "Amélie (2001)", ("Comedy",), ("Le Fabuleux destin",), 1),
        ("30", "item 30", (), (), 1),
    ]
    assert dataset.interactions.user_ids == ["1", "2", "3"]
    assert dataset.interactions.frame.rows() == [(0, 1, 3.0, 90), (0, 0, 4.0, 100), (1, 0, 5.0, 80), (2, 2, 1.0, 70)]
    assert "GroupLens" in dataset.terms
    assert dataset.catalog.item_text(2) is None


@pytest.mark.parametrize("kind", WRITERS)
def test_a_missing_file_is_named_at_once(kind: str, tmp_path: Path) -> None:
    WRITERS[kind](tmp_path)
    check_files(kind, {"ratings": tmp_path})
    for name in required_files(kind):
        first = tmp_path / name.split("|")[0]
        kept = first.read_bytes()
        first.unlink()
        with pytest.raises(DataError, match=first.name):
            load_dataset(kind, {"ratings": tmp_path})
        first.write_bytes(kept)


def test_tags_and_links(tmp_path: Path) -> None:
    write_latest(tmp_path)
    catalog = load_dataset("ml-latest-small", {"ratings": tmp_path}).catalog
    assert [item.tags for item in catalog] == [("lawyers", "dark"), ("paris",), ()]
    assert read_imdb_ids(tmp_path) == {"10": "tt0109446", "20": "tt0211915"}


def test_a_reconstructed_file_is_read_and_named(tmp_path: Path) -> None:
    write_1m(tmp_path)
    plain = tmp_path / "ratings.dat"
    (tmp_path / "ratings.reconstructed.dat.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    dataset = load_dataset("ml_1m", {"ratings": tmp_path})
    assert (dataset.name, len(dataset.interactions)) == ("ml-1m (reconstructed order)", 4)


@pytest.mark.parametrize(
    ("kind", "name", "content", "message"),
    [
        ("ml_latest_small", "ratings.csv", "userId,movieId,stars\n1,10,5\n", "column 'rating' is missing"),
        (
            "ml_latest_small",
            "ratings.csv",
            "userId,movieId,rating,timestamp\n1,10,good,5\n",
            "line 2 .*holds 'good'",
        ),
        ("ml_latest_small", "ratings.csv", "userId,movieId,rating,timestamp\n", "no interactions"),
        ("ml_latest_small", "ratings.csv", "userId,movieId,rating,timestamp\n,10,5,5\n", "line 2 .*'userId' is empty"),
        ("ml_latest_small", "ratings.csv", "userId,movieId,rating,timestamp\n1,99,5,5\n", "same ids in both"),
        (
            "ml_latest_small",
            "ratings.csv",
            "userId,movieId,rating,timestamp\n1,10,-4,5\n",
            "line 2 .*'-4', less than 0.5",
        ),
        (
            "ml_latest_small",
            "ratings.csv",
            "userId,movieId,rating,timestamp\n1,10,500,5\n",
            "line 2 .*'500', more than 5",
        ),
        ("ml_latest_small", "ratings.csv", "", "not readable .*; get the file again"),
        ("ml_latest_small", "links.csv", "movieId,tmdbId\n10,5\n", "links.csv: column 'imdbId' is missing"),
        ("ml_latest_small", "movies.csv", "movieId,title,genres\n10,A,\n10,B,\n", "'10' more than once"),
        ("movielens_small", "movies.parquet", "not parquet", "movies.parquet: not readable"),
        ("ml_100k", "u.item", "10|A (1995)|x\n", "line 1 has 3 fields"),
        ("ml_1m", "movies.dat", "10::A (1995)\n", "line 1 is not"),
        ("ml_100k", "u.item", "\n\n10|A (1995)|x\n", "line 3 has 3 fields"),
        ("ml_1m", "movies.dat", "10::A (1995)::Drama\n\r\n20::B (1995)\n", "line 3 is not"),
        ("ml_100k", "u.data", "", "u.data: not readable .*first line is empty.*; get the file again"),
        ("ml_1m", "ratings.dat", "\n1::10::5::3\n", "first line is empty.*; get the file again"),
        ("ml_1m", "ratings.dat", "1,10,5,3\n", "ratings.dat: line 1 has 1 field instead of 4"),
    ],
)
def test_bad_files_are_named(kind: str, name: str, content: str, message: str, tmp_path: Path) -> None:
    WRITERS[kind](tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message) as error:
        load_dataset(kind, {"ratings": tmp_path})
    assert "\n" not in str(error.value)


# per file its kind of data and what parts its fields
HEADLESS = {"u.data": ("ml_100k", "\t"), "ratings.dat": ("ml_1m", "::")}


@pytest.mark.parametrize("name", HEADLESS)
@pytest.mark.parametrize("before", [0, 3, 20_000])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2,10", "has 2 fields instead of 4"),
        ("2,10,3,4,5", "has 5 fields instead of 4"),
        ("2;10;3;4", "has 1 field instead of 4"),
        ("2,10,five,4", "is broken: column 'rating' holds 'five', which is not a number"),
        ("2,10,,4", "is broken: column 'rating' is empty"),
        ("2,10,500,4", "is broken: column 'rating' holds '500', more than 5"),
        ("2,10,3,", "is broken: column 'timestamp' is empty"),
        ("2,x,3,4", "is broken: column 'item' holds 'x', which is not a whole number"),
        ('2,"10,3,4', "is broken: column 'item' holds"),
        ("2,10,\u00e9,4", r"is not UTF-8 \(column 'rating'\)"),
    ],
)
def test_a_broken_line_without_header_is_named(line: str, message: str, before: int, name: str, tmp_path: Path) -> None:
    kind, separator = HEADLESS[name]
    WRITERS[kind](tmp_path)
    lines = [*["1,10,5,3"] * before, line, "1,20,4.5,2", ""]
    # ";" stands for half a separator of two characters
    text = "\n".join(lines).replace(",", separator).replace(";", separator[0] if len(separator) == 2 else " ")
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=f"{name}: line {before + 1} {message}.*correct or delete it") as error:
        load_dataset(kind, {"ratings": tmp_path})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", HEADLESS)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_lines_without_header_may_end_in_any_way(ending: str, name: str, tmp_path: Path) -> None:
    kind, separator = HEADLESS[name]
    WRITERS[kind](tmp_path)
    text = ending.join(["1,10,5,3", "2,20,0.5,4"]).replace(",", separator)
    for whole in (text, text + ending):
        (tmp_path / name).write_bytes(whole.encode())
        frame = load_dataset(kind, {"ratings": tmp_path}).interactions.frame
        assert frame.rows() == [(0, 0, 5.0, 3), (1, 1, 0.5, 4)]


def test_a_broken_line_of_a_compressed_file_is_named(tmp_path: Path) -> None:
    write_1m(tmp_path)
    whole = (tmp_path / "ratings.dat").read_bytes()
    (tmp_path / "ratings.dat").unlink()
    path = tmp_path / "ratings.reconstructed.dat.gz"
    path.write_bytes(gzip.compress(whole + b"2::2"))
    with pytest.raises(DataError, match="gz: line 5 has 2 fields instead of 4"):
        load_dataset("ml_1m", {"ratings": tmp_path})
    path.write_bytes(gzip.compress(whole * 5_000)[:-20])
    with pytest.raises(DataError, match=r"gz: not readable .*; get the file again"):
        load_dataset("ml_1m", {"ratings": tmp_path})


def test_links_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    write_latest(tmp_path)
    (tmp_path / "links.csv").write_bytes(b"movieId,imdbId,tmdbId\n10,0109446,1\n20,caf\xe9,2\n")
    with pytest.raises(DataError, match=r"links\.csv: line 3 is not UTF-8 \(column 'imdbId'\)"):
        read_imdb_ids(tmp_path)
    (tmp_path / "links.csv").write_bytes(b"movieId,imdbId,tmdbId\n10,,1\n")
    assert read_imdb_ids(tmp_path) == {}


def test_own_ratings_may_have_any_scale(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("user,item,rating\n1,10,-4\n2,10,500\n")
    (tmp_path / "i.csv").write_text("item,title\n10,Heat\n")
    dataset = load_dataset("custom", {"interactions": tmp_path / "e.csv", "items": tmp_path / "i.csv"})
    assert dataset.interactions.frame["rating"].to_list() == [-4.0, 500.0]


def test_bad_calls_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown kind of data 'netflix'; choose from movielens_small"):
        load_dataset("netflix", {})
    with pytest.raises(DataError, match=r"set data\.path=FOLDER"):
        load_dataset("ml_1m", {})
    write_latest(tmp_path)
    with pytest.raises(DataError, match="fixed columns"):
        load_dataset("ml_latest_small", {"ratings": tmp_path}, columns={"user": "u"})
    with pytest.raises(DataError, match=r"film_facts=false"):
        check_files("ml_latest_small", {"ratings": tmp_path, "film_facts": tmp_path / "no.db"})


@pytest.mark.parametrize(
    ("kind", "folder", "counts"),
    [
        ("ml_latest_small", "ml-latest-small", (100_836, 610, 9_742)),
        ("ml_100k", "ml-100k", (100_000, 943, 1_682)),
        ("ml_1m", "ml-1m", (1_000_209, 6_040, 3_883)),
    ],
)
def test_real_releases(kind: str, folder: str, counts: tuple[int, int, int]) -> None:
    root = os.environ.get("ILM_DATA")
    if not root or not (Path(root) / folder).is_dir():
        pytest.skip(f"{folder} may not be redistributed: set ILM_DATA to the folder that holds it")
    dataset = load_dataset(kind, {"ratings": Path(root) / folder})
    assert (len(dataset.interactions), dataset.interactions.n_users, len(dataset.catalog)) == counts
    if kind == "ml_1m":
        # OpenP5's 5-core of the same ratings holds the same items and events.
        ready = prepare(dataset)
        assert (len(ready.catalog), len(ready.interactions)) == (3_416, 999_611)
