"""One film as named pieces of text: every field a sentence plan may use, with the kinds of facts that it names."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ilm_lightning.data.item import Item
from ilm_lightning.tasks.elm.opinions import (
    RATED,
    Opinion,
    critic_score,
    era,
    foreign_language,
    remedies,
    strengths,
    tastes,
    weaknesses,
)
from ilm_lightning.tasks.elm.vocabulary import (
    DEMONYMS,
    GENRES,
    genre_label,
    known_countries,
    known_genres,
    known_languages,
    mentions,
)
from ilm_lightning.tasks.elm.wording import listing

# Phrase fields of a genre -> the word that joins the phrases of two genres.
_JOINS = {
    "premise": " while ",
    "setting": " and ",
    "draw": " plus ",
    "theme": " as well as ",
    "praise": "; ",
    "fault": "; ",
    "gripe": "; ",
    "risk": " along with ",
    "gag": ", and ",
    "sorrow": ", and ",
    "dread": ", and ",
    "fix": "; ",
    "viewer": " as well as ",
    "hook": ". Then ",
    "tonight": ", and ",
    "surprise": ", and ",
    "warn": ", and ",
    "skip": " and ",
}
_VERDICTS = (
    (90, "adored by critics"),
    (75, "praised by critics"),
    (60, "mostly liked by critics"),
    (40, "met with divided reviews"),
    (20, "mostly disliked by critics"),
    (0, "panned by critics"),
)
AUDIENCES = ("a small audience", "a modest audience", "a large audience", "a huge audience")
POPULARITY = ("little-seen", "modestly known", "popular", "hugely popular")

Piece = tuple[str, frozenset[str]]


@dataclass(frozen=True)
class CatalogContext:
    """What a fact means beside the other films of the catalogue.

    Attributes:
        audience: Ratings from which a film counts as modestly known, popular, hugely popular.
        credits: Films per person; decides which cast members are named first.
    """

    audience: tuple[int, int, int] = (8, 30, 80)
    credits: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_items(cls, items: Iterable[Item]) -> "CatalogContext":
        """Take the thresholds from a catalogue: its lower third, upper quarter and top tenth."""
        counts: list[int] = []
        cast: Counter[str] = Counter()
        for item in items:
            counts.append(item.n_ratings)
            cast.update(item.cast)
        low, high, top = (int(x) for x in np.quantile(counts or [0], (0.33, 0.75, 0.9), method="higher"))
        return cls((max(low, 1), max(high, 2), max(top, 3)), dict(cast))

    def following(self, item: Item) -> int:
        """Size of an item's audience, 0 (small) to 3 (huge)."""
        return sum(item.n_ratings >= bound for bound in self.audience)


@dataclass(frozen=True)
class Film:
    """A film and its pieces of text.

    Attributes:
        item: The catalogue row.
        genres: Known genres, most telling first.
        pieces: Field name -> (text, kinds of facts the text names).
    """

    item: Item
    genres: tuple[str, ...]
    pieces: Mapping[str, Piece]

    @classmethod
    def of(cls, item: Item, context: CatalogContext) -> "Film":
        """Work out every piece of text that the film's facts allow."""
        genres = known_genres(item.genres)
        pieces: dict[str, Piece] = {}
        following = context.following(item)
        if genres:
            pieces |= _genre_pieces(genres)
        pieces |= _fact_pieces(item, following)
        pieces |= _people_pieces(item, context)
        if genres:
            pieces |= _cards(pieces)
        for letter, opinions in (
            ("plus", strengths(item, following)),
            ("minus", weaknesses(item, following)),
            ("remedy", remedies(item)),
            ("taste", tastes(item)),
        ):
            pieces |= _opinion_pieces(letter, opinions)
        return cls(item, genres, pieces)


def _named(text: str, *kinds: str) -> Piece:
    return text, frozenset(kinds)


def _genre_pieces(genres: tuple[str, ...]) -> dict[str, Piece]:
    words = [GENRES[name] for name in genres]
    pieces = {
        "label": _named(genre_label(genres), "genre"),
        "full_label": _named(genre_label(genres, full=True), "genre"),
        "plural": _named(genre_label(genres, plural=True), "genre"),
        "kinds": _named(listing([entry.kind for entry in words]), "genre"),
    }
    for name, join in _JOINS.items():
        pieces[name] = _named(join.join(getattr(entry, name) for entry in words[:2]))
        pieces[f"{name}1"] = _named(getattr(words[0], name))
        if len(words) > 1:
            pieces[f"{name}2"] = _named(getattr(words[1], name))
    moods = [entry.mood.split(" and ")[0] for entry in words[:3]]
    pieces["mood"] = _named(listing(moods) if len(words) > 1 else words[0].mood)
    for side in ("good", "bad"):
        # One phrase of each genre before a second of any.
        phrases = [getattr(entry, side)[turn] for turn in range(3) for entry in words[:3]]
        for place, phrase in enumerate(phrases, start=1):
            pieces[f"{side}{place}"] = _named(phrase)
    return pieces


def _fact_pieces(item: Item, following: int) -> dict[str, Piece]:
    pieces = {
        "crowd": _named(AUDIENCES[following], "audience"),
        "popular": _named(POPULARITY[following], "audience"),
    }
    if item.year is not None:
        decade = f"{item.year // 10 * 10}s"
        pieces |= {"year": _named(str(item.year), "era"), "dec": _named(decade, "era")}
        pieces |= {"decade": _named(f"the {decade}", "era"), "era": _named(era(item.year), "era")}
        pieces["flavour"] = _named(era(item.year).removeprefix("the "), "era")
    countries = main_countries(known_countries(item.countries))
    if countries:
        pieces["nation"] = _named("-".join(DEMONYMS[country] for country in countries), "nation")
        if countries != ("United States",):
            pieces["abroad"] = pieces["nation"]
    if language := foreign_language(item):
        pieces["foreign"] = _named(f"{language}-language", "language")
    if item.runtime:
        pieces["minutes"] = _named(f"{item.runtime} minutes", "length")
    score = critic_score(item)
    if score is not None:
        pieces["liked"] = _named(f"{score}% of critics liked it", "reception")
        pieces["verdict"] = _named(next(words for least, words in _VERDICTS if score >= least), "reception")
        pieces["acclaim" if score >= 60 else "panning"] = pieces["verdict"]
    if item.certificate in RATED:
        pieces["rated"] = _named(f"rated {item.certificate}", "certificate")
    return pieces


def main_countries(countries: tuple[str, ...]) -> tuple[str, ...]:
    """One or two countries; of a longer list, which catalogues sort by name, the United States alone or none."""
    if len(countries) <= 2:
        return countries
    return tuple(name for name in countries if name == "United States")


def usable(names: Sequence[str]) -> list[str]:
    """Names of people without repetitions; one that reads like another fact ("Dawn French") is passed over."""
    return [name for name in dict.fromkeys(names) if name.strip() and not any(mentions(name).values())]


def _cast(item: Item, context: CatalogContext) -> list[str]:
    """Cast members that may be named, those with the most films first."""
    directors = usable(item.directors)
    names = [name for name in usable(item.cast) if name not in directors]
    return sorted(names, key=lambda name: -context.credits.get(name, 0))


def _people_pieces(item: Item, context: CatalogContext) -> dict[str, Piece]:
    """Name directors, writers and cast."""
    pieces: dict[str, Piece] = {}
    directors = usable(item.directors)
    if directors:
        pieces["director"] = _named(listing(directors[:2]), "director")
    if writers := [name for name in usable(item.writers) if name not in directors]:
        pieces["writer"] = _named(listing(writers[:2]), "writer")
    cast = _cast(item, context)
    if len(cast) > 1:
        pieces["cast"] = _named(listing(cast[:2]), "cast")
        pieces["star"] = _named(cast[0], "cast")
    return pieces


def _cards(pieces: Mapping[str, Piece]) -> dict[str, Piece]:
    """Label the film with decade, country and genres; short of "nation" a plain "American" stays unsaid."""
    cards: dict[str, Piece] = {}
    for name, parts in (
        ("card", ("dec", "abroad", "label")),
        ("full_card", ("dec", "abroad", "full_label")),
        ("nation_card", ("dec", "nation", "full_label")),
        ("sort", ("abroad", "full_label")),
    ):
        used = [pieces[part] for part in parts if part in pieces]
        cards[name] = (" ".join(text for text, _ in used), frozenset().union(*(kinds for _, kinds in used)))
    return cards


def _opinion_pieces(name: str, opinions: Sequence[Opinion]) -> dict[str, Piece]:
    pieces: dict[str, Piece] = {}
    for place, opinion in enumerate(opinions, start=1):
        pieces[f"{name}{place}"] = _named(opinion.clause, opinion.kind)
        pieces[f"{name}_thing{place}"] = _named(opinion.thing, opinion.kind)
    return pieces


def facts_of_item(item: Item) -> dict[str, set[str]]:
    """The facts of an item in the vocabulary of `mentions`, for slot accuracy.

    Args:
        item: The catalogue row.

    Returns:
        Sets of strings under "genres", "countries", "languages", "years", "decades", "minutes", "scores",
        "directors", "writers", "cast" and "certificates"; empty where unknown.
    """
    score = critic_score(item)
    return {
        "genres": set(known_genres(item.genres)),
        "countries": set(known_countries(item.countries)),
        "languages": set(known_languages(item.languages)),
        "years": set() if item.year is None else {str(item.year)},
        "decades": set() if item.year is None else {f"{item.year // 10 * 10}s"},
        "minutes": {str(item.runtime)} if item.runtime else set(),
        "scores": set() if score is None else {str(score)},
        "directors": set(item.directors),
        "writers": set(item.writers),
        "cast": set(item.cast),
        "certificates": {item.certificate} if item.certificate in RATED else set(),
    }


def title_prompt(item: Item) -> str:
    """The item as its title, for the reference that reads the title in the prompt."""
    return item.label


def facts_prompt(item: Item, context: CatalogContext) -> str:
    """Write all that the teacher knows of an item, for the reference that reads the facts in the prompt.

    Args:
        item: The catalogue row.
        context: The catalogue that gives the audience its measure and says who of the cast is named.

    Returns:
        One line such as "Heat (1995). Genres: Crime, Thriller. ...".
    """
    score = critic_score(item)
    lines = [
        item.label,
        _line("Genres", known_genres(item.genres)),
        _line("Countries", known_countries(item.countries)),
        _line("Languages", known_languages(item.languages)),
        _line("Directors", item.directors),
        _line("Writers", item.writers),
        _line("Cast", _cast(item, context)[:3]),
        f"Length: {item.runtime} minutes" if item.runtime else "",
        "" if score is None else f"Critics: {score}% positive",
        f"Oscars won: at least {item.oscars_won}" if item.oscars_won else "",
        f"Oscar nominations: at least {item.oscar_nominations}" if item.oscar_nominations else "",
        f"Certificate: {item.certificate}" if item.certificate in RATED else "",
        f"Audience: {AUDIENCES[context.following(item)]}",
    ]
    return ". ".join(line for line in lines if line) + "."


def _line(name: str, values: Sequence[str]) -> str:
    return f"{name}: {', '.join(values)}" if values else ""
