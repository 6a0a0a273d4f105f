"""One item and its texts."""

from collections.abc import Sequence
from dataclasses import dataclass

from ilm_lightning.data.errors import DataError
from ilm_lightning.data.schema import LIST_COLUMNS

TEXT_FIELDS = ("title", "year", "decade", "text", *LIST_COLUMNS)
CAST_IN_TEXT = 3


@dataclass(frozen=True)
class Item:
    """One row of the catalogue.

    Attributes:
        index: row of the catalogue.
        item_id: the item's id in the source files.
        title: display form, as "The Client"; empty where unknown.
        year: year of release.
        runtime: minutes.
        critic_score: share of positive reviews, 0-100.
        n_reviews: reviews behind ``critic_score``.
        tags: words that people gave it, most-given first.
        genome_tags: tags that its tag genome finds relevant, most relevant first.
        cast: in alphabetical order where it comes from the film facts, so the first name is not the lead.
        certificate: age rating.
        text: free description.
        group: normalised title and year, the unit of the split.
        n_ratings: ratings of this item in the interactions.
        aliases: other titles of the item.
    """

    index: int
    item_id: str
    title: str
    year: int | None = None
    genres: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    genome_tags: tuple[str, ...] = ()
    directors: tuple[str, ...] = ()
    writers: tuple[str, ...] = ()
    cast: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    studios: tuple[str, ...] = ()
    runtime: int | None = None
    critic_score: int | None = None
    n_reviews: int | None = None
    oscars_won: int = 0
    oscar_nominations: int = 0
    certificate: str | None = None
    text: str | None = None
    group: str = ""
    n_ratings: int = 0
    aliases: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Title and year, as "Heat (1995)"; the id where there is no title."""
        if not self.title:
            return f"item {self.item_id}"
        return self.title if self.year is None else f"{self.title} ({self.year})"

    @property
    def decade(self) -> str | None:
        """The year's decade in words, as "1990s"."""
        return None if self.year is None else f"{self.year // 10 * 10}s"

    @property
    def has_text(self) -> bool:
        """Whether anything is known that a text encoder could read."""
        return bool(self.title or self.genres or self.tags or self.genome_tags or self.text)


def describe(item: Item) -> str | None:
    """Describe an item in one readable line: title, genres, tags, description, then facts.

    Args:
        item: the item.

    Returns:
        The line, or None where the item has neither title, genres, tags nor description.
    """
    if not item.has_text:
        return None
    parts = [item.label] if item.title else []
    tags = tuple(dict.fromkeys(item.tags + item.genome_tags))
    parts += [f"{name}: {', '.join(have)}" for name, have in (("Genres", item.genres), ("Tags", tags)) if have]
    parts += [" ".join(item.text.split())] if item.text else []
    parts += [f"Released in the {item.decade}"] if item.decade else []
    for opening, names in (
        ("Made in", item.countries),
        ("Language:", item.languages),
        ("Directed by", item.directors),
        ("Cast includes", item.cast[:CAST_IN_TEXT]),
    ):
        parts += [f"{opening} {', '.join(names)}"] if names else []
    return " ".join(part if part.endswith((".", "!", "?")) else f"{part}." for part in parts)


def text_fields(item: Item, names: Sequence[str]) -> list[str]:
    """List the short texts that the semantic encoder encodes apart.

    Args:
        item: the item.
        names: which of `TEXT_FIELDS`, in this order; "title" gives "Heat (1995)".

    Returns:
        One string per title, genre, tag..., each once; empty where the item has no such text.

    Raises:
        DataError: an unknown field name.
    """
    unknown = [name for name in names if name not in TEXT_FIELDS]
    if unknown:
        raise DataError(f"unknown text field {unknown[0]!r}; choose from {', '.join(TEXT_FIELDS)}")
    texts: list[str] = []
    for name in names:
        if name == "title":
            texts += [item.label] if item.title else []
        elif name in LIST_COLUMNS:
            texts += getattr(item, name)
        else:
            value = getattr(item, name)
            texts += [str(value)] if value else []
    return list(dict.fromkeys(texts))
