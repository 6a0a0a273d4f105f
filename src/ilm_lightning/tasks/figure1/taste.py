"""A viewer's taste read out of a text: what it says is liked and disliked, and how a film fares by that."""

import re
from dataclasses import dataclass

from ilm_lightning.tasks.elm.vocabulary import mentions
from ilm_lightning.tasks.figure1.profile import Traits

# after an initial or a title its name goes on; after "Jr." a capital letter begins a sentence
_NAME_GOES_ON = r"(?<!\b[A-ZÀ-ÖØ-Þ]\.)(?<!\b[DM]r\.)(?<!\bMs\.)(?<!\bMrs\.)(?<!\bSt\.)(?<!\b[JS]r\.)"
_SENTENCE = re.compile(rf"(?<=[.!?]){_NAME_GOES_ON}\s+|(?<=\b[JS]r\.)\s+(?=[A-ZÀ-ÖØ-Þ])")
_DISLIKED = re.compile(r"\b(?:worst|hardest on|little patience|dislikes?|avoids?|lowest|hates?)\b", re.IGNORECASE)
_LIKED = re.compile(
    r"\b(?:highest|best|favou?rites?|fond of|admires?|seeks? out|likes?|loves?|enjoys?)\b", re.IGNORECASE
)
# Ours: a film's genres decide; its decade and its people count for less than one genre of two.
_DECADE = 0.3
_PERSON = 0.5


@dataclass(frozen=True)
class Taste:
    """What a text says of a viewer.

    Attributes:
        liked: Genres and decades of sentences that tell a liking.
        disliked: Those of sentences that tell a dislike.
        praise: The sentences that tell a liking, for people's names.
    """

    liked: frozenset[str]
    disliked: frozenset[str]
    praise: str


def read_taste(text: str) -> Taste:
    """Read a text sentence by sentence; one that tells neither a liking nor a dislike says nothing.

    Args:
        text: A profile, as the teacher or a model writes it.

    Returns:
        The taste.

    >>> found = read_taste("Mostly watches dramas. Likes war films of the 1970s best. Is hardest on comedies.")
    >>> sorted(found.liked), sorted(found.disliked)
    (['1970s', 'War'], ['Comedy'])
    >>> read_taste("Admires Samuel L. Jackson. Avoids war films.").praise
    'Admires Samuel L. Jackson.'
    """
    praise, blame = [], []
    for sentence in _SENTENCE.split(text):
        if _DISLIKED.search(sentence):
            blame.append(sentence)
        elif _LIKED.search(sentence):
            praise.append(sentence)
    return Taste(_kinds(" ".join(praise)), _kinds(" ".join(blame)), " ".join(praise))


def preference(taste: Taste, film: Traits) -> float:
    """Say how a film fares by a taste.

    Args:
        taste: From `read_taste`.
        film: What the film is.

    Returns:
        Higher is better: the share of its genres that are liked less that of those disliked, more for a liked decade
        and a praised person; 0 where the taste says nothing of it.
    """
    score = sum((name in taste.liked) - (name in taste.disliked) for name in film.genres) / max(len(film.genres), 1)
    decades = sum((name in taste.liked) - (name in taste.disliked) for name in film.decades)
    return score + _DECADE * decades + _PERSON * any(name in taste.praise for name in film.people)


def _kinds(text: str) -> frozenset[str]:
    found = mentions(text)
    return frozenset(found["genres"] | found["decades"])
