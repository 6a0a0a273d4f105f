"""Chooses the reader by the data's kind, and checks in the first second that its files are there."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from ilm_lightning.data.custom import open_table, read_custom
from ilm_lightning.data.dataset import Dataset
from ilm_lightning.data.errors import DataError
from ilm_lightning.data.film_facts import attach_film_facts
from ilm_lightning.data.movielens import read_ml_1m, read_ml_100k, read_movielens_small
from ilm_lightning.data.movielens_csv import read_imdb_ids, read_ml_25m, read_ml_latest_small
from ilm_lightning.data.tags import TagSettings

_Reader = Callable[[Path, TagSettings], Dataset]
# Kind -> reader of a folder and the files it needs; "a|b" means either.
_FOLDERS: dict[str, tuple[_Reader, tuple[str, ...]]] = {
    "movielens_small": (lambda folder, _: read_movielens_small(folder), ("ratings.parquet", "movies.parquet")),
    "ml_latest_small": (read_ml_latest_small, ("ratings.csv", "movies.csv")),
    "ml_100k": (lambda folder, _: read_ml_100k(folder), ("u.data", "u.item")),
    "ml_1m": (lambda folder, _: read_ml_1m(folder), ("ratings.dat|ratings.reconstructed.dat.gz", "movies.dat")),
    "ml_25m": (read_ml_25m, ("ratings.csv", "movies.csv", "tags.csv", "genome-scores.csv", "genome-tags.csv")),
}
_TABLES = ("interactions", "items")
KINDS = (*_FOLDERS, "custom")


def required_files(kind: str) -> tuple[str, ...]:
    """Name what a kind needs.

    Args:
        kind: one of `KINDS`; hyphens count as underscores.

    Returns:
        File names within ``paths["ratings"]`` ("a|b" means either); for custom data the keys of ``paths``.

    Raises:
        DataError: an unknown kind.

    >>> required_files("ml-100k"), required_files("custom")
    (('u.data', 'u.item'), ('interactions', 'items'))
    """
    kind = _known(kind)
    return _TABLES if kind == "custom" else _FOLDERS[kind][1]


def check_files(kind: str, paths: Mapping[str, Path], columns: Mapping[str, str] | None = None) -> None:
    """Check that everything a kind needs is there, reading at most headers.

    Args:
        kind: one of `KINDS`.
        paths: as for `load_dataset`.
        columns: custom data: our column name -> the file's.

    Raises:
        DataError: a missing file, a custom file without a needed column, columns given for another kind.
    """
    kind = _known(kind)
    if columns and kind != "custom":
        raise DataError(f"data.columns: {kind} has fixed columns; leave it out, or use data=custom")
    for needed in required_files(kind):
        if kind == "custom":
            if needed not in paths:
                raise DataError(f"data=custom needs data.{needed}=FILE (CSV or parquet)")
            open_table(Path(paths[needed]), needed, columns or {})
        elif not any((_folder(kind, paths) / name).is_file() for name in needed.split("|")):
            raise DataError(f"{_folder(kind, paths)}: {needed.replace('|', ' or ')} is missing; {kind} needs it there")
    facts = paths.get("film_facts")
    if facts is not None and not Path(facts).exists():
        raise DataError(f"{facts}: no such file; give the film-facts database or set data.film_facts=false")


def load_dataset(
    kind: str,
    paths: Mapping[str, Path],
    *,
    columns: Mapping[str, str] | None = None,
    list_separator: str = "|",
    tags: TagSettings | None = None,
) -> Dataset:
    """Read a data set and join the film facts where they are given.

    Args:
        kind: one of `KINDS`.
        paths: ``ratings`` (the folder) for the MovieLens kinds, ``interactions`` and ``items`` for custom data;
            ``film_facts`` (optional) is the film-facts database.
        columns: custom data: our column name -> the file's.
        list_separator: custom data: see `read_custom`.
        tags: ml_latest_small and ml_25m: which tags become text.

    Returns:
        The raw data; `prepare` comes next.

    Raises:
        DataError: anything wrong with the files; see `check_files` and the readers.
    """
    kind = _known(kind)
    check_files(kind, paths, columns)
    imdb_ids: dict[str, str] = {}
    if kind == "custom":
        dataset = read_custom(Path(paths["interactions"]), Path(paths["items"]), columns, list_separator)
    else:
        folder = _folder(kind, paths)
        dataset, imdb_ids = _FOLDERS[kind][0](folder, tags or TagSettings()), read_imdb_ids(folder)
    if paths.get("film_facts") is None:
        return dataset
    catalog, counts = attach_film_facts(dataset.catalog, Path(paths["film_facts"]), imdb_ids)
    return replace(dataset, catalog=catalog, report={**dataset.report, **counts})


def _known(kind: str) -> str:
    name = kind.replace("-", "_")
    if name not in KINDS:
        raise DataError(f"unknown kind of data {kind!r}; choose from {', '.join(KINDS)}")
    return name


def _folder(kind: str, paths: Mapping[str, Path]) -> Path:
    if "ratings" not in paths:
        raise DataError(f"{kind} needs the folder of its files; set data.path=FOLDER")
    path = Path(paths["ratings"])
    if path.suffix == ".zip":
        name = kind.replace("_", "-")
        raise DataError(f"{path}: an archive; unpack it, or set assets.{name}={path} and leave data.path out")
    return path.parent if path.is_file() else path
