"""Phrasings of the tasks of Figure 1; the paper prints none, these are our own. The first one is that of evaluation.

`{item}` and `{user}` are slots; `{title}` and `{history}` are written out when an example is made.
"""

from collections.abc import Mapping, Sequence

from ilm_lightning.tasks.figure1.names import GENOME_TAGS, LONG_SUMMARY, NEXT_ITEM, RATING, USER_PROFILE

FIGURE1_PROMPTS: Mapping[str, tuple[str, ...]] = {
    LONG_SUMMARY: (
        "Write a long summary of the movie {title} {item}.",
        "Tell me at length about the film {title} {item}.",
        "{title} {item}: summarize this movie in several sentences.",
    ),
    GENOME_TAGS: (
        "List the tags that fit the movie {item}, the most fitting first.",
        "Which tags would viewers give the film {item}?",
        "Tag the movie {item}.",
    ),
    RATING: (
        "A viewer rated these movies: {history}. How would the same viewer rate {item}?",
        "Going by the ratings {history}, which rating would the viewer give {item}?",
        "Ratings so far: {history}. Predict the next one, for {item}.",
    ),
    NEXT_ITEM: (
        "The viewer {user} has watched {history}. Which movie comes next?",
        "{user} has seen the movies {history}. What is the next recommendation?",
        "After {history}, which movie will the viewer {user} watch?",
    ),
    USER_PROFILE: (
        "Describe the taste in movies of the viewer {user}.",
        "Which movies does the viewer {user} like, and which not?",
        "Write a profile of the movie viewer {user}.",
    ),
}


def with_title(prompt: str, title: str) -> str:
    """Write a title out; braces in it must not pass for a slot.

    >>> with_title("Pitch {title} {item}.", "Heat (1995)")
    'Pitch Heat (1995) {item}.'
    """
    return prompt.replace("{title}", title.replace("{", "(").replace("}", ")"))


def with_history(prompt: str, ratings: Sequence[float] | int) -> str:
    """Write a history out as slots, each with its rating where ratings are given.

    Args:
        prompt: holds `{history}`.
        ratings: one rating an item, or only their number.

    Returns:
        The prompt.

    >>> with_history("Seen: {history}.", [4.0, 3.5]), with_history("Seen: {history}.", 2)
    ('Seen: {item} 4, {item} 3.5.', 'Seen: {item}, {item}.')
    """
    slots = ["{item}"] * ratings if isinstance(ratings, int) else [f"{{item}} {as_text(value)}" for value in ratings]
    return prompt.replace("{history}", ", ".join(slots))


def as_text(rating: float) -> str:
    """Write a rating as short as it goes.

    >>> as_text(4.0), as_text(3.5)
    ('4', '3.5')
    """
    return f"{rating:g}"
