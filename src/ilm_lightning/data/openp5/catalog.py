"""Item texts for OpenP5's data: MovieLens titles and genres, or Amazon titles, brands and categories."""

from pathlib import Path

import polars as pl

from ilm_lightning.data.errors import DataError
from ilm_lightning.data.files import UNREADABLE, first_line
from ilm_lightning.data.movielens import read_ml_1m, read_ml_100k
from ilm_lightning.data.openp5.sequences import Sequences
from ilm_lightning.data.tables import ItemCatalog

META_COLUMNS = ("asin", "title", "brand", "categories")
_READERS = {"movies.dat": read_ml_1m, "u.item": read_ml_100k}


def build_catalog(sequences: Sequences, texts: Path | None) -> ItemCatalog:
    """Give every item of the sequences its text.

    Args:
        sequences: the data set; its items become the catalogue's rows, in the same order.
        texts: folder of MovieLens 1M or 100K, or a table (TSV) with columns asin, title, brand, categories; None
            leaves all items without text, which the behavioral encoder does not mind.

    Returns:
        The catalogue; an item that the texts do not know has none. Counts are of training interactions.

    Raises:
        DataError: no such file, a missing column, or texts that know none of the items.
    """
    frame = pl.DataFrame({"item_id": sequences.item_ids, "n_ratings": sequences.popularity()})
    if texts is None:
        return ItemCatalog(frame.with_columns(title=pl.lit("")))
    known = _movielens(texts) if texts.is_dir() else _amazon(texts)
    joined = frame.join(known, on="item_id", how="left", maintain_order="left")
    found = len(frame) - joined["title"].null_count()
    if not found:
        raise DataError(
            f"{texts}: none of the {len(frame)} items of {sequences.name} is there (ids such as "
            f"{sequences.item_ids[0]!r}); give the texts of this data set"
        )
    return ItemCatalog(joined.with_columns(pl.col("title").fill_null("")))


def _movielens(folder: Path) -> pl.DataFrame:
    for name, reader in _READERS.items():
        if (folder / name).is_file():
            return reader(folder).catalog.frame.select("item_id", "title", "year", "genres")
    raise DataError(f"{folder}: neither {' nor '.join(_READERS)} is there; give the folder of MovieLens 1M or 100K")


def _amazon(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise DataError(f"{path}: no such file; set data.items to the table of item texts, or to null for none")
    try:
        table = pl.read_csv(path, separator="\t", quote_char=None, infer_schema=False)
    except UNREADABLE as error:
        raise DataError(f"{path}: not readable as a table with tabs ({first_line(error)})") from error
    missing = [name for name in META_COLUMNS if name not in table.columns]
    if missing:
        raise DataError(f"{path}: column {missing[0]!r} is missing; it has {', '.join(table.columns)}")
    # categories stand as 'A', 'B & C', 'D'; the first is the same for all of the data set
    categories = pl.col("categories").str.strip_chars("'").str.split("', '").list.slice(1)
    brand = pl.when(pl.col("brand").fill_null("") != "").then(pl.concat_list("brand")).otherwise(pl.lit([]))
    return table.unique("asin", keep="first", maintain_order=True).select(
        pl.col("asin").alias("item_id"), "title", categories.alias("genres"), brand.alias("tags")
    )
