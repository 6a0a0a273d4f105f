"""A viewer's profile in words, written by rule from the viewer's ratings: what they watch, like and dislike."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ilm_lightning.data.item import Item
from ilm_lightning.tasks.elm.facts import usable
from ilm_lightning.tasks.elm.teacher import pick
from ilm_lightning.tasks.elm.vocabulary import DEMONYMS, genre_label, known_countries, known_genres
from ilm_lightning.tasks.elm.wording import article, listing, sentence_case

Rated = Sequence[tuple[Item, float]]
# Ratings of its mean that an entry is pulled towards: two lucky films make no favourite.
_SHRINK = 5.0
_SHRINK_PEOPLE = 2.0
# Shrunk stars above or below the viewer's own mean from which a liking is told.
_LIKED = 0.05
_NAMED = 0.15
_SHARE_ABROAD = 0.12
_GENEROUS = 0.35
_LEAST = 3


@dataclass(frozen=True)
class Liking:
    """How a viewer takes one kind of film.

    Attributes:
        name: A genre, a decade, a person or a country.
        count: Films of that kind that were rated.
        gap: Mean rating of these above the viewer's mean, shrunk towards 0.
    """

    name: str
    count: int
    gap: float


def likings(history: Rated, names: Callable[[Item], Iterable[str]], shrink: float = _SHRINK) -> list[Liking]:
    """Measure how a viewer takes each genre, decade or person.

    Args:
        history: Films and ratings.
        names: What a film counts for.
        shrink: Weight of the prior at the viewer's mean, in ratings.

    Returns:
        The kinds, most-rated first, equal ones by name.
    """
    mean = sum(rating for _, rating in history) / max(len(history), 1)
    gaps: dict[str, list[float]] = {}
    for item, rating in history:
        for name in dict.fromkeys(names(item)):
            gaps.setdefault(name, []).append(rating - mean)
    found = [Liking(name, len(values), sum(values) / (len(values) + shrink)) for name, values in gaps.items()]
    return sorted(found, key=lambda liking: (-liking.count, liking.name))


def write_profile(history: Rated, typical: float, key: str) -> str | None:
    """Write a viewer's profile.

    Args:
        history: Films and ratings that the profile may rest on.
        typical: Mean rating of the other viewers.
        key: Chooses the wording.

    Returns:
        Two to five sentences; None where fewer than three films with a known genre were rated.
    """
    genres = likings(history, lambda item: known_genres(item.genres))
    if sum(bool(known_genres(item.genres)) for item, _ in history) < _LEAST:
        return None
    decades = likings(history, lambda item: [item.decade] if item.decade else [])
    sentences = [
        _watches(history, genres, decades, key),
        _likes(genres, decades, key),
        _dislikes(genres, key),
        _people(history, key),
        _habits(history, typical, key),
    ]
    return sentence_case(" ".join(sentence for sentence in sentences if sentence))


def _choose(key: str, part: str, *wordings: str) -> str:
    return wordings[pick(len(wordings), "profile", part, key)]


def _plurals(genres: Iterable[Liking]) -> str:
    return listing([genre_label((genre.name,), plural=True) for genre in genres])


def _watches(history: Rated, genres: Sequence[Liking], decades: Sequence[Liking], key: str) -> str:
    size = "casual" if len(history) < 40 else "keen" if len(history) < 150 else "devoted"
    when = f" of the {decades[0].name}" if decades else ""
    often = f"{_plurals(genres[:2])}{when}"
    return _choose(
        key,
        "watches",
        f"{article(size)} viewer who mostly watches {often}.",
        f"this {size} viewer turns most often to {often}.",
        f"{often}: that is what this {size} viewer mostly watches.",
    )


def _likes(genres: Sequence[Liking], decades: Sequence[Liking], key: str) -> str:
    liked = [genre for genre in sorted(genres, key=lambda genre: -genre.gap)[:3] if genre.gap >= _LIKED]
    best = max(decades, key=lambda decade: decade.gap, default=None)
    era = f"films of the {best.name}" if best is not None and best.gap >= _LIKED else ""
    if not liked:
        return f"the best marks go to {era}." if era else ""
    names = _plurals(liked)
    told = _choose(
        key,
        "likes",
        f"the highest ratings go to {names}",
        f"likes {names} best",
        f"favourites are {names}",
    )
    return f"{told}{f', and to {era}' if era and told.startswith('the') else f', along with {era}' if era else ''}."


def _dislikes(genres: Sequence[Liking], key: str) -> str:
    low = [genre for genre in sorted(genres, key=lambda genre: genre.gap)[:2] if genre.gap <= -_LIKED]
    if not low:
        return ""
    names = _plurals(low)
    return _choose(
        key, "dislikes", f"{names} fare worst.", f"is hardest on {names}.", f"has little patience for {names}."
    )


def _people(history: Rated, key: str) -> str:
    people = likings(history, lambda item: usable((*item.directors, *item.cast)), _SHRINK_PEOPLE)
    loved = [person for person in people if person.count > 1 and person.gap >= _NAMED]
    names = [person.name for person in sorted(loved, key=lambda person: -person.gap)[:2]]
    if not names:
        return ""
    who = listing(names)
    return _choose(key, "people", f"is fond of the films of {who}.", f"admires {who}.", f"seeks out {who}.")


def _habits(history: Rated, typical: float, key: str) -> str:
    mean = sum(rating for _, rating in history) / len(history)
    abroad = likings(history, lambda item: (name for name in known_countries(item.countries) if name != _HOME))
    parts = []
    if abroad and abroad[0].count >= _SHARE_ABROAD * len(history):
        parts.append(f"often watches {DEMONYMS[abroad[0].name]} films")
    if mean - typical >= _GENEROUS:
        parts.append(_choose(key, "generous", "gives high marks on the whole", "is a generous judge"))
    elif typical - mean >= _GENEROUS:
        parts.append(_choose(key, "strict", "gives low marks on the whole", "is a strict judge"))
    return f"{' and '.join(parts)}." if parts else ""


_HOME = "United States"
