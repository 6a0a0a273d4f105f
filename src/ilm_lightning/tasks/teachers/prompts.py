"""What a language model is asked to write for each task, in our own words: the papers' prompts are not public."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ilm_lightning.data.item import Item
from ilm_lightning.tasks.elm.names import PAIR_TASKS

PROMPT_VERSION = "prompts-2"
"""To be raised with any change of a word below: answers to other prompts are other data."""
MAX_TAGS = 15
MAX_CAST = 6
MAX_PLOT = 2000
"""Characters of a description; more would cost more than it tells."""
FIVE = ("five_positive_characteristics", "five_negative_characteristics")

OPENING = (
    "You write short English texts about films. Use the facts below and what you know for certain about the film; "
    "invent no names, dates, prizes or events."
)
NO_TITLE_ONE = 'Never write the film\'s title; say "this film" or "it" instead.'
NO_TITLE_TWO = 'Never write the films\' titles; say "the first film" and "the second film" instead.'
CLOSING = "Answer with the text alone: no heading, no introduction, no notes, no markdown."


@dataclass(frozen=True)
class TaskPrompt:
    """What is asked for.

    Attributes:
        ask: the assignment in one or two sentences.
        least: fewest words.
        most: most words; the texts must fit what a tuned model may write at evaluation.
    """

    ask: str
    least: int = 30
    most: int = 60


TASK_PROMPTS: Mapping[str, TaskPrompt] = {
    "summary": TaskPrompt("Summarise what the film is about."),
    "positive_review": TaskPrompt(
        "Write a review by a viewer who liked the film, with reasons from its own qualities."
    ),
    "negative_review": TaskPrompt("Write a review by a viewer who disliked the film, with reasons from its own flaws."),
    "neutral_review": TaskPrompt("Write a balanced review that weighs a strength of the film against a weakness."),
    "five_positive_characteristics": TaskPrompt(
        "List five positive characteristics of the film, one a line, numbered 1. to 5., each a short phrase.", 12, 50
    ),
    "five_negative_characteristics": TaskPrompt(
        "List five negative characteristics of the film, one a line, numbered 1. to 5., each a short phrase.", 12, 50
    ),
    "long_description": TaskPrompt(
        "Describe the film in detail: story, characters, setting, tone and what it is about at heart.", 45, 70
    ),
    "funnier": TaskPrompt("Describe how the film would go if it were made funnier, keeping its story and characters."),
    "sadder": TaskPrompt("Describe how the film would go if it were made sadder, keeping its story and characters."),
    "scarier": TaskPrompt("Describe how the film would go if it were made scarier, keeping its story and characters."),
    "improve": TaskPrompt("Say how the film could be improved, with concrete changes that fit this very film."),
    "movie_to_viewer": TaskPrompt("Describe the kind of viewer who would enjoy the film, and why."),
    "pitch": TaskPrompt("Pitch the film to a producer so that it sounds irresistible."),
    "criticize": TaskPrompt("Criticise the film as a stern critic: name what is wrong with it and why."),
    "convince1": TaskPrompt("Convince a friend to watch the film tonight by the pleasure it gives."),
    "convince2": TaskPrompt(
        "Convince a sceptic to watch the film, with hard facts such as its makers, reviews or prizes."
    ),
    "convince3": TaskPrompt("Convince somebody who avoids this sort of film by what would surprise them in it."),
    "dissuade1": TaskPrompt("Talk a friend out of watching the film tonight by how the evening would feel."),
    "dissuade2": TaskPrompt("Say which viewers should avoid the film, with practical reasons."),
    "similarities": TaskPrompt("Describe what the two films have in common."),
    "interpolation": TaskPrompt(
        "Imagine a single film that lies halfway between the two, and describe it: story, setting, tone and time."
    ),
    "why_like_nn": TaskPrompt("Explain why a viewer who liked the first film would like the second one too."),
    "diff_than_nn": TaskPrompt("Explain how the first film differs from the second."),
    "common_with_nn": TaskPrompt(
        "Name the traits that link the first film to the second: story, mood, makers or time."
    ),
}


def describe_film(item: Item) -> str:
    """All that is known of a film, a fact a line.

    Args:
        item: the catalogue row.

    Returns:
        Lines such as "Title: Heat (1995)" and "Genres: Crime, Thriller"; what is unknown is left out.
    """
    plot = " ".join((item.text or "").split())
    lines = [
        f"Title: {item.label}",
        _line("Genres", item.genres),
        _line("Tags by viewers", item.tags[:MAX_TAGS]),
        _line("Tags that fit it best", item.genome_tags[:MAX_TAGS]),
        _line("Directed by", item.directors),
        _line("Written by", item.writers),
        _line("Cast, in alphabetical order", item.cast[:MAX_CAST]),
        _line("Countries", item.countries),
        _line("Languages", item.languages),
        f"Length: {item.runtime} minutes" if item.runtime else "",
        "" if item.critic_score is None else f"Critics who liked it: {item.critic_score}%",
        f"Oscars won: at least {item.oscars_won}" if item.oscars_won else "",
        f"Oscar nominations: at least {item.oscar_nominations}" if item.oscar_nominations else "",
        f"Rated: {item.certificate}" if item.certificate else "",
        f"Plot: {plot[:MAX_PLOT]}" if plot else "",
    ]
    return "\n".join(line for line in lines if line)


def _line(name: str, values: Sequence[str]) -> str:
    return f"{name}: {', '.join(values)}" if values else ""


def teacher_prompt(
    task: str, item: Item, partner: Item | None = None, allow_title: bool = False, note: str = ""
) -> str:
    """Write the message that asks for one target.

    The constant part stands first and the task last, so that endpoints which cache prefixes read a film's facts once.

    Args:
        task: one of the 24 tasks.
        item: the film.
        partner: the second film of a pair task, None otherwise.
        allow_title: whether the answer may name the title.
        note: what was wrong with an earlier answer, where this asks again.

    Returns:
        The message.
    """
    assert (partner is not None) == (task in PAIR_TASKS), task
    prompt = TASK_PROMPTS[task]
    if partner is None:
        films = f"The film:\n{describe_film(item)}"
    else:
        films = f"The first film:\n{describe_film(item)}\n\nThe second film:\n{describe_film(partner)}"
    rules = [f"Write {prompt.least} to {prompt.most} words."]
    if not allow_title:
        rules.append(NO_TITLE_ONE if partner is None else NO_TITLE_TWO)
    rules.append(CLOSING)
    parts = [OPENING, films, f"Your task: {prompt.ask} {' '.join(rules)}"]
    return "\n\n".join([*parts, note] if note else parts)
