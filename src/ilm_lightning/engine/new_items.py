"""Items that a run has never seen, as a user describes them, and their vectors."""

import difflib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilm_lightning.engine.loaded import ITEMS, USERS, LoadedRun, RunError
from ilm_lightning.reporting.text import counted

if TYPE_CHECKING:
    from ilm_lightning.data.tables import ItemCatalog
    from ilm_lightning.embeddings.vectors import ItemVectors

log = logging.getLogger("ilm_lightning")

LISTS = ("genres", "tags", "directors", "writers", "cast", "countries", "languages", "studios")
FACTS = ("title", "year", "text", *LISTS)
"""What may be said of a new item."""
NEW = "new"
"""Id of an item that is described by arguments."""
MOST_GENRES = 5
"""Genres without precedent that a remark names."""
STAND_IN = "; the mean of the training items stands in for it"


@dataclass(frozen=True)
class NewItems:
    """New items and who rated them.

    Attributes:
        catalog: the items.
        texts: per item the texts that its semantic vector is made of.
        raters: per item the rows of the run's users.
        strangers: per item the number of raters that the run does not know.
        remarks: what the user should know about what was read.
    """

    catalog: "ItemCatalog"
    texts: list[list[str]]
    raters: list[list[int]]
    strangers: list[int]
    remarks: list[str] = field(default_factory=list)


def split_list(text: str) -> list[str]:
    """Several values in one argument.

    >>> split_list("Crime|Thriller"), split_list("[summary, pitch]"), split_list("")
    (['Crime', 'Thriller'], ['summary', 'pitch'], [])
    """
    inner = text.strip().removeprefix("[").removesuffix("]")
    return [part.strip() for part in inner.split("|" if "|" in inner else ",") if part.strip()]


def described(facts: Mapping[str, str]) -> "ItemCatalog":
    """One item from what is said of it.

    Args:
        facts: any of ``FACTS``; lists parted by ``|`` or commas.

    Returns:
        A catalogue of one item.

    Raises:
        RunError: a year that is none.
    """
    from ilm_lightning.data.tables import ItemCatalog
    from ilm_lightning.data.titles import parse_title

    parsed = parse_title(facts.get("title", ""))
    year = facts.get("year", "").strip()
    if year and not (year.isdecimal() and len(year) <= 4):
        raise RunError(f"year={year} is no year; give up to four digits, as year=1995")
    row: dict[str, Any] = {name: split_list(facts[name]) for name in LISTS if name in facts}
    row |= {"item_id": NEW, "title": parsed.title, "year": int(year) if year else parsed.year}
    row["text"] = facts.get("text", "").strip() or None
    return ItemCatalog.from_rows([row])


def read_new_items(run: LoadedRun, options: Mapping[str, str]) -> NewItems:
    """Read new items from arguments and files.

    Args:
        run: whose users and text fields count.
        options: any of ``FACTS`` for one item or ``items`` (a file); ``ratings`` (a file) or ``users`` (ids).

    Returns:
        The items; each has something that the run's encoder reads.

    Raises:
        ValueError: nothing is said of an item that this run could read, or a file that cannot be used.
    """
    facts = {name: options[name] for name in FACTS if options.get(name, "").strip()}
    if facts and "items" in options:
        raise RunError(f"items= describes the items already; leave out {', '.join(f'{name}=' for name in facts)}")
    if "users" in options and "ratings" in options:
        raise RunError("users= and ratings= both say who rated the item; give one of them")
    if "users" in options and "items" in options:
        raise RunError(
            "users= says who rated one item that arguments describe; with items=FILE give ratings=FILE, columns user "
            "and item"
        )
    if "users" in options and not split_list(options["users"]):
        raise RunError("users= names nobody; give ids of the run's users, as users=1,7,9, or leave it out")
    if not facts and not {"items", "ratings", "users"} & set(options):
        raise RunError(
            "say something of the new item: title=, genres=, ..., or who rated it: ratings=FILE or users=IDS"
        )
    pairs = _pairs(options, run)
    catalog = _catalog(facts, options, pairs, run)
    raters, strangers = _raters(run, catalog, pairs)
    texts, remarks = _texts(run, catalog)
    found = NewItems(catalog, texts, raters, strangers, remarks)
    for row in range(len(catalog)):
        _check_readable(run, found, row)
    return found


def _pairs(options: Mapping[str, str], run: LoadedRun) -> list[tuple[str, str]]:
    """Item and user ids of the ratings."""
    if "users" in options:
        return [(NEW, user) for user in dict.fromkeys(split_list(options["users"]))]
    if "ratings" not in options:
        return []
    from ilm_lightning.data.custom import read_raters

    path = _file("ratings", options["ratings"])
    frame = read_raters(path, _columns(run))
    if "item" in frame.columns:
        return frame.select("item", "user").rows()
    if "items" in options:
        raise RunError(f"{path}: column 'item' is missing; with items=FILE it says which item was rated")
    return [(NEW, user) for user in frame["user"]]


def _columns(run: LoadedRun) -> dict[str, str]:
    return dict(run.config.data.columns) if run.config.data.kind == "custom" else {}


def _file(key: str, value: str) -> Path:
    try:
        path = Path(value).expanduser()
    except RuntimeError as error:
        raise RunError(f"{key}={value}: there is no such user's folder; write the whole path") from error
    if not path.is_file():
        raise RunError(f"{key}={value}: there is no such file")
    return path


def _catalog(
    facts: Mapping[str, str], options: Mapping[str, str], pairs: Sequence[tuple[str, str]], run: LoadedRun
) -> "ItemCatalog":
    """The items of the file, or the one of the arguments; items that only ratings name come after."""
    import polars as pl

    from ilm_lightning.data.custom import read_items
    from ilm_lightning.data.tables import ItemCatalog

    rated = list(dict.fromkeys(item for item, _ in pairs))
    if "items" not in options:
        if facts and rated not in ([], [NEW]):
            if len(rated) > 1:
                raise RunError(
                    f"ratings={options['ratings']} speaks of {len(rated)} items; describe them in items=FILE"
                )
            one = described(facts).frame.drop("index").with_columns(pl.lit(rated[0]).alias("item_id"))
            return ItemCatalog(one)
        if facts:
            return described(facts)
        return ItemCatalog.from_rows([{"item_id": item, "title": ""} for item in rated])
    path = _file("items", options["items"])
    separator = run.config.data.list_separator if run.config.data.kind == "custom" else "|"
    frame = read_items(path, _columns(run), separator, settings=False)
    known = set(frame["item_id"].cast(pl.String))
    extra = pl.DataFrame({"item_id": [item for item in rated if item not in known]}, schema={"item_id": pl.String})
    return ItemCatalog(
        pl.concat([frame.with_columns(pl.col("item_id").cast(pl.String)), extra], how="diagonal_relaxed")
    )


def _raters(
    run: LoadedRun, catalog: "ItemCatalog", pairs: Sequence[tuple[str, str]]
) -> tuple[list[list[int]], list[int]]:
    raters: list[list[int]] = [[] for _ in range(len(catalog))]
    strangers = [0] * len(catalog)
    if not pairs:
        return raters, strangers
    if "behavioral" not in run.vectors.dims:
        raise RunError(f"{run.folder} reads {', '.join(run.vectors.dims)} vectors only: ratings tell it nothing")
    from ilm_lightning.data.schema import read_parquet

    path = run.folder / ITEMS / USERS
    if not path.is_file():
        raise RunError(f"{path} is missing: run the training command of this run again, it adds the file at once")
    rows = {user: row for row, user in enumerate(read_parquet(path)["user"])}
    place = {item.item_id: row for row, item in enumerate(catalog)}
    for item, user in pairs:
        if user in rows:
            raters[place[item]].append(rows[user])
        else:
            strangers[place[item]] += 1
    if not any(raters):
        example = ", ".join(list(rows)[:3])
        raise RunError(f"none of the {len(pairs)} raters is a user of this run; its users are called {example}, ...")
    return raters, strangers


def _texts(run: LoadedRun, catalog: "ItemCatalog") -> tuple[list[list[str]], list[str]]:
    """The texts that are encoded apart, and remarks on what is not read as it is meant."""
    semantic = "semantic" in run.vectors.dims
    fields = list(run.config.encoder.text_fields) if semantic else []
    texts = [catalog.text_fields(row, fields) for row in range(len(catalog))]
    unread = [name for name in FACTS if any(getattr(item, name) for item in catalog) and name not in _read(fields)]
    remarks: list[str] = []
    if semantic and "text" in unread:
        for own, item in zip(texts, catalog, strict=True):
            own += [" ".join(item.text.split())] if item.text else []
        remarks.append(f"text: this run's items were encoded from {', '.join(fields)}; it counts as one more of these")
        unread.remove("text")
    if unread:
        reads = f"this run's items were encoded from {', '.join(fields)}" if semantic else "this run reads ratings only"
        remarks.append(f"{', '.join(unread)}: not read; {reads}")
    return texts, remarks + (_new_genres(run, catalog) if "genres" in fields else [])


def _new_genres(run: LoadedRun, catalog: "ItemCatalog") -> list[str]:
    """A remark on genres that no item of the run has: new ones, or slips of the keyboard."""
    known, given = (table.frame["genres"].explode().drop_nulls().unique().sort() for table in (run.catalog, catalog))
    new = given.filter(~given.is_in(known.to_list())).to_list()
    lower = {genre.casefold(): genre for genre in known}
    told = []
    for genre in new[:MOST_GENRES]:
        near = difflib.get_close_matches(genre.casefold(), lower, n=1)
        told.append(f"{genre} (did you mean {lower[near[0]]}?)" if near else genre)
    more = f" and {len(new) - MOST_GENRES} more" if len(new) > MOST_GENRES else ""
    return [f"genres: no item of this run has {', '.join(told)}{more}; encoded as given"] if new else []


def _read(fields: Sequence[str]) -> set[str]:
    """The facts that text fields tell; a title is encoded with its year, and a decade tells of it too."""
    return {*fields, *(["year"] if {"title", "decade"} & set(fields) else [])}


def _check_readable(run: LoadedRun, items: NewItems, row: int) -> None:
    if items.texts[row] or items.raters[row]:
        return
    reads = " or ".join("ratings" if name == "behavioral" else "text" for name in run.vectors.dims)
    fields = f" ({', '.join(run.config.encoder.text_fields)})" if "semantic" in run.vectors.dims else ""
    label = items.catalog[row].label if items.catalog[row].title else items.catalog[row].item_id
    raise RunError(f"{label}: nothing is said that this run reads; it reads {reads}{fields}")


def vectors_of(run: LoadedRun, items: NewItems) -> "ItemVectors":
    """Place new items among the run's, with its sentence encoder and its users.

    Args:
        run: the run.
        items: from ``read_new_items``.

    Returns:
        Their vectors, source by source.
    """
    from ilm_lightning.assets import resolve
    from ilm_lightning.embeddings.new_items import new_item_vectors
    from ilm_lightning.sentences import SentenceEncoder

    config = run.config
    encoder = None
    if any(items.texts):
        encoder = SentenceEncoder(resolve(config.encoder.text_model, overrides=config.assets).path)
    als = config.encoder.als
    return new_item_vectors(run.vectors, items.texts, items.raters, encoder, als.regularization, als.alpha)


def sources_told(items: NewItems, vectors: "ItemVectors", row: int) -> dict[str, str]:
    """Say in words where each source of a new item came from.

    Args:
        items: the new items.
        vectors: theirs.
        row: which.

    Returns:
        One sentence per source.
    """
    told = {}
    for name in vectors.dims:
        if name == "semantic":
            texts = items.texts[row]
            told[name] = f"from {counted(len(texts), 'text')}: {'; '.join(texts)}" if texts else "no text given"
        else:
            count, left = len(items.raters[row]), items.strangers[row]
            told[name] = f"folded in from {count} of {count + left} raters" if count else "no ratings given"
            if left:
                told[name] += f" ({left} unknown to this run)" if count else f" by users of this run ({left} by others)"
        if told[name].startswith("no "):
            told[name] += STAND_IN
    return told


def notes_on(items: NewItems, vectors: "ItemVectors", row: int) -> list[str]:
    """Say what a new item's vectors do not hold: facts that are not read, users not known, sources not given.

    Args:
        items: the new items.
        vectors: theirs.
        row: which.

    Returns:
        Sentences; none where all that was said is read.
    """
    told = sources_told(items, vectors, row).items()
    lacking = [f"{name}: {words}" for name, words in told if words.endswith(STAND_IN)]
    strange = [f"{name}: {words}" for name, words in told if name == "behavioral" and items.raters[row]]
    return [*(strange if items.strangers[row] else []), *lacking, *items.remarks]
