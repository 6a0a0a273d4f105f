"""English in small: articles, lists, sentence case."""

import re
from collections.abc import Sequence

# Read letter by letter, beginning with a vowel's sound.
_SPELLED_OUT = ("R", "NC-17", "X", "R-rated")
# Spelled with a vowel but spoken with a consonant.
_SPOKEN_CONSONANT = ("one", "once", "uni", "use", "eu", "uk")


def article(phrase: str) -> str:
    """Put "a" or "an" before a noun phrase.

    >>> article("eerie film"), article("1990s film"), article("88-minute film"), article("one-off")
    ('an eerie film', 'a 1990s film', 'an 88-minute film', 'a one-off')
    """
    lower = phrase.lower()
    if phrase.split()[0] in _SPELLED_OUT:
        vowel = True
    elif lower[0].isdigit():
        vowel = lower.startswith("8") or re.match(r"(?:11|18)(?:\d\d)?\b|18\d0s", lower) is not None
    else:
        vowel = lower[0] in "aeiou" and not lower.startswith(_SPOKEN_CONSONANT)
    return f"{'an' if vowel else 'a'} {phrase}"


def listing(parts: Sequence[str]) -> str:
    """Join parts as an English list.

    >>> listing(["drama", "crime", "war"])
    'drama, crime and war'
    """
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def sentence_case(text: str) -> str:
    """Start every sentence and every line with a capital letter; an ellipsis ends none.

    >>> sentence_case("1. funny. in the 1990s: fine. 90 minutes"), sentence_case("she waits... and waits")
    ('1. Funny. In the 1990s: fine. 90 minutes', 'She waits... and waits')
    """
    return re.sub(
        r"(^|(?<!\.\.)[.!?]\s+|\n)((?:- |\d\. )?)([a-z])", lambda m: m.group(1) + m.group(2) + m.group(3).upper(), text
    )
