"""Phrasings of the 24 tasks. ELM's prompts are not public: these are our own. A movie is only its `{item}` slot."""

from collections.abc import Mapping

SLOT = "{item}"

PROMPTS: Mapping[str, tuple[str, ...]] = {
    "summary": (
        "Summarize the movie {item}.",
        "In two or three sentences, what is the film {item} about?",
        "Give me a short summary of this movie: {item}.",
    ),
    "positive_review": (
        "Write a positive review of the movie {item}.",
        "You loved the film {item}. Review it.",
        "Review {item} as a viewer who enjoyed it would.",
    ),
    "negative_review": (
        "Write a negative review of the movie {item}.",
        "You disliked the film {item}. Review it.",
        "Review {item} as a disappointed viewer would.",
    ),
    "neutral_review": (
        "Write a neutral review of the movie {item}.",
        "Review the film {item}, weighing both sides.",
        "Give a balanced opinion of {item}, neither praise nor blame alone.",
    ),
    "five_positive_characteristics": (
        "List five positive characteristics of the movie {item}.",
        "Name five good things about the film {item}.",
        "What are five strengths of {item}?",
    ),
    "five_negative_characteristics": (
        "List five negative characteristics of the movie {item}.",
        "Name five bad things about the film {item}.",
        "What are five weaknesses of {item}?",
    ),
    "long_description": (
        "Describe the movie {item} at length.",
        "Write a long description of the film {item}.",
        "Tell me in detail what kind of movie {item} is.",
    ),
    "funnier": (
        "Describe a funnier version of the movie {item}.",
        "How would the film {item} look if it were played for laughs?",
        "Rewrite {item} so that it makes people laugh more.",
    ),
    "sadder": (
        "Describe a sadder version of the movie {item}.",
        "How would the film {item} look if it were meant to make people cry?",
        "Rewrite {item} so that it breaks the viewer's heart.",
    ),
    "scarier": (
        "Describe a scarier version of the movie {item}.",
        "How would the film {item} look if it were meant to frighten?",
        "Rewrite {item} so that nobody sleeps afterwards.",
    ),
    "improve": (
        "How could the movie {item} be improved?",
        "Describe a better version of the film {item}.",
        "What would you change in {item} to make it better?",
    ),
    "movie_to_viewer": (
        "What kind of viewer would like the movie {item}?",
        "Describe the audience of the film {item}.",
        "Who should watch {item}?",
    ),
    "pitch": (
        "Write a pitch for the movie {item}.",
        "Sell the film {item} to a producer.",
        "You have a minute in an elevator: pitch {item}.",
    ),
    "criticize": (
        "Criticize the movie {item}.",
        "As a stern critic, what do you hold against the film {item}?",
        "Point out the faults of {item}.",
    ),
    "convince1": (
        "Convince me to watch the movie {item} tonight.",
        "Why should I spend my evening with the film {item}?",
        "Talk a friend into seeing {item} right now.",
    ),
    "convince2": (
        "Convince a sceptic with facts to watch the movie {item}.",
        "What hard evidence speaks for the film {item}?",
        "Argue for {item} with its record: reviews, prizes, audience.",
    ),
    "convince3": (
        "Convince someone who avoids this sort of film to try {item}.",
        "Win over a person who thinks the movie {item} is not for them.",
        "What would surprise a doubter about {item}?",
    ),
    "dissuade1": (
        "Dissuade me from watching the movie {item} tonight.",
        "Why would an evening with the film {item} be a mistake?",
        "Talk a friend out of seeing {item}.",
    ),
    "dissuade2": (
        "Who should avoid the movie {item}, and why?",
        "Give practical reasons not to watch the film {item}.",
        "Warn the wrong audience away from {item}.",
    ),
    "similarities": (
        "What are the similarities between the movies {item} and {item}?",
        "Compare the films {item} and {item}: how are they alike?",
        "Name what the movie {item} shares with the movie {item}.",
    ),
    "interpolation": (
        "Describe the movie {item}, which lies between two films.",
        "Here is a blend of two movies: {item}. What is it like?",
        "Imagine the film at the point {item}, halfway between two others, and describe it.",
    ),
    "why_like_nn": (
        "A viewer liked the movie {item}. Why would they like {item} too?",
        "Explain why fans of the film {item} will enjoy the film {item}.",
        "After {item}, why is {item} a good next movie?",
    ),
    "diff_than_nn": (
        "How does the movie {item} differ from the movie {item}?",
        "What sets the film {item} apart from the film {item}?",
        "Explain the differences between {item} and the neighbouring movie {item}.",
    ),
    "common_with_nn": (
        "What does the movie {item} have in common with the movie {item}?",
        "Which traits link the film {item} to the film {item}?",
        "Say what {item} and its neighbour {item} have in common.",
    ),
}

INTERPOLATION_OF_TWO = (
    "Describe the movie that lies between {item} and {item}.",
    "Blend the two movies {item} and {item}. What is the result like?",
    "Imagine the film halfway between {item} and {item}, and describe it.",
)
"""Phrasings of interpolation where both items have a slot of their own."""


def phrasings(task: str, slots: int) -> tuple[str, ...]:
    """List the phrasings of a task.

    Args:
        task: one of the 24.
        slots: how many slots the prompt has; tells the two forms of interpolation apart.

    Returns:
        The phrasings; the first one is that of evaluation.
    """
    return INTERPOLATION_OF_TWO if task == "interpolation" and slots == 2 else PROMPTS[task]
