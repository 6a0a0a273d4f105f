"""From a sentence plan and pieces of text to sentences."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from ilm_lightning.tasks.elm.wording import article, sentence_case

Plan = tuple[str, ...]
Lookup = Callable[[str], tuple[str, frozenset[str]] | None]
_UNIT = re.compile(r"[\w'’]+|[^\w\s]")
_OPTIONAL = re.compile(r"\[([^\[\]]*)\]")
_FIELD = re.compile(r"\{(a )?([\w.]+)\}")

# a name such as "Jr." brings its own full stop, and so does an ellipsis
_STOPS = re.compile(r"(?<!\.)(\.|\.{3})\.(?!\.)")


@dataclass(frozen=True)
class Written:
    """A rendered text and what it names.

    Attributes:
        text: The text.
        kinds: Kinds of facts named; pairs prefix them with "1." and "2.".
    """

    text: str
    kinds: frozenset[str]


def fields_of(plan: Plan) -> set[str]:
    """The names of all fields that a plan may use."""
    return {name for sentence in plan for _, name in _FIELD.findall(sentence)}


def length(text: str) -> int:
    """Count words and punctuation marks, which a subword tokenizer at most splits further.

    >>> length("Fine, a 1990s film.")
    6
    """
    return len(_UNIT.findall(text))


def render(plan: Plan, lookup: Lookup, most: int = 1000) -> Written | None:
    """Fill a plan.

    Args:
        plan: Sentences, each with alternatives parted by " | "; a part in square brackets goes where a field of
            it is missing.
        lookup: Gives a field's text and the kinds of facts it names, or None where the film lacks it.
        most: A sentence after the first that would make the text longer than this (see `length`) is left out.

    Returns:
        The text, or None where the first sentence cannot be filled; one without any letter or digit is not filled.
    """
    sentences: list[str] = []
    kinds: set[str] = set()
    for place, options in enumerate(plan):
        written = next((done for option in options.split(" | ") if (done := _fill(option, lookup))), None)
        if written is None:
            if place == 0:
                return None
            continue
        if place and sum(map(length, sentences)) + length(written.text) > most:
            continue
        sentences.append(written.text)
        kinds |= written.kinds
    is_list = sentences[0].startswith(("1.", "- "))
    ended = [line if line[-1] in ".!?:;," else f"{line}." for line in sentences]
    if ended[-1][-1] in ";,:." and not ended[-1].endswith("..."):
        ended[-1] = ended[-1].rstrip(";,:.") + "."
    text = _STOPS.sub(r"\1", ("\n" if is_list else " ").join(ended))
    return Written(sentence_case(text), frozenset(kinds))


def _fill(option: str, lookup: Lookup) -> Written | None:
    kinds: set[str] = set()

    def keep(match: re.Match[str]) -> str:
        return match.group(1) if all(lookup(name) for _, name in _FIELD.findall(match.group(1))) else ""

    option = text = _OPTIONAL.sub(keep, option)
    for match in _FIELD.finditer(option):
        piece = lookup(match.group(2))
        if piece is None:
            return None
        words, named = piece
        kinds |= named
        text = text.replace(match.group(0), article(words) if match.group(1) else words, 1)
    # all of it was optional, but for punctuation
    return Written(text, frozenset(kinds)) if any(map(str.isalnum, text)) else None
