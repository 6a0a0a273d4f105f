"""Film titles as MovieLens writes them, and the normal form by which titles are compared."""

import re
import unicodedata
from dataclasses import dataclass

# Articles that MovieLens moves behind a comma, in the languages in which it does so.
_ARTICLES = (
    "the|a|an|la|le|les|l'|el|los|las|il|lo|gli|i|der|die|das|den|det|de|het|een|ein|eine|un|une|una|o|os|as|en|ett"
)
_TRAILING_ARTICLE = re.compile(rf"^(?P<rest>.+), (?P<article>{_ARTICLES})$", re.IGNORECASE)
# "(1995)", a series' "(2006-2007)" or "(2007-)", a medium behind it "(1995) (V)", and one doubled bracket: all occur.
_YEAR = re.compile(r"\s*\((?P<year>\d{4})(?:[-–]\d{0,4})?\)+(?:\s*\((?:V|TV)\))?\s*$")
_ALSO_KNOWN_AS = re.compile(r"^(?:a\.?k\.?a\.?|aka)\s+", re.IGNORECASE)
# A bracket behind these words belongs to the title: "Birdman: Or (The Unexpected Virtue of Ignorance)".
_DANGLING = re.compile(r"(?:^|\W)(?:or|and)$|:$", re.IGNORECASE)


@dataclass(frozen=True)
class ParsedTitle:
    """A raw title taken apart.

    Attributes:
        title: display form, article in front, without year and alternative titles.
        year: year of release, None where the raw title has none.
        aliases: the alternative titles that stood in brackets, display form.
    """

    title: str
    year: int | None
    aliases: tuple[str, ...]


def move_article(title: str) -> str:
    """Put a trailing article in front.

    Args:
        title: one title without year.

    Returns:
        The title as a person writes it.

    >>> move_article("Client, The"), move_article("Enfer, L'"), move_article("Bye Bye, Love")
    ('The Client', "L'Enfer", 'Bye Bye, Love')
    """
    match = _TRAILING_ARTICLE.match(title.strip())
    if match is None:
        return title.strip()
    article = match["article"][0].upper() + match["article"][1:]
    return f"{article}{'' if article.endswith(chr(39)) else ' '}{match['rest']}"


def parse_title(raw: str) -> ParsedTitle:
    """Take a raw title apart: year, article, alternative titles in brackets.

    Args:
        raw: a title as MovieLens or a user's table writes it.

    Returns:
        Its parts; ``title`` is empty only where ``raw`` is blank.

    >>> parse_title("City of Lost Children, The (Cité des enfants perdus, La) (1995)")
    ParsedTitle(title='The City of Lost Children', year=1995, aliases=('La Cité des enfants perdus',))
    """
    text = " ".join(raw.split())
    year: int | None = None
    match = _YEAR.search(text)
    if match is not None and match.start() > 0:
        year, text = int(match["year"]), text[: match.start()]
    aliases: list[str] = []
    while text.endswith(")"):
        start = _opening_bracket(text)
        rest = text[:start].rstrip()
        if start <= 0 or not rest or text[start - 1] != " " or _DANGLING.search(rest):
            break
        alias = move_article(_ALSO_KNOWN_AS.sub("", text[start + 1 : -1].strip()))
        if alias:
            aliases.insert(0, alias)
        text = rest
    return ParsedTitle(move_article(text), year, tuple(aliases))


def _opening_bracket(text: str) -> int:
    """Position of the bracket that the last character closes; -1 where there is none."""
    depth = 0
    for position in range(len(text) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(text[position], 0)
        if depth == 0:
            return position
    return -1


def normalise_title(title: str) -> str:
    """Bring a title to the form by which titles are compared: case, accents, punctuation and articles ignored.

    Args:
        title: display or raw form, without year.

    Returns:
        Lower-case words; the stripped title itself where it holds no letter or digit.

    >>> normalise_title("Client, The") == normalise_title("the CLIENT")
    True
    >>> normalise_title("Amélie & Co."), normalise_title("The The")
    ('amelie and co', 'the')
    """
    text = move_article(title).casefold()
    if not text.isascii():
        # Casefolding comes before and after the decomposition: some capitals decompose to capitals again.
        text = unicodedata.normalize("NFKD", text).casefold()
        text = "".join(c for c in text if not unicodedata.combining(c)).replace("’", "")
    text = text.replace("&", " and ").replace("'", "")
    words = re.sub(r"[\W_]+", " ", text).split()
    if len(words) > 1 and words[0] in ("the", "a", "an"):
        words = words[1:]
    return " ".join(words) or title.strip()


def title_group(title: str, year: int | None, item_id: str) -> str:
    """Name the unit of the split: items of one normalised title and year share it.

    Args:
        title: display form, may be empty.
        year: year of release or None.
        item_id: used where there is no title, so that untitled items stay apart.

    Returns:
        A short key that does not depend on the rest of the catalogue.

    >>> title_group("The Client", 1993, "7"), title_group("", None, "7")
    ('client|1993', 'id:7')
    """
    if not title.strip():
        return f"id:{item_id}"
    return f"{normalise_title(title)}|{'' if year is None else year}"
