"""The tasks of the paper's Figure 1 and ELM's user profiles: long summary, genome tags, rating, next item, profile."""

from ilm_lightning.tasks.figure1.build import FIGURE1_SCHEMA, Ratings, build_figure1
from ilm_lightning.tasks.figure1.genres import genre_tags
from ilm_lightning.tasks.figure1.names import (
    ANSWER_TASKS,
    FIGURE1_TASKS,
    GENOME_TAGS,
    LONG_SUMMARY,
    NEXT_ITEM,
    OWN_PROMPT_TASKS,
    RATING,
    TIMED_TASKS,
    USER_PROFILE,
    USER_TASKS,
    VALUE_TASKS,
)
from ilm_lightning.tasks.figure1.profile import Traits, Typical, write_profile
from ilm_lightning.tasks.figure1.prompts import FIGURE1_PROMPTS
from ilm_lightning.tasks.figure1.taste import preference, read_taste

__all__ = [
    "ANSWER_TASKS",
    "FIGURE1_PROMPTS",
    "FIGURE1_SCHEMA",
    "FIGURE1_TASKS",
    "GENOME_TAGS",
    "LONG_SUMMARY",
    "NEXT_ITEM",
    "OWN_PROMPT_TASKS",
    "RATING",
    "Ratings",
    "TIMED_TASKS",
    "Traits",
    "Typical",
    "USER_PROFILE",
    "USER_TASKS",
    "VALUE_TASKS",
    "build_figure1",
    "genre_tags",
    "preference",
    "read_taste",
    "write_profile",
]
