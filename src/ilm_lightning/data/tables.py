"""The two typed tables that everything later reads: the item catalogue and the interactions."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse

from ilm_lightning.data.errors import DataError, LeakError, UnknownItemError
from ilm_lightning.data.files import UNREADABLE, first_line
from ilm_lightning.data.item import Item, describe, text_fields
from ilm_lightning.data.schema import CATALOG_SCHEMA, INTERACTION_SCHEMA, cast_columns, catalog_frame, read_parquet
from ilm_lightning.data.titles import normalise_title, parse_title

__all__ = ["DataError", "Interactions", "Item", "ItemCatalog", "LeakError", "UnknownItemError"]

# a title this much like the mention is a slip of the keyboard and comes before titles that hold its words
_ALIKE = 0.85


class ItemCatalog:
    """The items, in index order.

    Args:
        frame: at least ``item_id`` and ``title``; other columns of `CATALOG_SCHEMA` are added empty where
            missing, and columns outside it are dropped.

    Raises:
        DataError: a missing column, a value of the wrong type, duplicate or empty ids, an ``index`` that is not
            the row number.
    """

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = catalog_frame(frame)

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]]) -> "ItemCatalog":
        """Build a catalogue from dictionaries.

        Args:
            rows: one mapping per item with at least ``item_id`` and ``title``.

        Returns:
            The catalogue.

        >>> catalog = ItemCatalog.from_rows([{"item_id": "6", "title": "Heat", "year": 1995, "genres": ["Crime"]}])
        >>> catalog[0].label, catalog.item_text(0)
        ('Heat (1995)', 'Heat (1995). Genres: Crime. Released in the 1990s.')
        """
        known = {name: dtype for name, dtype in CATALOG_SCHEMA.items() if any(name in row for row in rows)}
        return cls(pl.DataFrame([dict(row) for row in rows], schema=known, strict=False))

    def __len__(self) -> int:
        return self.frame.height

    def __getitem__(self, index: int) -> Item:
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of a catalogue of {len(self)}")
        return _item(self.frame.row(index, named=True))

    def __iter__(self) -> Iterator[Item]:
        return (_item(row) for row in self.frame.iter_rows(named=True))

    def write(self, path: Path) -> None:
        """Write the catalogue as parquet to ``path``."""
        self.frame.write_parquet(path)

    @classmethod
    def read(cls, path: Path, checked: bool = False) -> "ItemCatalog":
        """Read what `write` wrote.

        Args:
            path: the file.
            checked: whether its bytes were compared with a checksum (see `schema.read_parquet`).

        Returns:
            The catalogue.

        Raises:
            DataError: a missing or damaged file.
        """
        frame = read_parquet(path, checked)
        try:
            return cls(frame)
        except (*UNREADABLE, DataError) as error:
            raise DataError(f"{path}: not a catalogue of this package ({first_line(error)}); build it again") from error

    @cached_property
    def _rows_by_key(self) -> dict[str, int]:
        """Every way to name an item; of several items with one name, the one with the most ratings."""
        keys: dict[str, int] = {}
        columns = ("index", "item_id", "title", "year", "aliases")
        ordered = self.frame.sort("n_ratings", "index", descending=[True, False]).select(columns)
        for index, _item_id, title, year, aliases in ordered.iter_rows():
            for name in (title, *aliases) if title else ():
                keys.setdefault(f"{normalise_title(name)}|{year}", index)
        for index, _item_id, title, _year, _aliases in ordered.iter_rows():
            if title:
                keys.setdefault(normalise_title(title), index)
        for index, _item_id, _title, _year, aliases in ordered.iter_rows():
            for name in aliases:
                keys.setdefault(normalise_title(name), index)
        for index, item_id, *_rest in ordered.iter_rows():
            keys.setdefault(f"id:{item_id}", index)
        return keys

    def find(self, mention: str) -> int:
        """Find the item that a person means.

        Args:
            mention: "Heat (1995)", "[Heat (1995)]", "Heat" (the most-rated film of that title), another title of
                the item, or an item id ("6" or "id:6"; a title that is a number wins over an id).

        Returns:
            The row of the catalogue.

        Raises:
            UnknownItemError: no such item; names the three nearest titles.
        """
        row = self.lookup(mention)
        if row is not None:
            return row
        text = mention.strip().removeprefix("[").removesuffix("]").strip()
        nearest = self._nearest(normalise_title(parse_title(text).title), 3)
        raise UnknownItemError(f"no item is called {text!r}; the nearest are {', '.join(nearest)}")

    def lookup(self, mention: str) -> int | None:
        """As `find`, but None where there is no such item."""
        text = mention.strip().removeprefix("[").removesuffix("]").strip()
        parsed = parse_title(text)
        title = normalise_title(parsed.title)
        candidates = [f"{title}|{parsed.year}"] if parsed.year is not None else [title]
        # The whole mention too: a bracket may belong to the title.
        candidates += [normalise_title(text), text, f"id:{text}"]
        return next((self._rows_by_key[key] for key in candidates if key and key in self._rows_by_key), None)

    def search(self, words: str, count: int = 10) -> list[str]:
        """Labels of items whose titles hold all the words, those with the most ratings first."""
        wanted = set(normalise_title(words).split())
        columns = ("index", "title", "aliases")
        rows = self.frame.sort("n_ratings", "index", descending=[True, False]).select(columns).iter_rows()
        found = (
            index
            for index, title, aliases in rows
            if any(wanted <= set(normalise_title(name).split()) for name in (title, *aliases) if name)
        )
        return [self[index].label for index in islice(found, count)] if wanted else []

    def _nearest(self, title: str, count: int) -> list[str]:
        """Labels of the items that hold the words of a normalised title, then of those that look most like it."""
        titles = {key: row for key, row in self._rows_by_key.items() if "|" not in key and not key.startswith("id:")}
        near = difflib.get_close_matches(title, titles, n=4 * count, cutoff=0.0)
        close = [self[titles[key]].label for key in near if difflib.SequenceMatcher(None, title, key).ratio() >= _ALIKE]
        labels = [*close, *self.search(title, count), *(self[titles[key]].label for key in near)]
        return list(dict.fromkeys(labels))[:count] or ["(the catalogue has no titles)"]

    def item_text(self, index: int) -> str | None:
        """The item in one readable line (see `describe`); None where it has no text."""
        return describe(self[index])

    def text_fields(self, index: int, fields: Sequence[str]) -> list[str]:
        """The short texts that the semantic encoder encodes apart (see `item.text_fields`)."""
        return text_fields(self[index], fields)


class Interactions:
    """Who interacted with what, one row per event.

    Args:
        frame: columns of `INTERACTION_SCHEMA`; ``rating`` is NaN and ``timestamp`` 0 where unknown.
        user_ids: [U] the users' ids in the source files.
        n_items: I, rows of the catalogue that ``item`` points into.

    Raises:
        DataError: a missing column, a value of the wrong type, an index out of range.
    """

    def __init__(self, frame: pl.DataFrame, user_ids: Sequence[str], n_items: int) -> None:
        self.frame = cast_columns(frame, INTERACTION_SCHEMA, "the interactions")
        self.user_ids = list(user_ids)
        self.n_items = n_items
        for column, size in (("user", len(self.user_ids)), ("item", n_items)):
            if len(self) and self.frame[column].to_numpy().max() >= size:
                raise DataError(f"the interactions: column {column!r} points beyond the {size} {column}s there are")

    @property
    def n_users(self) -> int:
        """U, the number of users."""
        return len(self.user_ids)

    def __len__(self) -> int:
        return self.frame.height

    def matrix(self) -> sparse.csr_matrix:
        """The binary user-item matrix, [U, I] float32; repeated pairs count once."""
        # rows are gathered here rather than by scipy, whose way over coordinates takes three times the memory
        users = self.frame["user"].to_numpy()
        items = self.frame["item"].to_numpy().astype(np.int32)
        if (users[1:] < users[:-1]).any():
            order = np.argsort(users, kind="stable")
            users, items = users[order], items[order]
        ends = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=self.n_users))])
        ends = ends.astype(np.int32 if len(self) < 2**31 else np.int64)
        ones = np.ones(len(self), dtype=np.float32)
        matrix = sparse.csr_matrix((ones, items, ends), shape=(self.n_users, self.n_items))
        matrix.sum_duplicates()
        matrix.data[:] = 1.0
        return matrix

    def write(self, path: Path) -> None:
        """Write the interactions as parquet to ``path``; user ids and I travel in the file's metadata."""
        metadata = {"ilm_lightning": json.dumps({"user_ids": self.user_ids, "n_items": self.n_items})}
        self.frame.write_parquet(path, metadata=metadata)

    @classmethod
    def read(cls, path: Path, checked: bool = False) -> "Interactions":
        """Read what `write` wrote.

        Args:
            path: the file.
            checked: whether its bytes were compared with a checksum (see `schema.read_parquet`).

        Returns:
            The interactions.

        Raises:
            DataError: a missing or damaged file, or parquet that `write` did not write.
        """
        frame = read_parquet(path, checked)
        header = _header(path)
        try:
            return cls(frame, header["user_ids"], header["n_items"])
        except (*UNREADABLE, DataError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: not our interactions ({first_line(error)}); delete it and it is built again"
            ) from error

    @staticmethod
    def read_user_ids(path: Path) -> list[str]:
        """Read only the users' ids of what `write` wrote.

        Raises:
            DataError: as `read`.
        """
        return list(_header(path).get("user_ids", []))


def _header(path: Path) -> dict[str, Any]:
    """What `Interactions.write` put into the file's metadata."""
    try:
        header = json.loads(pl.read_parquet_metadata(path).get("ilm_lightning") or "null")
    except (*UNREADABLE, ValueError) as error:
        raise DataError(
            f"{path}: not readable as parquet ({first_line(error)}); delete it and it is built again"
        ) from error
    if not isinstance(header, dict):
        raise DataError(f"{path}: not an interactions file of this package; delete it and it is built again")
    return header


def _item(row: dict[str, Any]) -> Item:
    """Turn a frame's row into an `Item`."""
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in row.items()}
    return Item(**values)
