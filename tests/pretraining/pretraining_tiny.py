"""A tiny phase 1: 16 items whose texts say what their vectors are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from ilm_lightning.adapters import Adapter, QFormerAdapter, TextBranch
from ilm_lightning.pretraining.model import PretrainingModel
from ilm_lightning.pretraining.pairs import (
    EdgePairs,
    TextPairs,
    bag_vocabulary,
    consecutive_item_pairs,
    text_pairs,
    user_item_pairs,
)
from ilm_lightning.pretraining.settings import PretrainingSettings

N_ITEMS, N_USERS, WIDTH = 16, 6, 12
VOCABULARY = 40


def encode(texts: list[str]) -> list[list[int]]:
    """Words w0..w31 to 5..36, between [CLS] = 1 and [SEP] = 2."""
    return [[1, *(5 + int(word[1:]) for word in text.split()), 2] for text in texts]


@dataclass
class World:
    """Pairs and vectors that belong together."""

    texts: TextPairs
    item_item: EdgePairs
    user_item: EdgePairs
    items: dict[str, Tensor]
    users: dict[str, Tensor]
    llm: Tensor
    vocabulary: np.ndarray

    def model(self, *losses: str, **settings: Any) -> PretrainingModel:
        torch.manual_seed(0)
        adapter = QFormerAdapter(
            {name: value.shape[1] for name, value in self.items.items()},
            output_dim=WIDTH,
            num_queries=3,
            hidden_size=32,
            num_layers=2,
            num_heads=2,
            ffn_size=64,
            dropout=0.0,
        )
        text = TextBranch.for_qformer(adapter.qformer, vocab_size=VOCABULARY, max_positions=16)
        chosen = PretrainingSettings(losses=losses, projection_dim=16, **settings)
        return PretrainingModel(adapter, text, self.items, chosen, user_vectors=self.users, llm_embeddings=self.llm)

    def grounded(self, adapter: Adapter, **settings: Any) -> PretrainingModel:
        """A model whose only loss is VG, for any adapter."""
        chosen = PretrainingSettings(losses=("vg",), **settings)
        return PretrainingModel(adapter, None, self.items, chosen, llm_embeddings=self.llm)


def make_world() -> World:
    """The same world at every call."""
    rng = np.random.default_rng(0)
    # each item has two words of its own and one that four items share
    names = [f"w{2 * i} w{i % 4 * 2 + 1} w{2 * (i // 4) + 9}" for i in range(N_ITEMS)]
    texts = text_pairs(names, np.arange(N_ITEMS), encode, encode)
    rows = [(u, int(i), t) for u in range(N_USERS) for t, i in enumerate(rng.permutation(N_ITEMS)[:5])]
    table = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    normal: Callable[..., Tensor] = lambda *shape: torch.from_numpy(rng.normal(size=shape)).float()  # noqa: E731
    vocabulary = bag_vocabulary(texts)
    return World(
        texts,
        consecutive_item_pairs(table, N_ITEMS),
        user_item_pairs(table, N_USERS, N_ITEMS),
        {"behavioral": normal(N_ITEMS, 5), "semantic": normal(N_ITEMS, 7)},
        {"behavioral": normal(N_USERS, 5), "semantic": normal(N_USERS, 7)},
        normal(len(vocabulary), WIDTH),
        vocabulary,
    )
