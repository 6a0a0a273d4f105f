"""Users' vectors as of a place in their sequences, so that no prompt knows its own target."""

from typing import Any

import numpy as np

from ilm_lightning.data.openp5 import Sequences
from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.engine.stages.context import Context


class UsersBefore:
    """Vectors of users as they were before a position (``fold_in``), or fitted on all training items (``full``).

    With ``history`` a user is the vectors of the latest items before the position, and a mask of their places.
    """

    def __init__(self, sequences: Sequences, vectors: ItemVectors, context: Context) -> None:
        self.sequences, self.vectors = sequences, vectors
        self.als, self.full = context.config.encoder.als, context.config.tasks.user_vector == "full"
        self.places = context.config.tasks.history if context.config.tasks.user_vector == "history" else 0
        self.raw = {name: vectors.raw(name) for name in vectors.sources}

    def __call__(self, users: Any, positions: Any) -> dict[str, Any]:
        """Per source ``[n, d]``, of histories ``[n, l, d]`` and the mask `PRESENT`; see `UserVectors`."""
        import torch
        from scipy.sparse import csr_matrix

        from ilm_lightning.embeddings.behavioral import fold_in
        from ilm_lightning.embeddings.semantic import mean_of_items

        if self.full:
            return {name: torch.from_numpy(rows[users]) for name, rows in self.vectors.user_sources.items()}
        if self.places:
            return self._histories(users, positions)
        parts = [self.sequences.items(int(user))[:position] for user, position in zip(users, positions, strict=True)]
        bounds = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
        shape = (len(parts), self.sequences.n_items)
        met = csr_matrix((np.ones(bounds[-1], np.float32), np.concatenate(parts), bounds), shape=shape)
        met.sum_duplicates()
        met.data[:] = 1.0
        found = {}
        for name, raw in self.raw.items():
            if name == "behavioral":
                rows = fold_in(raw, met, self.als.regularization, self.als.alpha)
            else:
                rows = mean_of_items(raw, met, self.vectors.has_text)
            found[name] = torch.from_numpy(self.vectors.scaling[name].apply(rows))
        return found

    def _histories(self, users: Any, positions: Any) -> dict[str, Any]:
        import torch

        from ilm_lightning.adapters.perceiver import PRESENT

        rows = np.zeros((len(users), self.places), dtype=np.int64)
        present = np.zeros(rows.shape, dtype=np.float32)
        for place, (user, position) in enumerate(zip(users, positions, strict=True)):
            latest = self.sequences.items(int(user))[max(0, int(position) - self.places) : position]
            start = self.places - len(latest)
            rows[place, start:], present[place, start:] = latest, 1.0
        found = {name: torch.from_numpy(vectors)[rows] for name, vectors in self.vectors.sources.items()}
        return {**found, PRESENT: torch.from_numpy(present)}
