"""Soft tokens made readable: their nearest words in the language model's vocabulary."""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize


class Vocabulary(Protocol):
    """What is needed of a tokenizer."""

    @property
    def all_special_ids(self) -> list[int]:
        """Ids that are no words."""

    def decode(self, ids: list[int]) -> str:
        """Turn ids into text."""


def nearest_words(soft: Tensor, embedding: Tensor, tokenizer: Vocabulary, k: int = 5) -> list[list[tuple[str, float]]]:
    """Find the vocabulary words nearest to each soft token.

    Args:
        soft: ``[q, d]`` soft tokens of one item.
        embedding: ``[V, d]`` the language model's input embeddings.
        tokenizer: gives a token's text and the special ids.
        k: words per soft token.

    Returns:
        Per soft token up to ``k`` pairs of word and cosine, nearest first: tokens without a letter or digit are left
        out, and words that differ only in case or surrounding space appear once.

    Raises:
        ValueError: soft tokens and embeddings of different widths.
    """
    if soft.ndim != 2 or soft.shape[1] != embedding.shape[1]:
        raise ValueError(f"soft tokens {tuple(soft.shape)} do not fit embeddings {tuple(embedding.shape)}")
    with torch.no_grad():
        cosines = normalize(soft.float(), dim=1) @ normalize(embedding.float(), dim=1).T
    special = set(tokenizer.all_special_ids)
    return [_words_of(row, special, tokenizer, k) for row in cosines]


def _words_of(cosines: Tensor, special: set[int], tokenizer: Vocabulary, k: int) -> list[tuple[str, float]]:
    wanted = min(8 * k, len(cosines))
    while True:
        values, ids = cosines.topk(wanted)
        words: dict[str, float] = {}
        for value, token in zip(values.tolist(), ids.tolist(), strict=True):
            word = tokenizer.decode([token]).strip().lower()
            if token not in special and any(letter.isalnum() for letter in word):
                words.setdefault(word, value)
        if len(words) >= k or wanted == len(cosines):
            return list(words.items())[:k]
        wanted = min(4 * wanted, len(cosines))
