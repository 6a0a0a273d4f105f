"""MovieLens 25M: a made-up set of a hundredth of its size always, real rows where they are, and bad files."""

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from generated_25m import SCALE, script, write_movies
from ilm_lightning.assets import resolve
from ilm_lightning.assets.errors import AssetError
from ilm_lightning.data.dataset import Dataset
from ilm_lightning.data.errors import DataError
from ilm_lightning.data.load import check_files, load_dataset
from ilm_lightning.data.movielens_csv import read_imdb_ids, read_ml_latest_small
from ilm_lightning.data.prepare import prepare
from ilm_lightning.data.tags import TagSettings, clean_tag

FILES = ("ratings.csv", "movies.csv", "tags.csv", "genome-scores.csv", "genome-tags.csv")


@pytest.fixture(scope="module")
def dataset(generated_25m: Path) -> Dataset:
    return load_dataset("ml_25m", {"ratings": generated_25m})


@pytest.fixture
def broken(generated_25m: Path, tmp_path: Path) -> Path:
    """A copy whose files a test may spoil."""
    for name in FILES:
        shutil.copy(generated_25m / name, tmp_path / name)
    return tmp_path


def test_the_generated_set_has_the_shape_of_the_release(generated_25m: Path) -> None:
    ratings = pl.read_csv(generated_25m / "ratings.csv")
    per_user, per_movie = (ratings.group_by(by).len()["len"] for by in ("userId", "movieId"))
    assert (ratings.height, per_user.len(), per_movie.len()) == (round(25_000_095 * SCALE), 1625, 590)
    assert not ratings.select("userId", "movieId").is_duplicated().any()
    assert ratings.select("userId", "movieId").equals(ratings.select("userId", "movieId").sort("userId", "movieId"))
    assert 20 <= per_user.min() <= 30  # type: ignore[operator]
    assert per_movie.min() < 30 < 5 * per_movie.median() < per_movie.max()  # type: ignore[operator]
    assert set(ratings["rating"].unique()) <= {step / 2 for step in range(1, 11)}
    assert ratings["timestamp"].is_between(789_652_009, 1_574_327_703).all()
    scores = pl.read_csv(generated_25m / "genome-scores.csv")
    assert scores.height == round(13_816 * SCALE) * 1128
    assert scores["relevance"].is_between(0, 1).all()
    assert 0.05 < scores["relevance"].mean() < 0.25  # type: ignore[operator]
    assert pl.read_csv(generated_25m / "tags.csv").height == round(1_093_360 * SCALE)


def test_the_same_seed_makes_the_same_files(generated_25m: Path, tmp_path: Path) -> None:
    movies = write_movies(tmp_path / "movies.csv")
    script("movielens_25m").generate(movies, tmp_path / "again", scale=SCALE, seed=1)
    for path in generated_25m.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_too_few_movies_for_a_scale_are_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has 30 movies, this scale needs 624; lower --scale"):
        script("movielens_25m").generate(write_movies(tmp_path / "movies.csv", 30), tmp_path / "out", scale=SCALE)


def test_every_rating_arrives(dataset: Dataset, generated_25m: Path) -> None:
    raw = pl.read_csv(generated_25m / "ratings.csv")
    events, ids = dataset.interactions.frame, dataset.catalog.frame["item_id"].cast(pl.Int64)
    users = pl.Series(dataset.interactions.user_ids).cast(pl.Int64)
    back = pl.DataFrame(
        {
            "userId": users.gather(events["user"]),
            "movieId": ids.gather(events["item"]),
            "rating": events["rating"].cast(pl.Float64),
            "timestamp": events["timestamp"],
        }
    )
    assert back.sort("userId", "movieId").equals(raw)
    order = events.select("user", "timestamp", "item")
    assert order.equals(order.sort("user", "timestamp", "item"))
    assert (dataset.name, dataset.report["items_not_described"]) == ("ml-25m (generated)", 0)


def test_the_tables_equal_those_that_pandas_makes(generated_25m: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pandas writes parquet with pyarrow")
    comparison = script("prepare_25m")
    for way in (comparison.ours, comparison.in_pandas):
        (tmp_path / way.__name__).mkdir()
        way(generated_25m, tmp_path / way.__name__)
    equal = comparison.compare(tmp_path / "ours", tmp_path / "in_pandas")
    assert equal == dict.fromkeys(("interactions", "items", "genome", "user_ids", "genome_tags"), True)


def test_titles_genres_tags_and_genome_become_text(dataset: Dataset, generated_25m: Path) -> None:
    movies = {i: (t, g) for i, t, g in pl.read_csv(generated_25m / "movies.csv").iter_rows()}
    tags = pl.read_csv(generated_25m / "tags.csv")
    for item in list(dataset.catalog)[:200]:
        title, genres = movies[int(item.item_id)]
        assert item.genres == tuple(g for g in genres.split("|") if g not in ("IMAX", "(no genres listed)"))
        assert ", The" not in item.title
        assert (f"({item.year})" in title) == (item.year is not None)
        own = {clean_tag(tag) for tag in tags.filter(pl.col("movieId") == int(item.item_id))["tag"]}
        assert set(item.tags) <= own
        assert len(item.tags) == min(10, len(own - {""}))
        text = dataset.catalog.item_text(item.index) or ""
        assert all(word in text for word in (*item.tags, *item.genome_tags))
    assert dataset.genome is not None
    scores, names = dataset.genome.matrix(), dataset.genome.tags
    for row, index in enumerate(dataset.genome.items[:50]):
        best = dataset.catalog[int(index)].genome_tags
        relevance = [float(scores[row, names.index(tag)]) for tag in best]
        assert relevance == sorted(relevance, reverse=True)
        expected = np.sort(scores[row][scores[row] >= 0.5])[::-1][:10]
        assert relevance == expected.tolist()


def test_genome_follows_the_items_through_preparation(dataset: Dataset) -> None:
    ready = prepare(dataset, min_ratings=40)
    assert dataset.genome is not None
    assert ready.genome is not None
    before, after = (
        {data.catalog[int(i)].item_id: row for i, row in zip(genome.items, genome.matrix(), strict=True)}
        for data, genome in ((dataset, dataset.genome), (ready, ready.genome))
    )
    kept = {item.item_id for item in ready.catalog}
    assert after.keys() == before.keys() & kept
    assert all(np.array_equal(row, before[item]) for item, row in after.items())
    assert ready.report["items_with_genome_tags"] == sum(bool(item.genome_tags) for item in ready.catalog) > 0
    assert min(item.n_ratings for item in ready.catalog) >= 40


def test_texts_can_be_built_without_the_genome(generated_25m: Path) -> None:
    hidden = load_dataset("ml_25m", {"ratings": generated_25m}, tags=TagSettings(genome_in_text=False))
    assert hidden.genome is not None
    vocabulary = set(hidden.genome.tags)
    assert len(hidden.genome) > 0
    for item in hidden.catalog:
        assert item.genome_tags == ()
        assert vocabulary.isdisjoint(item.tags)
    assert any(item.tags for item in hidden.catalog)


def test_numbers_of_tags_are_settings(generated_25m: Path) -> None:
    few = load_dataset("ml_25m", {"ratings": generated_25m}, tags=TagSettings(2, 3, 0.9)).catalog
    assert max(len(item.tags) for item in few) == 2
    assert max(len(item.genome_tags) for item in few) <= 3
    none = load_dataset("ml_25m", {"ratings": generated_25m}, tags=TagSettings(0, 0)).catalog
    assert not any(item.tags or item.genome_tags for item in none)


def test_a_broken_row_is_named_by_its_line(broken: Path) -> None:
    lines = (broken / "ratings.csv").read_bytes().split(b"\n")
    lines[200_000] = b"1600,21,four,1200000000"
    (broken / "ratings.csv").write_bytes(b"\n".join(lines))
    with pytest.raises(DataError, match=r"ratings\.csv: line 200001 is broken: column 'rating' holds 'four'"):
        load_dataset("ml_25m", {"ratings": broken})


def test_a_file_that_was_cut_is_named_by_its_last_line(broken: Path) -> None:
    content = (broken / "ratings.csv").read_bytes()
    cut = content[: content.rindex(b",", 0, 3_000_000)]
    (broken / "ratings.csv").write_bytes(cut)
    with pytest.raises(DataError, match=rf"line {cut.count(10) + 1} has 3 fields instead of 4"):
        load_dataset("ml_25m", {"ratings": broken})


def test_another_number_of_ratings_than_the_release_has_is_told(broken: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_dataset("ml_25m", {"ratings": broken})
    assert "250001 ratings, MovieLens 25M has 25000095: another release, or a file that was cut" in caplog.text


def test_odd_tags_are_mended_or_named(broken: Path) -> None:
    movie = pl.read_csv(broken / "movies.csv")["movieId"][0]
    rows = ["CrÃªpes &amp; Wine", "cr\u00eapes & wine", "\x00", "", '"""quoted"""', "nul\x00l", "&lt;3"]
    lines = [f"{user},{movie},{tag},1" for user, tag in enumerate(rows, start=1)]
    (broken / "tags.csv").write_text("userId,movieId,tag,timestamp\n" + "\n".join(lines) + "\n", encoding="utf-8")
    catalog = load_dataset("ml_25m", {"ratings": broken}).catalog
    assert catalog[0].tags == ("crêpes & wine", "<3", "nul l", "quoted")
    with (broken / "tags.csv").open("ab") as stream:
        stream.write(f"9,{movie},caf\xe9,1\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"tags\.csv: line 9 is not UTF-8 \(column 'tag'\); save the file as UTF-8"):
        load_dataset("ml_25m", {"ratings": broken})


SMALL = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,1,3.5,100\n1,2,4.0,101\n2,1,5.0,102\n",
    "movies.csv": 'movieId,title,genres\n1,Toy Story (1995),Comedy\n2,"Heat, The (1995)",Crime\n',
    "tags.csv": 'userId,movieId,tag,timestamp\n1,1,pixar,5\n1,2,,5\n2,1,"big, fun",6\n',
    "links.csv": "movieId,imdbId,tmdbId\n1,0114709,862\n2,0113277,\n",
}


def _small(folder: Path, name: str = "", row: str = "", instead: str = "") -> Path:
    for file, text in SMALL.items():
        assert file != name or row in text
        (folder / file).write_text(text.replace(row, instead) if file == name else text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("name", "row", "instead", "fault"),
    [
        ("movies.csv", ",Crime", "", r"line 3 has 2 fields instead of 3 \(movieId, title, genres\)"),
        ("movies.csv", "1,Toy Story (1995),Comedy", "1", "line 2 has 1 field instead of 3"),
        ("tags.csv", ",pixar,5", "", r"line 2 has 2 fields instead of 4 \(userId, movieId, tag, timestamp\)"),
        # the time is not read, but the row is cut
        ("tags.csv", ',"big, fun",6\n', ',"big, fun"', "line 4 has 3 fields instead of 4"),
        ("links.csv", "2,0113277,", "2", "line 3 has 1 field instead of 3"),
    ],
)
def test_a_row_with_too_few_fields_is_named(name: str, row: str, instead: str, fault: str, tmp_path: Path) -> None:
    folder = _small(tmp_path, name, row, instead)
    with pytest.raises(DataError, match=rf"{name}: {fault}.*; correct or delete it, or get the file again"):
        read_imdb_ids(folder) if name == "links.csv" else read_ml_latest_small(folder)


def test_empty_cells_of_text_are_no_fault(tmp_path: Path) -> None:
    catalog = read_ml_latest_small(_small(tmp_path, "movies.csv", "Comedy", "")).catalog
    assert [(item.genres, item.tags) for item in catalog] == [((), ("big, fun", "pixar")), (("Crime",), ())]
    assert read_imdb_ids(tmp_path) == {"1": "tt0114709", "2": "tt0113277"}


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_or_column_is_named(name: str, broken: Path) -> None:
    content = (broken / name).read_text(encoding="utf-8")
    header, _, rest = content.partition("\n")
    column = header.split(",")[0]
    (broken / name).write_text(header.replace(column, "number") + "\n" + rest, encoding="utf-8")
    with pytest.raises(DataError, match=rf"{name}: column '{column}' is missing; the file has number"):
        load_dataset("ml_25m", {"ratings": broken})
    (broken / name).unlink()
    with pytest.raises(DataError, match=rf"{name} is missing; ml_25m needs it there"):
        check_files("ml_25m", {"ratings": broken})


def test_a_damaged_archive_is_not_opened(broken: Path, tmp_path: Path) -> None:
    archive = tmp_path / "ml-25m.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in FILES:
            packed.write(broken / name, f"ml-25m/{name}")
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AssetError, match=r"ml-25m\.zip has sha256 .* expected 8b21cfb7.*not opened"):
        resolve("ml-25m", cache_dir=tmp_path / "cache", overrides={"ml-25m": str(archive)}, offline=True)
    assert not (tmp_path / "cache" / "ml-25m").exists()
    with pytest.raises(DataError, match=r"an archive; unpack it, or set assets\.ml-25m=.*ml-25m\.zip"):
        check_files("ml_25m", {"ratings": archive})


def _real(folder: str) -> Path:
    root = os.environ.get("ILM_DATA")
    if not root or not (Path(root) / folder).is_dir():
        pytest.skip(f"{folder} may not be redistributed: set ILM_DATA to the folder that holds it")
    return Path(root) / folder


def _real_genome(folder: Path, scores: pl.DataFrame) -> None:
    """Put the release's tag names and the complete movies of a slice into a folder."""
    shutil.copy(_real("ml-25m") / "genome-tags.csv", folder)
    whole = scores.drop_nulls().filter(pl.len().over("movieId") == 1128)
    whole.select("movieId", "tagId", "relevance").write_csv(folder / "genome-scores.csv")


def test_real_rows_of_latest_small_with_a_genome_slice(tmp_path: Path) -> None:
    for name in ("ratings.csv", "movies.csv", "tags.csv", "links.csv"):
        shutil.copy(_real("ml-latest-small") / name, tmp_path)
    path = _real("genome-slices") / "ml-latest-2018_genome-scores_first187.csv"
    _real_genome(tmp_path, pl.read_csv(path, infer_schema_length=None, ignore_errors=True))
    dataset = load_dataset("ml_25m", {"ratings": tmp_path})
    assert (len(dataset.interactions), dataset.interactions.n_users, len(dataset.catalog)) == (100_836, 610, 9_742)
    small = load_dataset("ml_latest_small", {"ratings": _real("ml-latest-small")})
    assert dataset.interactions.frame.equals(small.interactions.frame)
    assert [item.tags for item in dataset.catalog] == [item.tags for item in small.catalog]
    heat = dataset.catalog[dataset.catalog.find("Heat (1995)")]
    assert {"heist", "crime", "al pacino"} & set(heat.genome_tags)
    toys = dataset.catalog[dataset.catalog.find("Toy Story (1995)")]
    assert toys.genome_tags[0] == "toys"
    assert "pixar" in toys.tags
    assert dataset.genome is not None
    assert len(dataset.genome) == 1128 * len(dataset.genome.items)


def test_real_rows_of_latest_2023(tmp_path: Path) -> None:
    folder = _real("ml-latest-2023-sample")
    for name in ("ratings", "movies", "tags"):
        pl.read_parquet(folder / f"{name}.parquet").write_csv(tmp_path / f"{name}.csv")
    _real_genome(tmp_path, pl.read_parquet(folder / "genome-scores.parquet"))
    dataset = load_dataset("ml_25m", {"ratings": tmp_path})
    assert (len(dataset.interactions), dataset.interactions.n_users, len(dataset.catalog)) == (206_585, 2_149, 86_537)
    assert dataset.genome is not None
    assert len(dataset.genome.items) == 108
    ready = prepare(dataset)
    assert 4_000 < len(ready.catalog) < 6_000
    assert ready.report["items_without_text"] == 0
    assert "pixar" in ready.catalog[ready.catalog.find("Toy Story (1995)")].tags


def test_real_movies_of_ml_25m() -> None:
    from ilm_lightning.data.movielens import movie_table

    rows = pl.read_csv(_real("ml-25m") / "movies.csv", infer_schema=False).rows()
    table = movie_table([(i, title, None, genres.split("|")) for i, title, genres in rows])
    assert table.height == 62_423
    assert table["year"].null_count() < 500
    assert (table["title"] == "").sum() == 0
