"""Semantic vectors: title and each genre and tag encoded apart by a sentence-transformers model, then averaged."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from ilm_lightning.data.tables import ItemCatalog
from ilm_lightning.embeddings.vectors import Floats, Mask
from ilm_lightning.sentences import SentenceEncoder

log = logging.getLogger(__name__)

FIELDS = ("title", "genres", "tags", "genome_tags")


def encode_items(
    catalog: ItemCatalog,
    model_folder: str | Path,
    fields: Sequence[str] = FIELDS,
    batch_size: int = 32,
    bf16: bool | None = None,
    train: Mask | None = None,
) -> tuple[Floats, Mask]:
    """Encode every item's texts and average them.

    Args:
        catalog: ``I`` items.
        model_folder: a sentence-transformers folder or name.
        fields: which text fields; each entry of each is encoded apart.
        batch_size: texts per forward.
        bf16: None takes bf16 where the hardware gains from it.
        train: ``[I]``, the items whose mean stands in for items without text; None takes all.

    Returns:
        Vectors ``[I, d]`` float32, and ``has_text`` ``[I]``: False where an item has no text and got the mean vector.

    Raises:
        ValueError: no item has any text in these fields.
    """
    texts = [catalog.text_fields(index, fields) for index in range(len(catalog))]
    has_text = np.array([bool(own) for own in texts], dtype=np.bool_)
    if not has_text.any():
        raise ValueError(
            f"no item has text in the fields {', '.join(fields)}: choose encoder=behavioral or other fields"
        )
    vectors = average_texts(texts, SentenceEncoder(model_folder, bf16=bf16, batch_size=batch_size))
    known = has_text if train is None or not (has_text & train).any() else has_text & train
    vectors[~has_text] = vectors[known].mean(0)
    if not has_text.all():
        log.info("%d of %d items have no text: they hold the mean semantic vector", (~has_text).sum(), len(has_text))
    return vectors, has_text


def average_texts(texts: Sequence[Sequence[str]], encoder: SentenceEncoder) -> Floats:
    """Average the unit vectors of each item's texts.

    Args:
        texts: per item its texts, perhaps none.
        encoder: encodes each distinct text once.

    Returns:
        ``[I, d]`` float32; zero for an item without texts.
    """
    lengths = np.array([len(own) for own in texts], dtype=np.int64)
    flat = [text for own in texts for text in own]
    column_of = {text: column for column, text in enumerate(dict.fromkeys(flat))}
    encoded = encoder.encode(list(column_of), "encoding item texts")
    columns = np.array([column_of[text] for text in flat], dtype=np.int64)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    weights = np.repeat(1.0 / np.maximum(lengths, 1), lengths).astype(np.float32)
    mean = csr_matrix((weights, columns, ends), shape=(len(texts), len(column_of)))
    return np.asarray(mean @ encoded, dtype=np.float32)


def mean_of_items(item_vectors: Floats, user_items: csr_matrix, counted: Mask) -> Floats:
    """Give each user the mean vector of their items.

    Args:
        item_vectors: ``[I, d]``.
        user_items: ``[U, I]`` binary, training interactions.
        counted: ``[I]``, items whose vector says something (those with text).

    Returns:
        ``[U, d]`` float32; the mean over all counted items for a user without any.
    """
    # copied only where something is left out: the interactions may be many
    kept = user_items if counted.all() else user_items.multiply(counted[None, :].astype(np.float32)).tocsr()
    counts = np.asarray(kept.sum(1)).ravel()
    users = np.asarray(kept @ item_vectors) / np.maximum(counts, 1)[:, None]
    users[counts == 0] = item_vectors[counted].mean(0)
    return np.asarray(users, dtype=np.float32)
