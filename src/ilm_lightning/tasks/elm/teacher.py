"""The `facts` teacher: deterministic targets written from the catalogue's facts, without a model."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from ilm_lightning.data.item import Item
from ilm_lightning.tasks.elm.facts import CatalogContext, Film
from ilm_lightning.tasks.elm.grammar import Lookup, Plan, Written, render
from ilm_lightning.tasks.elm.names import PAIR_TASKS, TASKS
from ilm_lightning.tasks.elm.pairs import Pair
from ilm_lightning.tasks.elm.plans_about import ABOUT
from ilm_lightning.tasks.elm.plans_opinion import OPINION
from ilm_lightning.tasks.elm.plans_pairs import PAIRS
from ilm_lightning.tasks.elm.plans_persuade import PERSUADE

PLANS: Mapping[str, tuple[Plan, ...]] = {**ABOUT, **OPINION, **PERSUADE, **PAIRS}
TEACHER_VERSION = "facts-3"
LEAST_FACTS = 2
# Words and punctuation marks; a longer first sentence stays.
LONGEST = 58
LONGEST_OF = {"long_description": 66}
NO_GENRE = "no known genre"
TOO_FEW_FACTS = "fewer than two facts"
NO_OPINION = "no opinion follows from its facts"
NOTHING_SHARED = "nothing in common"
NOTHING_APART = "no difference"
_NEEDS = {
    "positive_review": ("plus1", NO_OPINION),
    "negative_review": ("minus1", NO_OPINION),
    "five_positive_characteristics": ("plus1", NO_OPINION),
    "five_negative_characteristics": ("minus1", NO_OPINION),
    "convince2": ("plus1", NO_OPINION),
}


def pick(size: int, *key: object) -> int:
    """Choose one of `size` by a hash of the key, equal on every machine."""
    digest = hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % size


@dataclass
class FactsTeacher:
    """Writes targets.

    Attributes:
        context: What the facts mean beside the rest of the catalogue.
    """

    context: CatalogContext
    _films: dict[str, Film] = field(default_factory=dict, repr=False)

    def write(self, task: str, item: Item, partner: Item | None = None) -> Written | str:
        """Write the target of one task.

        Args:
            task: One of `TASKS`.
            item: The film.
            partner: The second film of a pair task, None otherwise.

        Returns:
            The target, or the reason why the film is left out.

        Raises:
            ValueError: An unknown task, or a partner where none belongs, or none where one does.
        """
        if task not in TASKS:
            raise ValueError(f"unknown task {task!r}; choose from {', '.join(TASKS)}")
        if (partner is not None) != (task in PAIR_TASKS):
            raise ValueError(f"task {task!r} takes {'two movies' if task in PAIR_TASKS else 'one movie'}")
        film = self._film(item)
        if partner is None:
            return _write_single(task, film)
        return self._write_pair(task, film, self._film(partner))

    def _film(self, item: Item) -> Film:
        if item.item_id not in self._films:
            self._films[item.item_id] = Film.of(item, self.context)
        return self._films[item.item_id]

    def _write_pair(self, task: str, film: Film, partner: Film) -> Written | str:
        if not film.genres or not partner.genres:
            return NO_GENRE
        pair = Pair.of(film, partner, self.context)
        shared = {"both.kinds", "both.fact1"} & pair.pieces.keys()
        if task in ("similarities", "why_like_nn", "common_with_nn") and not shared:
            return NOTHING_SHARED
        if task == "diff_than_nn" and not {"apart.draw", "apart.fact1"} & pair.pieces.keys():
            return NOTHING_APART
        return _first_good(task, film.item.item_id, pair.lookup, sides=("1.", "2."))


def _write_single(task: str, film: Film) -> Written | str:
    if not film.genres:
        return NO_GENRE
    if task in _NEEDS and _NEEDS[task][0] not in film.pieces:
        return _NEEDS[task][1]
    return _first_good(task, film.item.item_id, film.pieces.get, sides=("",))


def _first_good(task: str, item_id: str, lookup: Lookup, sides: tuple[str, ...]) -> Written | str:
    """Render the plan that the hash names; where the facts do not carry it, the next one."""
    plans = PLANS[task]
    start = pick(len(plans), task, item_id)
    for turn in range(len(plans)):
        written = render(plans[(start + turn) % len(plans)], lookup, LONGEST_OF.get(task, LONGEST))
        if written and all(_names_enough(written, side) for side in sides):
            return written
    return TOO_FEW_FACTS


def _names_enough(written: Written, side: str) -> bool:
    """Whether a film's genre and at least one more fact are named."""
    return f"{side}genre" in written.kinds and sum(k.startswith(side) for k in written.kinds) >= LEAST_FACTS
