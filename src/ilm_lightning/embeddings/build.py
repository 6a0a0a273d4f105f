"""Build the frozen vectors that both phases read."""

from collections.abc import Sequence

import numpy as np

from ilm_lightning.data.tables import Interactions, ItemCatalog
from ilm_lightning.embeddings.behavioral import rated_items
from ilm_lightning.embeddings.semantic import FIELDS, mean_of_items
from ilm_lightning.embeddings.vectors import Floats, ItemVectors, Mask, Scaling, fit_scaling


def build_vectors(
    interactions: Interactions,
    catalog: ItemCatalog,
    factors: tuple[Floats, Floats],
    encoded: tuple[Floats, Mask] | None = None,
    *,
    train: Mask | None = None,
    fields: Sequence[str] = FIELDS,
) -> ItemVectors:
    """Bring ALS's factors and the texts' vectors to one scale (PROTOCOL 1).

    Args:
        interactions: what ALS has seen and the users' semantic means may see.
        catalog: the items, in the interactions' order.
        factors: of items ``[I, k]`` and users ``[U, k]``, as ``fit_als`` returns them.
        encoded: vectors ``[I, d]`` and ``has_text`` ``[I]``, as ``encode_items`` returns them; None leaves texts out.
        train: ``[I]`` training items: they alone give centre and scale; None takes all.
        fields: text fields of the semantic vector.

    Returns:
        Vectors with centre 0 and root mean square 1 over training items, users in the same units.

    Raises:
        ValueError: tables that do not fit together.
    """
    if interactions.n_items != len(catalog):
        raise ValueError(f"interactions are over {interactions.n_items} items, the catalogue holds {len(catalog)}")
    train = np.ones(len(catalog), dtype=np.bool_) if train is None else np.asarray(train, dtype=np.bool_)
    items: dict[str, Floats] = {}
    users: dict[str, Floats] = {}
    scalings: dict[str, Scaling] = {}
    has_ratings = rated_items(interactions)

    def add(name: str, raw_items: Floats, raw_users: Floats, known: Mask) -> None:
        scaling = scalings[name] = fit_scaling(raw_items, train & known)
        items[name], users[name] = scaling.apply(raw_items), scaling.apply(raw_users)

    add("behavioral", *factors, has_ratings)
    # an item nobody rated says nothing: the mean item, not the corner that a zero factor would be
    items["behavioral"][~has_ratings] = 0.0
    if encoded is None:
        has_text = np.array([bool(catalog.text_fields(i, fields)) for i in range(len(catalog))], dtype=np.bool_)
    else:
        vectors, has_text = encoded
        add("semantic", vectors, mean_of_items(vectors, interactions.matrix(), has_text), has_text)
    return ItemVectors(items, users, has_text, scalings, has_ratings)
