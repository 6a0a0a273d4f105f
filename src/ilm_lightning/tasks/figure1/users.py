"""Examples about a user: the rating of an item, the next item, and the user's profile."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ilm_lightning.data.item import Item
from ilm_lightning.data.judged import UserRatings
from ilm_lightning.tasks.elm.teacher import pick
from ilm_lightning.tasks.figure1.names import NEXT_ITEM, RATING, USER_PROFILE
from ilm_lightning.tasks.figure1.profile import Traits, Typical, write_profile
from ilm_lightning.tasks.figure1.prompts import FIGURE1_PROMPTS, as_text, with_history

NO_HISTORY = "no movie in the history that may be shown"
NO_JUDGED = "no judged movie that may be asked for"
FEW_GENRES = "too few movies with a known genre"
FEW_CANDIDATES = "no other candidate"
MOST_VALUES = 20
"""A scale of ratings with more steps than this is not spelled out as candidates."""


@dataclass(frozen=True)
class UserWriter:
    """Writes the examples of one user after another.

    Attributes:
        items: the catalogue.
        trained: [I] items whose text training may hold.
        scale: the values a rating may have, ascending.
        traits: what of each item counts towards a profile; empty where no profile is asked for.
        typical: what the training users do on the whole.
        pool: rows that candidates are drawn from, as often as users rated them: popular movies are frequent decoys.
        length: movies of the history in a prompt.
        candidates: movies to choose the next one from, the true one among them.
        seed: chooses phrasings and candidates.
    """

    items: Sequence[Item]
    trained: NDArray[np.bool_]
    scale: Sequence[float]
    traits: Sequence[Traits]
    typical: Typical
    pool: NDArray[np.int64]
    length: int = 8
    candidates: int = 20
    seed: int = 0

    def write(self, task: str, user: UserRatings, split: str) -> Iterator[dict[str, Any]] | str:
        """Write one task's examples of one user.

        Args:
            task: one of ``USER_TASKS``.
            user: history and judged ratings.
            split: the user's split. Training examples show, ask for and describe training movies alone, and there is
                one for each judged rating; of the other splits each user has one example.

        Returns:
            Rows of the table of examples, or why there are none.
        """
        training = split == "train"
        shown = self.trained[user.items] if training else np.ones(len(user.items), dtype=np.bool_)
        asked = self.trained[user.judged_items]
        history, ratings = user.items[shown], user.ratings[shown]
        if len(history) == 0:
            return NO_HISTORY
        if task == USER_PROFILE:
            return self._profile(user, split, history, ratings)
        # a title can only be answered where training may have held it
        allowed = asked if training or task == NEXT_ITEM else np.ones_like(asked)
        if task == NEXT_ITEM:
            allowed &= np.array([bool(self.items[row].title) for row in user.judged_items], dtype=np.bool_)
        places = np.flatnonzero(allowed)
        if len(places) == 0:
            return NO_JUDGED
        recent, marks = history[-self.length :], ratings[-self.length :]
        if task == RATING:
            one = [places[pick(len(places), "judged", user.user_id)]]
            return (self._rating(user, split, recent, marks, int(at)) for at in (places if training else one))
        if training:
            return (self._next(user, split, recent, int(user.judged_items[at]), None) for at in places)
        target = int(user.judged_items[places[0]])
        drawn = self._candidates(user, target)
        return FEW_CANDIDATES if len(drawn) < 2 else iter([self._next(user, split, recent, target, drawn)])

    def _row(self, task: str, user: UserRatings, split: str, name: str) -> dict[str, Any]:
        prompts = FIGURE1_PROMPTS[task]
        place = pick(len(prompts), "phrasing", self.seed, task, name) if split == "train" else 0
        row = {"example_id": f"{task}:{name}", "task": task, "split": split, "phrasing": place}
        return {**row, "prompt": prompts[place], "user": user.user}

    def _rating(
        self, user: UserRatings, split: str, history: NDArray[np.int64], ratings: NDArray[np.float64], at: int
    ) -> dict[str, Any]:
        about, value = int(user.judged_items[at]), float(user.judged[at])
        row = self._row(RATING, user, split, f"{user.user_id}:{self.items[about].item_id}")
        rows = [*history.tolist(), about]
        spelled = split != "train" and len(self.scale) <= MOST_VALUES
        return row | {
            "prompt": with_history(row["prompt"], ratings.tolist()),
            "slots": [[item] for item in rows],
            "items": rows,
            "target": as_text(value),
            "about": about,
            "value": value,
            "candidates": [as_text(step) for step in self.scale] if spelled else None,
        }

    def _next(
        self, user: UserRatings, split: str, history: NDArray[np.int64], about: int, drawn: list[int] | None
    ) -> dict[str, Any]:
        row = self._row(NEXT_ITEM, user, split, f"{user.user_id}:{self.items[about].item_id}")
        text = with_history(row["prompt"], len(history))
        person, shown = [len(self.items) + user.user], [[item] for item in history.tolist()]
        return row | {
            "prompt": text,
            "slots": [person, *shown] if text.index("{user}") < text.index("{item}") else [*shown, person],
            "items": history.tolist(),
            "reads": [about],
            "target": self.items[about].label,
            "about": about,
            "candidates": None if drawn is None else [self.items[item].label for item in drawn],
            "candidate_items": drawn,
        }

    def _profile(
        self, user: UserRatings, split: str, history: NDArray[np.int64], ratings: NDArray[np.float64]
    ) -> Iterator[dict[str, Any]] | str:
        rated = [(self.traits[item], rating) for item, rating in zip(history, ratings.tolist(), strict=True)]
        text = write_profile(rated, self.typical, user.user_id)
        if text is None:
            return FEW_GENRES
        row = self._row(USER_PROFILE, user, split, user.user_id)
        shown = history[-self.length :].tolist()
        more = {"slots": [[len(self.items) + user.user]], "items": shown, "reads": history.tolist(), "target": text}
        return iter([row | more])

    def _candidates(self, user: UserRatings, target: int) -> list[int]:
        """The true movie first, then others that the user did not rate, drawn as often as other users rate them."""
        rng = np.random.default_rng([self.seed, user.user])
        known = {self.items[row].group for row in (*user.items, *user.judged_items)}
        drawn = [target]
        # a pool that is nearly all known to the user gives fewer
        for _ in range(20):
            for row in rng.choice(self.pool, size=2 * self.candidates).tolist():
                if self.items[row].group not in known and len(drawn) < self.candidates:
                    known.add(self.items[row].group)
                    drawn.append(row)
        return drawn
