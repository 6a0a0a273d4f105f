"""Scores of a generated text against its target: semantic consistency (the paper's SC) and ROUGE-L beside it."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ilm_lightning.sentences import SentenceEncoder

Floats = NDArray[np.float32]
Scores = NDArray[np.float64]

_WORD = re.compile(r"\w+")


def cosine_rows(left: Floats, right: Floats) -> Scores:
    """Compare vectors row by row.

    Args:
        left: ``[n, d]``.
        right: ``[n, d]``.

    Returns:
        ``[n]`` cosines; 0 where either vector is zero.

    >>> cosine_rows(np.float32([[3, 4], [0, 0]]), np.float32([[4, 3], [1, 0]])).round(2).tolist()
    [0.96, 0.0]
    """
    norms = np.linalg.norm(left, axis=1).astype(np.float64) * np.linalg.norm(right, axis=1)
    products = np.einsum("nd,nd->n", left.astype(np.float64), right.astype(np.float64))
    return np.asarray(np.divide(products, norms, out=np.zeros_like(products), where=norms > 0))


class SentenceScorer:
    """Semantic consistency by a sentence-transformers model; every text is embedded once and kept.

    Attributes:
        name: the model's name, to stand beside each number.
        precision: ``"bfloat16"`` or ``"float32"``: the same texts score up to 0.4 apart (times 100) between the two.
    """

    def __init__(self, folder: str | Path, *, bf16: bool | None = None, name: str | None = None) -> None:
        """Load the scorer.

        Args:
            folder: a sentence-transformers folder or name.
            bf16: None takes bf16 where the hardware gains from it.
            name: what to print; None takes the folder's name.

        Raises:
            ValueError: no model in ``folder``.
        """
        self._encoder = SentenceEncoder(folder, bf16=bf16, name=name)
        self.name = self._encoder.name
        self.precision = "bfloat16" if self._encoder.bf16 else "float32"
        self._rows: dict[str, Floats] = {}

    def embed(self, texts: Sequence[str]) -> Floats:
        """Embed texts.

        Args:
            texts: ``n`` texts.

        Returns:
            ``[n, d]`` float32 of unit length, zero for an empty text.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if new:
            self._rows.update(zip(new, self._encoder.encode(new, "scoring texts"), strict=True))
        if not texts:
            return np.zeros((0, self._encoder.dim), dtype=np.float32)
        return np.stack([self._rows[text] for text in texts])

    def semantic_consistency(self, generated: Sequence[str], targets: Sequence[str]) -> Scores:
        """Score generated texts against their targets.

        Args:
            generated: ``n`` texts.
            targets: their ``n`` targets.

        Returns:
            ``[n]`` cosine times 100; 0 for an empty text.

        Raises:
            ValueError: not as many texts as targets.
        """
        if len(generated) != len(targets):
            raise ValueError(f"{len(generated)} generated texts, {len(targets)} targets: give one target per text")
        return 100.0 * cosine_rows(self.embed(generated), self.embed(targets))


def lcs_length(left: Sequence[str], right: Sequence[str]) -> int:
    """Measure the longest common subsequence, bit-parallel (Hyyrö, 2004).

    Args:
        left: tokens.
        right: tokens.

    Returns:
        Its length.

    >>> lcs_length("a b c d e".split(), "x b d y e".split())
    3
    """
    places: dict[str, int] = {}
    for place, token in enumerate(left):
        places[token] = places.get(token, 0) | 1 << place
    whole = (1 << len(left)) - 1
    row = whole
    for token in right:
        met = row & places.get(token, 0)
        # a carry moves each boundary to the next match; bits above the row fall away
        row = (row + met | row - met) & whole
    return len(left) - row.bit_count()


def rouge_l(generated: Sequence[str], targets: Sequence[str]) -> Scores:
    """Score word order overlap: F1 of the longest common subsequence of lower-case words (Lin, 2004), times 100.

    Args:
        generated: ``n`` texts.
        targets: their ``n`` targets.

    Returns:
        ``[n]`` from 0 to 100; 0 where either text has no word.

    Raises:
        ValueError: not as many texts as targets.

    >>> rouge_l(["The film is good."], ["A film that is good"]).round(1).tolist()
    [66.7]
    """
    if len(generated) != len(targets):
        raise ValueError(f"{len(generated)} generated texts, {len(targets)} targets: give one target per text")
    scores = np.zeros(len(generated))
    for row, (ours, theirs) in enumerate(zip(generated, targets, strict=True)):
        left, right = _WORD.findall(ours.lower()), _WORD.findall(theirs.lower())
        if left and right:
            scores[row] = 200.0 * lcs_length(left, right) / (len(left) + len(right))
    return scores
