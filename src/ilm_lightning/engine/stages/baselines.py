"""Recommenders without a language model as a stage: the whole catalogue ranked for the same users and targets."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.engine.artifacts import Artifact, source_hash, write_json
from ilm_lightning.engine.config import Config, EvaluationConfig
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.openp5 import load_sequences
from ilm_lightning.tasks.openp5.examples import chosen_users

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from ilm_lightning.data.openp5 import Sequences
    from ilm_lightning.evaluation.baselines import Scorer

NAMES = {
    "markov": "Markov", "popularity": "popularity", "item_knn": "item-kNN", "als": "ALS", "sasrec": "SASRec",
}  # fmt: skip
"""Setting -> name in tables."""
RANKS = "baselines.parquet"
SASREC_CODE = 1
WEIGHTS = "sasrec.safetensors"


def rank_baselines(context: Context, prepared: Artifact, embedded: Artifact) -> Artifact:
    """Rank each user's target with every baseline of ``evaluation.baselines``.

    Args:
        context: the run.
        prepared: the sequences.
        embedded: holds ALS's item factors.

    Returns:
        The artefact: ``metrics.json`` with the measures by name, ``baselines.parquet`` with each user's ranks.
    """
    evaluation = context.config.evaluation
    settings = {
        "sources": source_hash("evaluation"),
        "names": list(evaluation.baselines),
        "users": evaluation.users,
        "split": evaluation.split,
        "filter_seen": evaluation.filter_seen,
        "als": asdict(context.config.encoder.als),
        "knn_neighbours": evaluation.knn_neighbours,
        "seed": context.config.seed,
    }
    if "sasrec" in evaluation.baselines:
        settings["sasrec"] = asdict(evaluation.sasrec)
    inputs: dict[str, Artifact | str] = {"prepare": prepared, "embed": embedded}
    return context.store.get("baselines", settings, inputs, lambda folder: _rank(context, prepared, embedded, folder))


def settings_of(config: Config) -> dict[str, dict[str, Any]]:
    """What each baseline with settings was set to, by its name in tables."""
    evaluation = config.evaluation
    known = {
        "als": asdict(config.encoder.als),
        "item_knn": {"neighbours": evaluation.knn_neighbours},
        "sasrec": asdict(evaluation.sasrec),
    }
    return {NAMES[name]: known[name] for name in evaluation.baselines if name in known}


def read_baselines(ranked: Artifact) -> dict[str, Any]:
    """Measures by the baseline's name."""
    found: dict[str, Any] = json.loads((ranked.path / "metrics.json").read_text(encoding="utf-8"))
    return found


def _rank(context: Context, prepared: Artifact, embedded: Artifact, folder: Path) -> dict[str, Any]:
    from ilm_lightning.evaluation.baselines import ranks_of
    from ilm_lightning.evaluation.ranking import ranking_of_users
    from ilm_lightning.evaluation.sasrec import Sasrec

    evaluation = context.config.evaluation
    sequences, _ = load_sequences(prepared)
    users = chosen_users(len(sequences), evaluation.users)
    targets = sequences.targets(evaluation.split)[users].astype(np.int64)
    history = sequences.seen(evaluation.split)[users]
    seen = history if evaluation.filter_seen else None
    tied = sequences.tied_at(evaluation.split, users)
    metrics: dict[str, Any] = {}
    ranks: dict[str, Any] = {"user": [sequences.user_ids[user] for user in users]}
    for name in evaluation.baselines:
        if name == "sasrec":
            scorer = _sasrec(context, prepared, sequences, users)
        else:
            scorer = _scorer(context, name, sequences, embedded, users, history)
        found = ranks_of(scorer, targets, seen)
        metrics[NAMES[name]] = ranking_of_users(found, tied) | {"parameters": scorer.parameters}
        if isinstance(scorer, Sasrec):
            metrics[NAMES[name]]["passes"] = scorer.epochs
        ranks[NAMES[name]] = found
    write_json(folder / "metrics.json", metrics)
    pl.DataFrame(ranks).write_parquet(folder / RANKS)
    return {"users": len(users), "items": sequences.n_items}


def _scorer(
    context: Context, name: str, sequences: "Sequences", embedded: Artifact, users: Any, history: "csr_matrix"
) -> "Scorer":
    from ilm_lightning.embeddings.behavioral import fold_in
    from ilm_lightning.evaluation.baselines import Markov, Popularity, dot_product, item_knn

    if name == "markov":
        before = sequences.offsets[1:] + sequences.target_position(context.config.evaluation.split) - 1
        last = sequences.values[before][users].astype(np.int64)
        return Markov(sequences.transition_counts(), sequences.popularity(), last)
    if name == "popularity":
        return Popularity(sequences.popularity(), len(users))
    if name == "item_knn":
        neighbours = context.config.evaluation.knn_neighbours
        return item_knn(sequences.training_interactions().matrix(), history, neighbours)
    als = context.config.encoder.als
    factors = ItemVectors.load(embedded.path).raw("behavioral")
    # as of the same history that the model and item-kNN read: the fitted users know less of it at test
    return dot_product(fold_in(factors, history, als.regularization, als.alpha), factors)


def _sasrec(context: Context, prepared: Artifact, sequences: "Sequences", users: Any) -> "Scorer":
    """SASRec as an artefact of its own: whom it is tested on, and with which filter, trains nothing anew."""
    from safetensors.torch import load_file, save_file

    from ilm_lightning.data.openp5.sequences import HELD_OUT
    from ilm_lightning.evaluation.sasrec import Sasrec, SasrecSettings, fit_sasrec, new_model

    settings = SasrecSettings(**asdict(context.config.evaluation.sasrec))
    recipe = {"code": SASREC_CODE, "settings": asdict(settings), "seed": context.config.seed}

    def build(folder: Path) -> dict[str, Any]:
        training = [sequences.items(user)[:-HELD_OUT] for user in range(len(sequences))]
        validation = sequences.targets("validation").astype(np.int64)
        model, passes = fit_sasrec(training, validation, sequences.n_items, settings, context.config.seed)
        save_file(
            {name: weights.clone().contiguous() for name, weights in model.state_dict().items()}, folder / WEIGHTS
        )
        return {"passes": passes}

    fitted = context.store.get("sasrec", recipe, {"prepare": prepared}, build)
    model = new_model(sequences.n_items, settings)
    model.load_state_dict(load_file(fitted.path / WEIGHTS))
    target = sequences.target_position(context.config.evaluation.split)
    histories = [sequences.items(int(user))[:target] for user in users]
    return Sasrec(model, histories, settings, sequences.n_items, int(fitted.report["passes"]))


def filter_text(evaluation: EvaluationConfig) -> str:
    """Whether items that a user has met may be recommended, in words.

    >>> filter_text(EvaluationConfig(filter_seen=True))
    'seen items filtered'
    """
    return f"seen items {'filtered' if evaluation.filter_seen else 'not filtered'}"
