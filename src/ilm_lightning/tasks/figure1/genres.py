"""Genome tags that say what an item's genres say already."""

from collections.abc import Iterable


def genre_tags(genres: Iterable[str], tags: Iterable[str]) -> set[str]:
    """Find the tags that name one of an item's genres: its texts and vectors hold them, so they are no answer.

    Args:
        genres: of the item, as "Sci-Fi".
        tags: genome tags.

    Returns:
        Those that are a genre in any spelling; a longer tag ("black comedy") says more than the genre.

    >>> sorted(genre_tags(["Sci-Fi", "Comedy"], ["sci-fi", "scifi", "black comedy", "horror", "comedy"]))
    ['comedy', 'sci-fi', 'scifi']
    """
    names = {_letters(genre) for genre in genres}
    return {tag for tag in tags if _letters(tag) in names}


def _letters(name: str) -> str:
    return "".join(char for char in name.lower() if char.isalnum())
