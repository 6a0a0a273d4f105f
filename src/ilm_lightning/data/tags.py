"""Tags of people and of the tag genome: cleaned, counted, and the best of each item."""

import html
import re
import unicodedata
from dataclasses import dataclass

import polars as pl

from ilm_lightning.data.errors import DataError

LONGEST = 60
"""Longer tags are remarks ("If you liked the drama of this film I recommend ...")."""
_QUOTED = re.compile(r'["“”„]+([^"“”„]*)["“”„]+')
# Marks of UTF-8 that was read as Latin-1 or Windows-1252: "RenÃ©e".
_MISREAD = frozenset("ÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóô")


@dataclass(frozen=True)
class TagSettings:
    """Which tags become text of an item.

    Attributes:
        per_item: user tags of an item, those of most users first; 0 leaves them out.
        genome_per_item: genome tags of an item, most relevant first; 0 leaves them out.
        genome_min_relevance: genome tags below this relevance are never taken.
        genome_in_text: False leaves out genome tags and every user tag that is one: then no text or vector of an item
            tells its genome tags, as a task that asks for them must have it. Genres stay; that task passes over them.
    """

    per_item: int = 10
    genome_per_item: int = 10
    genome_min_relevance: float = 0.5
    genome_in_text: bool = True

    def __post_init__(self) -> None:
        if self.per_item < 0 or self.genome_per_item < 0:
            raise DataError("tags of an item: give a number of at least 0; 0 leaves them out")
        if not 0 <= self.genome_min_relevance <= 1:
            raise DataError(f"smallest relevance {self.genome_min_relevance:g} of a genome tag: it lies in [0, 1]")


def clean_tag(raw: str, longest: int | None = LONGEST) -> str:
    """Bring a tag as somebody typed it to the form by which tags are counted.

    Args:
        raw: the tag.
        longest: characters that it may have; None for any number, where tags are a list that somebody drew up.

    Returns:
        Lower case, HTML entities and misread UTF-8 mended, no control characters, no quotes around the whole, single
        spaces; empty where no letter or digit is left or the tag is longer than `longest`.

    >>> clean_tag(' Wallace &amp; Gromit'), clean_tag("RenÃ©e Zellweger"), clean_tag('"Film Noir"'), clean_tag(":-)")
    ('wallace & gromit', 'renée zellweger', 'film noir', '')
    """
    text = html.unescape(raw)
    if not (text.isascii() and text.isprintable()):
        text = _mended(text)
        # format characters join emoji and scripts, the rest of "C" cannot be seen
        text = "".join(char if unicodedata.category(char) not in ("Cc", "Cs", "Co", "Cn") else " " for char in text)
        text = unicodedata.normalize("NFC", text).replace("\ufffd", " ")
    text = " ".join(text.split()).lower()
    if quoted := _QUOTED.fullmatch(text):
        text = quoted[1].strip()
    fits = longest is None or len(text) <= longest
    return text if fits and any(char.isalnum() for char in text) else ""


def _mended(text: str) -> str:
    if _MISREAD.isdisjoint(text):
        return text
    for encoding in ("latin-1", "cp1252"):
        try:
            return text.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
    return text


def best_user_tags(tags: pl.DataFrame, per_item: int, leave_out: frozenset[str] = frozenset()) -> pl.DataFrame:
    """Choose each movie's tags: those of most users first, then those that more users give anywhere.

    Args:
        tags: columns userId, movieId, tag (raw).
        per_item: tags of a movie.
        leave_out: cleaned tags that no movie gets.

    Returns:
        Columns movieId and tags.
    """
    spelled = tags["tag"].drop_nulls().unique()
    cleaned = {raw: clean_tag(raw) for raw in spelled.to_list()}
    cleaned = {raw: tag for raw, tag in cleaned.items() if tag and tag not in leave_out}
    forms = pl.DataFrame(
        {"tag": list(cleaned), "clean": list(cleaned.values())}, schema={"tag": pl.String, "clean": pl.String}
    )
    given = tags.join(forms, on="tag").select("userId", "movieId", "clean").unique()
    anywhere = given.select("userId", "clean").unique().group_by("clean").agg(pl.len().alias("anywhere"))
    counted = given.group_by("movieId", "clean").agg(pl.len().alias("here")).join(anywhere, on="clean")
    ordered = counted.sort("movieId", "here", "anywhere", "clean", descending=[False, True, True, False])
    return ordered.group_by("movieId", maintain_order=True).agg(pl.col("clean").head(per_item).alias("tags"))
