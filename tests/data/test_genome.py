"""The tag genome as a table of its own."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ilm_lightning.data.errors import DataError
from ilm_lightning.data.genome import GenomeScores, read_genome, read_genome_tags

TAGS = "tagId,tag\n2,Dark \n1,&quot;007&quot;\n5,heist\n"
SCORES = "movieId,tagId,relevance\n30,1,0.02\n30,2,0.9990000000000001\n30,5,0.6\n10,1,1.0\n10,2,0.5\n10,5,0.75\n"
MOVIES = pl.Series(["10", "20", "30"])


def write(folder: Path, scores: str = SCORES, tags: str = TAGS) -> Path:
    (folder / "genome-scores.csv").write_text(scores)
    (folder / "genome-tags.csv").write_text(tags)
    return folder


def test_scores_are_ordered_and_tags_named(tmp_path: Path) -> None:
    genome = read_genome(write(tmp_path), MOVIES)
    assert genome.tags == ["007", "dark", "heist"]
    assert genome.frame.select("item", "tag").rows() == [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1), (2, 2)]
    assert genome.items.tolist() == [0, 2]
    np.testing.assert_allclose(genome.matrix(), [[1.0, 0.5, 0.75], [0.02, 0.999, 0.6]], rtol=1e-6)


def test_the_best_tags_by_relevance(tmp_path: Path) -> None:
    genome = read_genome(write(tmp_path), MOVIES)
    assert genome.best(2, 0.5).rows() == [(0, ["007", "heist"]), (2, ["dark", "heist"])]
    assert genome.best(9, 0.9).rows() == [(0, ["007"]), (2, ["dark"])]
    assert genome.best(9, 1.0).rows() == [(0, ["007"])]


def test_scores_of_other_movies_are_left_out(tmp_path: Path) -> None:
    genome = read_genome(write(tmp_path), pl.Series(["30"]))
    assert (genome.items.tolist(), len(genome)) == ([0], 3)
    assert len(read_genome(tmp_path, pl.Series(["77"]))) == 0


def test_items_numbered_anew_and_written(tmp_path: Path) -> None:
    genome = read_genome(write(tmp_path), MOVIES).reindexed(pl.Series([1, 2]))
    assert genome.items.tolist() == [1]
    genome.write(tmp_path / "genome.parquet")
    again = GenomeScores.read(tmp_path / "genome.parquet")
    assert again.tags == genome.tags
    assert again.frame.equals(genome.frame)


def test_missing_scores_are_nan_in_the_matrix(tmp_path: Path) -> None:
    matrix = read_genome(write(tmp_path, SCORES.replace("10,2,0.5\n", "")), MOVIES).matrix()
    assert np.isnan(matrix[0, 1])
    assert np.isnan(matrix).sum() == 1


def test_a_tag_of_any_length_keeps_its_name(tmp_path: Path) -> None:
    long = "oscar (best writing - screenplay written directly for the screen)"
    assert read_genome(write(tmp_path, tags=TAGS.replace("heist", long)), MOVIES).tags == ["007", "dark", long]


def test_every_tag_of_the_release_has_a_name_of_its_own() -> None:
    folder = Path(os.environ.get("ILM_DATA", "/nowhere")) / "ml-25m"
    if not (folder / "genome-tags.csv").is_file():
        pytest.skip("ILM_DATA holds no ml-25m")
    tags = read_genome_tags(folder)["tag"]
    assert (len(tags), tags.n_unique(), "" in tags.to_list()) == (1128, 1128, False)


@pytest.mark.parametrize(
    ("scores", "tags", "message"),
    [
        (SCORES + "10,9,0.1\n", TAGS, r"genome-scores.csv: tagId 9 is not in genome-tags\.csv"),
        (SCORES + "10,2,0.1\n", TAGS, "movieId 10 has more than one score for 'dark'"),
        (SCORES + "20,2,1.1\n", TAGS, "line 8 is broken: column 'relevance' holds '1.1', more than 1"),
        (SCORES + "20,2,-0.1\n", TAGS, "line 8 is broken: column 'relevance' holds '-0.1', less than 0"),
        (SCORES + "20,2,\n", TAGS, "line 8 is broken: column 'relevance' is empty"),
        (SCORES + "20,2", TAGS, "line 8 has 2 fields instead of 3"),
        (SCORES, TAGS + "5,again\n", "genome-tags.csv: tagId 5 occurs more than once"),
        (SCORES, TAGS.replace("heist", ""), r"genome-tags\.csv: line 4 gives tagId 5 no name"),
        (SCORES, TAGS.replace("heist", "<!>"), r"genome-tags\.csv: line 4 gives tagId 5 no name"),
        (SCORES, "id,tag\n1,x\n", "column 'tagId' is missing"),
        ("movieId,tagId\n", TAGS, "column 'relevance' is missing"),
    ],
)
def test_bad_files_are_named(scores: str, tags: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_genome(write(tmp_path, scores, tags), MOVIES)


def test_bad_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="beyond the 1 tags"):
        GenomeScores(pl.DataFrame({"item": [0], "tag": [1], "relevance": [0.5]}), ["one"])
    pl.DataFrame({"item": [0], "tag": [0], "relevance": [0.5]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match="not a genome file"):
        GenomeScores.read(tmp_path / "other.parquet")
