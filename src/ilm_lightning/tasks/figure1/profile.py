"""A viewer's profile in words, written by rule from the viewer's ratings: what they watch, like and dislike."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from ilm_lightning.data.item import Item
from ilm_lightning.tasks.elm.facts import usable
from ilm_lightning.tasks.elm.teacher import pick
from ilm_lightning.tasks.elm.vocabulary import DEMONYMS, genre_label, known_countries, known_genres
from ilm_lightning.tasks.elm.wording import article, listing, sentence_case

# Ratings of its mean that an entry is pulled towards: two lucky films make no favourite.
_SHRINK = 5.0
_SHRINK_PEOPLE = 2.0
# Shrunk stars above or below the viewer's own mean from which a liking is told.
_LIKED = 0.05
_NAMED = 0.15
_FILMS_OF_A_FAVOURITE = 3
# A country is told from this share of the films, and from so many times the share of other viewers.
_SHARE_ABROAD = 0.05
_MORE_ABROAD = 1.5
_GENEROUS = 0.35
_LEAST = 3
_HOME = "United States"


@dataclass(frozen=True)
class Traits:
    """What of a film counts towards a profile, worked out once a film.

    Attributes:
        genres: Known genres.
        decades: Its decade, as "1990s"; empty where unknown.
        people: Directors and cast with enough films in the catalogue to become anybody's favourites.
        abroad: Known countries other than the United States.
    """

    genres: tuple[str, ...]
    decades: tuple[str, ...]
    people: tuple[str, ...]
    abroad: tuple[str, ...]

    @classmethod
    def of_all(cls, items: Sequence[Item]) -> "list[Traits]":
        """Read them off the films of a catalogue."""
        films = Counter(name for item in items for name in {*item.directors, *item.cast})
        known = {name for name, count in films.items() if count >= _FILMS_OF_A_FAVOURITE}
        named = set(usable(sorted(known)))
        return [
            cls(
                known_genres(item.genres),
                (item.decade,) if item.decade else (),
                tuple(name for name in dict.fromkeys((*item.directors, *item.cast)) if name in named),
                tuple(name for name in known_countries(item.countries) if name != _HOME),
            )
            for item in items
        ]


Rated = Sequence[tuple[Traits, float]]


@dataclass(frozen=True)
class Typical:
    """What viewers do on the whole, beside which one of them is generous or looks abroad.

    Attributes:
        mean: Mean rating.
        abroad: Share of the rated films from each country.
    """

    mean: float
    abroad: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, ratings: Rated) -> "Typical":
        """Measure it on the ratings of training viewers; of none, a mean of 0."""
        counts = Counter(name for traits, _ in ratings for name in traits.abroad)
        n = max(len(ratings), 1)
        return cls(sum(rating for _, rating in ratings) / n, {name: count / n for name, count in counts.items()})


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


def likings(history: Rated, kind: str, shrink: float = _SHRINK, least: int = 1) -> list[Liking]:
    """Measure how a viewer takes each genre, decade, person or country.

    Args:
        history: Films and ratings.
        kind: Field of `Traits`.
        shrink: Weight of the prior at the viewer's mean, in ratings.
        least: Kinds with fewer films are left out.

    Returns:
        The kinds, most-rated first, equal ones by name.
    """
    mean, names = _mean(history), attrgetter(kind)
    counts: dict[str, int] = {}
    sums: dict[str, float] = {}
    for traits, rating in history:
        for name in names(traits):
            counts[name] = counts.get(name, 0) + 1
            sums[name] = sums.get(name, 0.0) + rating - mean
    found = [Liking(name, n, sums[name] / (n + shrink)) for name, n in counts.items() if n >= least]
    return sorted(found, key=lambda liking: (-liking.count, liking.name))


def _mean(history: Rated) -> float:
    return sum(rating for _, rating in history) / max(len(history), 1)


def write_profile(history: Rated, typical: Typical, key: str) -> str | None:
    """Write a viewer's profile.

    Args:
        history: Films and ratings that the profile may rest on.
        typical: The other viewers.
        key: Chooses the wording.

    Returns:
        Two to five sentences; None where fewer than three films with a known genre were rated.
    """
    if sum(bool(traits.genres) for traits, _ in history) < _LEAST:
        return None
    genres, decades = likings(history, "genres"), likings(history, "decades")
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
    people = likings(history, "people", _SHRINK_PEOPLE, _FILMS_OF_A_FAVOURITE)
    loved = [person for person in people if person.gap >= _NAMED]
    names = [person.name for person in sorted(loved, key=lambda person: -person.gap * person.count)[:2]]
    if not names:
        return ""
    who = listing(names)
    return _choose(key, "people", f"is fond of the films of {who}.", f"admires {who}.", f"seeks out {who}.")


def _habits(history: Rated, typical: Typical, key: str) -> str:
    parts, n = [], len(history)
    often = [
        country
        for country in likings(history, "abroad")
        if country.count >= max(_SHARE_ABROAD, _MORE_ABROAD * typical.abroad.get(country.name, 0.0)) * n
    ]
    if often:
        parts.append(f"often watches {DEMONYMS[often[0].name]} films")
    above = _mean(history) - typical.mean
    if above >= _GENEROUS:
        parts.append(_choose(key, "generous", "gives high marks on the whole", "is a generous judge"))
    elif above <= -_GENEROUS:
        parts.append(_choose(key, "strict", "gives low marks on the whole", "is a strict judge"))
    return f"{' and '.join(parts)}." if parts else ""
