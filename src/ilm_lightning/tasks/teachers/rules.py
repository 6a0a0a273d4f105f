"""Which answers become targets: cleaning, and what makes an answer unfit."""

import re

from ilm_lightning.data.item import Item
from ilm_lightning.tasks.teachers.prompts import FIVE, TASK_PROMPTS
from ilm_lightning.tasks.teachers.request import Answer

RULES_VERSION = "rules-2"
"""To be raised with any change that lets other answers through or cleans them otherwise."""
REFUSED = "refused"
EMPTY = "empty"
CUT_OFF = "cut off"
TOO_SHORT = "too short"
TOO_LONG = "too long"
NAMES_TITLE = "names the title"
NOT_FIVE = "not five points"

_THOUGHTS = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_UNOPENED = re.compile(r"\A.*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"\A```\w*\n(.*?)\n?```\Z", re.DOTALL)
_MARKUP = re.compile(r"\*\*|__|^#+\s+|^>\s+", re.MULTILINE)
_YES = r"(?:sure|certainly|of course|okay)"
_KIND = (
    r"(?:summary|synopsis|description|review|pitch|critique|criticism|comparison|text|answer|version|list|"
    r"characteristics)(?: (?:of|for) (?:it|(?:the|this|both|these)(?: two)? (?:film|movie)s?))?"
)
_ADJECTIVES = (
    r"(?:(?:short|brief|concise|long|detailed|plot|film|movie|positive|negative|neutral|balanced|funnier|sadder|scarier|"
    r"improved|requested|five) )*"
)
# what stands before a colon in one line may be the text itself: only the name of a kind of text is an introduction
_INTRODUCTION = re.compile(
    rf"\A(?:(?:{_YES}|here(?:'s| is| are))\b[^\n]*:\s*\n+"
    rf"|(?:{_YES}[!,.] +)?here(?:'s| is| are) (?:(?:the|an?|my|your) )?{_ADJECTIVES}{_KIND}:\s*"
    rf"|(?:{_YES}[!,.]\s+)?{_ADJECTIVES}{_KIND}(?::\s*|\s*\n+))+",
    re.IGNORECASE,
)
_SORRY = r"\A\W*(?:(?:(?:i'?m|i am) (?:very |so )?)?(?:sorry|afraid)|apologies|unfortunately)\b[^.]{0,20}"
_UNABLE = r"\bi(?: am|'m) (?:unable|not able) to"
_CANNOT = rf"(?:\bi (?:cannot|can'?t|can not|won'?t|will not)(?: be able to)?|{_UNABLE})"
# of those who cannot, some cannot but have an opinion
_OPINION = (
    r"(?! help (?:but|it|myself|(?:\w+ly )?\w+ing)\b"
    r"| (?:\w+ly )?(?:recommend|forgive|forget|call|agree|praise|enjoy|watch|sit|stop|say (?:i|that))\b)"
)
_REFUSALS = re.compile(
    rf"{_SORRY}{_CANNOT}{_OPINION}|\A\W*{_UNABLE}{_OPINION}"
    rf"|{_SORRY}\bi(?: am|'m) not (?:familiar|aware)\b"
    rf"|{_SORRY}\bi (?:don'?t|do not) (?:have access|know (?:this|of|anything|enough))\b"
    rf"|{_CANNOT}{_OPINION} (?:help|assist|provide|write|fulfil|comply|answer|create|generate|complete)"
    r"|\bas an? (?:(?:ai|large) )?language model\b"
    r"|\bas an? (?:ai|artificial intelligence)(?: model| assistant| system)?(?:, i\b| i(?:'m| (?:am|do|have|can)))"
    r"|\bi (?:don'?t|do not) have (?:(?:any|enough|sufficient|specific|access to) )*"
    r"(?:information|knowledge|details|data)\b",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"\A(?:the|an?) (?=\S)", re.IGNORECASE)
_VERBS = (
    r"(?:is|was|isn't|has|tells|follows|takes|offers|brings|delivers|explores|stars|shows|blends|combines|presents|"
    r"features|remains|proves|lacks|fails|feels|falls|suffers|tries|wastes|drags)\b"
)
_PRONOUNS = {"i", "it", "he", "she", "we", "you", "they", "him", "her", "us", "them", "this", "that"}
_QUOTES = {'"': '"', "“": "”", "'": "'", "«": "»"}


def clean(text: str, lines: bool = False) -> str:
    r"""Take off what is not the answer itself: a model's thoughts, code fences, markdown, an introduction, quotes.

    Args:
        text: the raw answer.
        lines: keep the division into lines; otherwise all becomes one paragraph.

    Returns:
        The text, its white space made plain.

    >>> clean("<think>A short one.</think>Here is a summary:\n\n**Two** thieves\nmeet.")
    'Two thieves meet.'
    """
    text = _UNOPENED.sub("", _THOUGHTS.sub("", text)).replace("’", "'").strip()
    fenced = _FENCE.match(text)
    text = fenced.group(1).strip() if fenced else text
    text = _INTRODUCTION.sub("", _MARKUP.sub("", text).lstrip()).strip()
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    rows = [" ".join(row.split()) for row in text.splitlines()]
    return ("\n" if lines else " ").join(row for row in rows if row)


def names_title(text: str, title: str) -> bool:
    """Tell whether a text names a title, or the part of it before a colon or dash.

    Only the title's own spelling counts: "a love story" does not name Love Story. A single word may be a word of the
    language, so it counts inside a sentence, in quotes, before a year, and at the start of a sentence only where a verb
    follows as after a name, and a pronoun not even there; a number counts in quotes and before a year only.

    >>> names_title("Heat rises.", "Heat"), names_title("Heat is tense.", "Heat"), names_title("See Heat.", "Heat")
    (False, True, True)
    >>> names_title("a love story", "Love Story"), names_title("Now the Godfather rules.", "The Godfather")
    (False, True)
    """
    whole = " ".join(title.replace("’", "'").split())
    parts = {whole, re.split(r":| - ", whole)[0].strip()}
    return any(_names_part(text, _ARTICLE.sub("", part)) for part in parts if part)


def _names_part(text: str, name: str) -> bool:
    word = rf"(?<![\w'-]){re.escape(name)}(?![\w-])"
    if len(name.split()) > 1:
        return re.search(word, text) is not None
    marked = rf"[\"“*_']{re.escape(name)}[\"”*_',.]|{word} \(\d{{4}}\)"
    if not name[:1].isupper():
        return re.search(marked, text) is not None
    inside = rf"(?<=[\w,;)] ){word}"
    opening = "" if name.lower() in _PRONOUNS else rf"|{word} {_VERBS}|{word}'s"
    return re.search(marked + "|" + inside + opening, text) is not None


def target_of(
    task: str, answer: Answer, items: tuple[Item, ...], allow_title: bool = False, slack: float = 0.25
) -> tuple[str, str | None]:
    """Make a target of an answer.

    Args:
        task: the task.
        answer: the raw answer.
        items: the film or films that it is about.
        allow_title: whether it may name a title.
        slack: by which share the asked numbers of words may be missed.

    Returns:
        The cleaned text, and why it is unfit or None where it is a target.
    """
    text = clean(answer.text, lines=task in FIVE)
    return text, _fault(task, text, answer.finish, items, allow_title, slack)


def _fault(task: str, text: str, finish: str, items: tuple[Item, ...], allow_title: bool, slack: float) -> str | None:
    if finish == "content_filter" or _REFUSALS.search(text):
        return REFUSED
    if finish == "length":
        return CUT_OFF
    if not text:
        return EMPTY
    if not allow_title and any(names_title(text, title) for item in items for title in (item.title, *item.aliases)):
        return NAMES_TITLE
    if task in FIVE and len(text.splitlines()) != 5:
        return NOT_FIVE
    words, asked = len(text.split()), TASK_PROMPTS[task]
    if words < asked.least * (1 - slack):
        return TOO_SHORT
    return TOO_LONG if words > asked.most * (1 + slack) else None


def note_on(fault: str, task: str) -> str:
    """What to tell a teacher whose answer was unfit, when it is asked again."""
    prompt = TASK_PROMPTS[task]
    return {
        REFUSED: "An earlier answer refused. The task is harmless: write the text from the facts above.",
        EMPTY: "An earlier answer was empty. Write the text itself.",
        CUT_OFF: f"An earlier answer was too long and broke off. Stay well below {prompt.most} words.",
        TOO_SHORT: f"An earlier answer was too short. Write at least {prompt.least} words.",
        TOO_LONG: f"An earlier answer was too long. Write at most {prompt.most} words.",
        NAMES_TITLE: "An earlier answer named a title. Write the text without any title.",
        NOT_FIVE: "An earlier answer did not have exactly five lines. Write exactly five numbered lines.",
    }[fault]
