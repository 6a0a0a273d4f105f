"""The 24 language tasks about movies: names, prompts, the deterministic `facts` teacher, and the examples."""

from ilm_lightning.tasks.elm.build import build_examples, nearest_neighbours
from ilm_lightning.tasks.elm.facts import CatalogContext, facts_of_item, facts_prompt, title_prompt
from ilm_lightning.tasks.elm.names import INTERPOLATION, NEIGHBOUR_TASKS, PAIR_TASKS, TASKS, TWO_SLOT_TASKS
from ilm_lightning.tasks.elm.prompts import INTERPOLATION_OF_TWO, PROMPTS, SLOT, phrasings
from ilm_lightning.tasks.elm.vocabulary import mentions

__all__ = [
    "CatalogContext",
    "INTERPOLATION",
    "INTERPOLATION_OF_TWO",
    "NEIGHBOUR_TASKS",
    "PAIR_TASKS",
    "PROMPTS",
    "SLOT",
    "TASKS",
    "TWO_SLOT_TASKS",
    "build_examples",
    "facts_of_item",
    "facts_prompt",
    "mentions",
    "nearest_neighbours",
    "phrasings",
    "title_prompt",
]
