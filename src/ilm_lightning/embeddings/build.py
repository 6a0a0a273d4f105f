"""Build the frozen vectors that both phases read."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ilm_lightning.data.tables import Interactions, ItemCatalog
from ilm_lightning.embeddings.behavioral import ALPHA, REGULARIZATION, fit_als, rated_items
from ilm_lightning.embeddings.semantic import FIELDS, encode_items, mean_of_items
from ilm_lightning.embeddings.vectors import ENCODERS, Floats, ItemVectors, Mask, Scaling, fit_scaling


def build_vectors(
    interactions: Interactions,
    catalog: ItemCatalog,
    *,
    encoder: str = "combined",
    model_folder: str | Path | None = None,
    train: Mask | None = None,
    fields: Sequence[str] = FIELDS,
    factors: int = 64,
    regularization: float = REGULARIZATION,
    alpha: float = ALPHA,
    iterations: int = 15,
    seed: int = 0,
    batch_size: int = 32,
    bf16: bool | None = None,
    num_threads: int = 0,
    fit: Callable[..., tuple[Floats, Floats]] = fit_als,
) -> ItemVectors:
    """Build item and user vectors (PROTOCOL 1).

    Args:
        interactions: what ALS and the users' semantic means may see.
        catalog: the items, in the interactions' order.
        encoder: ``"behavioral"``, ``"semantic"`` or ``"combined"``.
        model_folder: sentence-transformers folder or name; needed unless behavioral.
        train: ``[I]`` training items: they alone give centre, scale and the stand-in for missing text; None takes all.
        fields: text fields of the semantic vector.
        factors: width of the behavioral vector.
        regularization: of ALS.
        alpha: of ALS, confidence of an interaction relative to a missing one.
        iterations: of ALS.
        seed: of ALS.
        batch_size: texts per forward.
        bf16: None takes bf16 where the hardware gains from it.
        num_threads: of ALS, 0 takes all cores.
        fit: the factorisation, called as ``fit_als``.

    Returns:
        Vectors with centre 0 and root mean square 1 over training items, users in the same units.

    Raises:
        ValueError: unknown encoder, tables that do not fit together, no model for semantic vectors.
    """
    _check(interactions, catalog, encoder, model_folder)
    train = np.ones(len(catalog), dtype=np.bool_) if train is None else np.asarray(train, dtype=np.bool_)
    items: dict[str, Floats] = {}
    users: dict[str, Floats] = {}
    scalings: dict[str, Scaling] = {}
    has_text = np.array([bool(catalog.text_fields(i, fields)) for i in range(len(catalog))], dtype=np.bool_)
    has_ratings = rated_items(interactions)

    def add(name: str, raw_items: Floats, raw_users: Floats, known: Mask) -> None:
        scaling = scalings[name] = fit_scaling(raw_items, train & known)
        items[name], users[name] = scaling.apply(raw_items), scaling.apply(raw_users)

    if "behavioral" in ENCODERS[encoder]:
        fitted = fit(interactions, factors, regularization, alpha, iterations, seed, num_threads)
        add("behavioral", *fitted, has_ratings)
        # an item nobody rated says nothing: the mean item, not the corner that a zero factor would be
        items["behavioral"][~has_ratings] = 0.0
    if model_folder is not None and "semantic" in ENCODERS[encoder]:
        encoded, has_text = encode_items(catalog, model_folder, fields, batch_size, bf16, train)
        add("semantic", encoded, mean_of_items(encoded, interactions.matrix(), has_text), has_text)
    return ItemVectors(items, users, has_text, scalings, has_ratings)


def _check(interactions: Interactions, catalog: ItemCatalog, encoder: str, model_folder: str | Path | None) -> None:
    if encoder not in ENCODERS:
        raise ValueError(f"unknown encoder {encoder!r}: choose one of {', '.join(ENCODERS)}")
    if interactions.n_items != len(catalog):
        raise ValueError(f"interactions are over {interactions.n_items} items, the catalogue holds {len(catalog)}")
    if "semantic" in ENCODERS[encoder] and model_folder is None:
        raise ValueError(f"encoder={encoder} needs a sentence-transformers model; or choose encoder=behavioral")
