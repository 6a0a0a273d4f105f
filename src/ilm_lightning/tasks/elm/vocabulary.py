"""What the teacher can name and an evaluator can find again: genres, countries, languages, years, lengths, scores."""

import re
from collections.abc import Iterable, Mapping

from ilm_lightning.tasks.elm.lexicon import GenreWords
from ilm_lightning.tasks.elm.lexicon_dark import DARK
from ilm_lightning.tasks.elm.lexicon_earthly import EARTHLY
from ilm_lightning.tasks.elm.lexicon_light import LIGHT

GENRES: Mapping[str, GenreWords] = {words.name: words for words in (*DARK, *LIGHT, *EARTHLY)}
_ALIASES = {
    "Family": "Children",
    "Music": "Musical",
    "Science Fiction": "Sci-Fi",
    "SciFi": "Sci-Fi",
    "Film Noir": "Film-Noir",
    "Noir": "Film-Noir",
    "Romantic": "Romance",
    "Animated": "Animation",
    "Historical": "History",
    "Sports": "Sport",
    "Biographical": "Biography",
    "Suspense": "Thriller",
}
_BY_LOWER = {name.lower(): name for name in GENRES} | {alias.lower(): name for alias, name in _ALIASES.items()}
# The rarer a genre, the more it tells: phrases come from the first ones.
# fmt: off
_DISTINCTIVE = (
    "Documentary", "Film-Noir", "Western", "Musical", "War", "Horror", "Animation", "Sci-Fi", "Sport",
    "Biography", "Mystery", "Fantasy", "Children", "Romance", "Crime", "Adventure", "Thriller", "Action",
    "History", "Comedy", "Drama",
)
_HEADS = (
    "Documentary", "Western", "Comedy", "Thriller", "Drama", "Musical", "Film-Noir", "Adventure", "Mystery",
    "Horror", "Sci-Fi", "Fantasy", "War", "Crime", "Biography", "History", "Sport", "Action", "Children",
    "Animation", "Romance",
)
_MODIFIERS = (
    "Comedy", "Drama", "Romance", "Animation", "Children", "Biography", "History", "Sport", "Sci-Fi", "Horror",
    "War", "Film-Noir", "Mystery", "Crime", "Fantasy", "Musical", "Action", "Thriller", "Adventure", "Western",
    "Documentary",
)
# fmt: on
GENRES_IN_LABEL = 3
EXTRA_GENRES_IN_LABEL = 2

# Country as the catalogue writes it -> adjective. Former states keep a readable one.
DEMONYMS: Mapping[str, str] = {
    "United States": "American",
    "United Kingdom": "British",
    "France": "French",
    "Germany": "German",
    "Australia": "Australian",
    "Canada": "Canadian",
    "Italy": "Italian",
    "Japan": "Japanese",
    "Ireland": "Irish",
    "Mexico": "Mexican",
    "New Zealand": "New Zealand",
    "Czech Republic": "Czech",
    "Netherlands": "Dutch",
    "Spain": "Spanish",
    "Denmark": "Danish",
    "South Africa": "South African",
    "Sweden": "Swedish",
    "Norway": "Norwegian",
    "Switzerland": "Swiss",
    "Hong Kong": "Hong Kong",
    "India": "Indian",
    "Luxembourg": "Luxembourgish",
    "Russia": "Russian",
    "Hungary": "Hungarian",
    "China": "Chinese",
    "Poland": "Polish",
    "Austria": "Austrian",
    "Iceland": "Icelandic",
    "Finland": "Finnish",
    "Belgium": "Belgian",
    "Yugoslavia": "Yugoslav",
    "Botswana": "Botswanan",
    "Slovenia": "Slovenian",
    "Liechtenstein": "Liechtenstein",
    "Portugal": "Portuguese",
    "Bulgaria": "Bulgarian",
    "Philippines": "Philippine",
    "Soviet Union": "Soviet",
    "West Germany": "West German",
    "Peru": "Peruvian",
    "Thailand": "Thai",
    "Egypt": "Egyptian",
    "Bosnia and Herzegovina": "Bosnian",
    "Vietnam": "Vietnamese",
    "Malta": "Maltese",
    "Slovakia": "Slovak",
    "Morocco": "Moroccan",
    "The Bahamas": "Bahamian",
    "Brazil": "Brazilian",
    "Singapore": "Singaporean",
    "South Korea": "South Korean",
    "Taiwan": "Taiwanese",
    "Argentina": "Argentine",
    "Chile": "Chilean",
    "Colombia": "Colombian",
    "Cuba": "Cuban",
    "Greece": "Greek",
    "Turkey": "Turkish",
    "Israel": "Israeli",
    "Iran": "Iranian",
    "Lebanon": "Lebanese",
    "Romania": "Romanian",
    "Croatia": "Croatian",
    "Serbia": "Serbian",
    "Ukraine": "Ukrainian",
    "Estonia": "Estonian",
    "Latvia": "Latvian",
    "Lithuania": "Lithuanian",
    "Indonesia": "Indonesian",
    "Malaysia": "Malaysian",
    "Pakistan": "Pakistani",
    "Nigeria": "Nigerian",
    "Kenya": "Kenyan",
    "Senegal": "Senegalese",
    "Tunisia": "Tunisian",
    "Algeria": "Algerian",
    "Venezuela": "Venezuelan",
    "Uruguay": "Uruguayan",
    "Ecuador": "Ecuadorian",
}
_COUNTRY_ALIASES = {
    "USA": "United States",
    "US": "United States",
    "UK": "United Kingdom",
    "England": "United Kingdom",
    "Kingdom of Great Britain": "United Kingdom",
    "People's Republic of China": "China",
    "British Hong Kong": "Hong Kong",
    "Federal Republic of Yugoslavia": "Yugoslavia",
    "Czechia": "Czech Republic",
    "Korea": "South Korea",
    "Russian Federation": "Russia",
    "Bahamas": "The Bahamas",
}
_LANGUAGE_ALIASES = {
    "American English": "English",
    "Australian English": "English",
    "British English": "English",
    "Yue Chinese": "Cantonese",
    "Standard Chinese": "Mandarin",
    "Mandarin Chinese": "Mandarin",
    "Chinese": "Mandarin",
}
_WORD_OF_GENRE = {name: re.compile(rf"\b(?:{words.pattern})\b") for name, words in GENRES.items()}
_DEMONYM_PATTERN = re.compile(
    r"\b(" + "|".join(sorted(map(re.escape, DEMONYMS.values()), key=len, reverse=True)) + r")\b(?!-language)"
)
_COUNTRY_OF = {adjective: country for country, adjective in DEMONYMS.items()}
_LANGUAGE_PATTERN = re.compile(r"\b((?:Ancient |Scottish |Yucatec |Serbo-)?[A-Z][\w'’]+)-language\b")


def known_genres(genres: Iterable[str]) -> tuple[str, ...]:
    """Map a catalogue's genre names to the vocabulary's, most telling first; unknown ones are dropped.

    >>> known_genres(("Comedy", "IMAX", "Family", "western"))
    ('Western', 'Children', 'Comedy')
    """
    found = {_BY_LOWER[genre.strip().lower()] for genre in genres if genre.strip().lower() in _BY_LOWER}
    return tuple(sorted(found, key=_DISTINCTIVE.index))


def known_countries(countries: Iterable[str]) -> tuple[str, ...]:
    """Map country names to those that have an adjective here, keeping the order; others are dropped."""
    names = [_COUNTRY_ALIASES.get(country.strip(), country.strip()) for country in countries]
    return tuple(dict.fromkeys(name for name in names if name in DEMONYMS))


def known_languages(languages: Iterable[str]) -> tuple[str, ...]:
    """Normalise language names, keeping the order."""
    names = [_LANGUAGE_ALIASES.get(language.strip(), language.strip()) for language in languages]
    return tuple(dict.fromkeys(name for name in names if name))


def genre_label(genres: tuple[str, ...], plural: bool = False, full: bool = False) -> str:
    """Name a film's main genres as one noun phrase, without an article.

    Args:
        genres: from `known_genres`, at least one.
        plural: whether to use the plural.
        full: whether to append the genres beyond the first three.

    Returns:
        Such as "science-fiction horror film".

    >>> genre_label(("Romance", "Comedy"))
    'romantic comedy'
    >>> genre_label(("Crime", "Comedy", "Drama"), plural=True)
    'crime comedy dramas'
    >>> genre_label(("Animation", "Fantasy", "Children", "Adventure", "Comedy"), full=True)
    "animated fantasy comedy with a dose of children's entertainment and adventure"
    """
    heads = [name for name in _HEADS if name in genres]
    head = [heads[0]]
    if head == ["Comedy"] and "Drama" in genres and len(genres) <= GENRES_IN_LABEL:
        head = ["Comedy", "Drama"]
    others = [name for name in genres if name not in head]
    kept = others[: GENRES_IN_LABEL - len(head)]
    modifiers = [GENRES[name].modifier for name in sorted(kept, key=_MODIFIERS.index)]
    tail = GENRES[head[-1]]
    noun = tail.plural if plural else tail.noun
    label = " ".join([*modifiers, *(["comedy"] if len(head) > 1 else []), noun])
    rest = [GENRES[name].kind for name in others[len(kept) :]][:EXTRA_GENRES_IN_LABEL]
    return f"{label} with a dose of {' and '.join(rest)}" if rest and full else label


def mentions(text: str) -> dict[str, set[str]]:
    """Find the facts that a text names in the teacher's vocabulary.

    Args:
        text: a target or a generated text.

    Returns:
        "genres" (vocabulary names), "countries", "languages", "years" ("1995"), "decades" ("1990s"), "minutes"
        and "scores" (per cent of critics), each a set of strings, empty where the text names none.

    >>> found = mentions("A 1990s French-Italian crime drama of 100 minutes, liked by 85% of critics.")
    >>> sorted(found["genres"]), sorted(found["countries"]), found["decades"], found["minutes"], found["scores"]
    (['Crime', 'Drama'], ['France', 'Italy'], {'1990s'}, {'100'}, {'85'})
    """
    lower = text.lower()
    return {
        "genres": {name for name, pattern in _WORD_OF_GENRE.items() if pattern.search(lower)},
        "countries": {_COUNTRY_OF[word] for word in _DEMONYM_PATTERN.findall(_LANGUAGE_PATTERN.sub("", text))},
        "languages": set(_LANGUAGE_PATTERN.findall(text)),
        "years": set(re.findall(r"\b(?:18|19|20)\d\d\b", text)),
        "decades": set(re.findall(r"\b(?:18|19|20)\d0s\b", text)),
        "minutes": set(re.findall(r"\b(\d+)[- ]minutes?\b", text)),
        # "the 85% of critics who shrugged" left 15% who liked it
        "scores": {
            str(100 - int(share)) if shrugged else share
            for share, shrugged in re.findall(r"\b(\d{1,3})% of (?:the )?critics\b( who shrugged)?", text)
        },
    }
