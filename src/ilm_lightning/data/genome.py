"""The tag genome: how relevant each of a fixed list of tags is to an item, from 0 to 1."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ilm_lightning.data.errors import DataError
from ilm_lightning.data.files import Column, DataType, existing, read_columns, rows_of
from ilm_lightning.data.schema import cast_columns, read_parquet
from ilm_lightning.data.tags import clean_tag

GENOME_SCHEMA: dict[str, DataType] = {"item": pl.UInt32, "tag": pl.UInt16, "relevance": pl.Float32}
_SCORES = {
    "movieId": Column(pl.UInt32),
    "tagId": Column(pl.UInt32),
    "relevance": Column(pl.Float32, least=0.0, most=1.0),
}
_TAGS = {"tagId": Column(pl.UInt32), "tag": Column(pl.String)}


class GenomeScores:
    """Relevance of every genome tag to the items that have a genome.

    Args:
        frame: columns of `GENOME_SCHEMA`: catalogue row, position in ``tags``, relevance; each pair once.
        tags: [T] names, cleaned as user tags are.

    Raises:
        DataError: a missing column, a value of the wrong type, a tag beyond the list.
    """

    def __init__(self, frame: pl.DataFrame, tags: Sequence[str]) -> None:
        self.frame = cast_columns(frame, GENOME_SCHEMA, "the genome scores")
        self.tags = list(tags)
        if self.frame.height and self.frame["tag"].to_numpy().max() >= len(self.tags):
            raise DataError(f"the genome scores: column 'tag' points beyond the {len(self.tags)} tags there are")

    def __len__(self) -> int:
        return self.frame.height

    @property
    def items(self) -> NDArray[np.int64]:
        """[M] catalogue rows of the items that have a genome, ascending."""
        return self.frame["item"].unique().sort().to_numpy().astype(np.int64)

    def matrix(self) -> NDArray[np.float32]:
        """[M, T] relevance, a row for each of `items`; NaN where a score is missing."""
        items = self.items
        scores = np.full((len(items), len(self.tags)), np.nan, dtype=np.float32)
        rows = np.searchsorted(items, self.frame["item"].to_numpy())
        scores[rows, self.frame["tag"].to_numpy()] = self.frame["relevance"].to_numpy()
        return scores

    def best(self, per_item: int, min_relevance: float) -> pl.DataFrame:
        """Choose each item's tags, the most relevant first.

        Args:
            per_item: tags of an item.
            min_relevance: less relevant tags are not taken.

        Returns:
            Columns item and genome_tags; items without such a tag are left out.
        """
        names = pl.DataFrame(
            {"tag": range(len(self.tags)), "name": self.tags}, schema={"tag": pl.UInt16, "name": pl.String}
        )
        relevant = self.frame.filter(pl.col("relevance") >= min_relevance).join(names, on="tag")
        ordered = relevant.sort("item", "relevance", "tag", descending=[False, True, False])
        return ordered.group_by("item", maintain_order=True).agg(pl.col("name").head(per_item).alias("genome_tags"))

    def reindexed(self, kept: pl.Series) -> "GenomeScores":
        """Keep some items and number them anew.

        Args:
            kept: catalogue rows that stay, in their new order.

        Returns:
            The scores of these items.
        """
        frame = self.frame.filter(pl.col("item").is_in(kept.cast(pl.UInt32).implode()))
        return GenomeScores(frame.with_columns(rows_of(frame["item"], kept)), self.tags)

    def write(self, path: Path) -> None:
        """Write the scores as parquet to ``path``; the tags' names travel in the file's metadata."""
        self.frame.write_parquet(path, metadata={"ilm_lightning": json.dumps({"tags": self.tags})})

    @classmethod
    def read(cls, path: Path) -> "GenomeScores":
        """Read what `write` wrote, from an artefact, whose bytes were compared with their checksums.

        Raises:
            DataError: a missing or damaged file, or parquet that `write` did not write.
        """
        frame = read_parquet(path, checked=True)
        metadata = pl.read_parquet_metadata(path).get("ilm_lightning")
        if metadata is None:
            raise DataError(f"{path}: not a genome file of this package; delete it and it is built again")
        return cls(frame, json.loads(metadata)["tags"])


def read_genome_tags(folder: Path) -> pl.DataFrame:
    """Read genome-tags.csv.

    Returns:
        Columns tagId and tag (cleaned), in the order of the ids.

    Raises:
        DataError: a missing or damaged file, an id that occurs twice, or a tag without a name.
    """
    path = existing(folder, "genome-tags.csv")
    table = read_columns(path, _TAGS)
    twice = table.filter(pl.col("tagId").is_duplicated())["tagId"].sort()
    if twice.len():
        raise DataError(f"{path}: tagId {twice[0]} occurs more than once; get the file again")
    names = [clean_tag(tag or "", longest=None) for tag in table["tag"]]
    if "" in names:
        # below the header
        row = names.index("")
        raise DataError(f"{path}: line {row + 2} gives tagId {table['tagId'][row]} no name; get the file again")
    return table.with_columns(pl.Series("tag", names, dtype=pl.String)).sort("tagId")


def read_genome(folder: Path, movie_ids: pl.Series) -> GenomeScores:
    """Read genome-scores.csv and genome-tags.csv.

    Args:
        folder: holds both.
        movie_ids: [I] movieId of each catalogue row; scores of other movies are left out.

    Returns:
        The scores, ordered by item and tag.

    Raises:
        DataError: a missing or damaged file, a tag without a name, a pair that occurs twice.
    """
    tags = read_genome_tags(folder)
    path = existing(folder, "genome-scores.csv")
    scores = read_columns(path, _SCORES)
    unknown = sorted(set(scores["tagId"].unique()) - set(tags["tagId"]))
    if unknown:
        raise DataError(f"{path}: tagId {unknown[0]} is not in genome-tags.csv; take both files from one release")
    scores = scores.filter(pl.col("movieId").is_in(movie_ids.cast(pl.UInt32).implode()))
    item = rows_of(scores["movieId"], movie_ids.cast(pl.UInt32))
    tag = rows_of(scores["tagId"], tags["tagId"]).cast(pl.UInt16)
    frame = pl.DataFrame({"item": item, "tag": tag, "relevance": scores["relevance"]})
    pair = frame["item"].cast(pl.UInt64) * 65_536 + frame["tag"]
    # the release is in order; sorting it again would cost more than all the rest
    if not pair.is_sorted():
        frame, pair = frame.sort("item", "tag"), pair.sort()
    twice = (pair == pair.shift(1)).arg_true()
    if twice.len():
        movie, name = movie_ids[int(frame["item"][twice[0]])], tags["tag"][int(frame["tag"][twice[0]])]
        raise DataError(f"{path}: movieId {movie} has more than one score for {name!r}; get the file again")
    return GenomeScores(frame, tags["tag"].to_list())
