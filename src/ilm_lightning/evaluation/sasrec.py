"""SASRec (Kang and McAuley, 2018) for scale: the model of RePlay, trained on the same training items as all others.

Optional: ``pip install 'ilm-lightning[sasrec]'``.
"""

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ilm_lightning.evaluation.ranking import Ints, Scores, ranking_from_ranks, ranks_of_scores

log = logging.getLogger("ilm_lightning")
ITEM = "item_id"


@dataclass(frozen=True)
class SasrecSettings:
    """How SASRec is built and trained.

    Attributes:
        width: of embeddings and hidden states.
        blocks: transformer blocks.
        heads: of attention.
        length: the most recent items that are read; longer histories are trained on in pieces of this length.
        dropout: of embeddings and blocks.
        lr: Adam's learning rate.
        batch_size: sequences a step.
        epochs: the most passes.
        patience: passes without a better NDCG@10 on validation users after which training stops.
        validation_users: users of that check, drawn once.
    """

    width: int = 64
    blocks: int = 2
    heads: int = 2
    length: int = 50
    dropout: float = 0.2
    lr: float = 1e-3
    batch_size: int = 128
    epochs: int = 100
    patience: int = 5
    validation_users: int = 2000


@dataclass(frozen=True)
class Sasrec:
    """A trained model and the users whose next items it scores.

    Attributes:
        model: RePlay's ``SasRec``.
        histories: per user the rows of what was met before the target.
        settings: as it was trained.
        n_items: I.
        epochs: passes until its best weights.
    """

    model: Any
    histories: Sequence[NDArray[np.int32]]
    settings: SasrecSettings
    n_items: int
    epochs: int

    @property
    def parameters(self) -> int:
        """Trained weights."""
        return sum(weights.numel() for weights in self.model.parameters())

    @torch.inference_mode()
    def __call__(self, users: slice) -> Scores:
        """Score: the logit of every item after the user's latest ones."""
        self.model.eval()
        parts = []
        chosen = self.histories[users]
        for start in range(0, len(chosen), self.settings.batch_size):
            items = padded(chosen[start : start + self.settings.batch_size], self.settings.length, self.n_items)
            logits: Tensor = self.model({ITEM: items}, items != self.n_items)["logits"]
            parts.append(logits.float().numpy())
        scores: Scores = np.concatenate(parts)
        return scores


def padded(histories: Sequence[NDArray[np.int32]], length: int, filler: int) -> Tensor:
    """Latest items ``[n, l]``, filled up on the left to the longest of them, at most ``length``.

    >>> padded([np.array([1, 2, 3], np.int32), np.array([4], np.int32)], 2, 9).tolist()
    [[2, 3], [9, 4]]
    """
    width = max(1, min(length, max(len(one) for one in histories)))
    rows = torch.full((len(histories), width), filler, dtype=torch.long)
    for place, one in enumerate(histories):
        latest = one[-width:]
        rows[place, width - len(latest) :] = torch.from_numpy(latest.astype(np.int64))
    return rows


def new_model(n_items: int, settings: SasrecSettings) -> Any:
    """RePlay's model with full cross-entropy over the catalogue.

    Raises:
        ValueError: the library is not there.
    """
    try:
        from replay.data import FeatureHint, FeatureSource, FeatureType
        from replay.data.nn import TensorFeatureInfo, TensorFeatureSource, TensorSchema
        from replay.nn.sequential import SasRec
    except ImportError as error:
        raise ValueError(
            f"SASRec needs RePlay ({error}): pip install 'ilm-lightning[sasrec]', or leave sasrec out of "
            "evaluation.baselines"
        ) from error
    feature = TensorFeatureInfo(
        ITEM,
        is_seq=True,
        feature_type=FeatureType.CATEGORICAL,
        embedding_dim=settings.width,
        padding_value=n_items,
        cardinality=n_items,
        feature_hint=FeatureHint.ITEM_ID,
        feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, ITEM)],
    )
    return SasRec.from_params(
        TensorSchema([feature]),
        embedding_dim=settings.width,
        num_heads=settings.heads,
        num_blocks=settings.blocks,
        max_sequence_length=settings.length,
        dropout=settings.dropout,
    )


def fit_sasrec(
    training: Sequence[NDArray[np.int32]],
    validation: Ints,
    n_items: int,
    settings: SasrecSettings,
    seed: int = 0,
) -> tuple[Any, int]:
    """Train until NDCG@10 on validation users no longer rises.

    Args:
        training: per user the rows of training items in order of time.
        validation: ``[U]`` each user's validation item.
        n_items: I.
        settings: of model and training.
        seed: of weights, order and validation users.

    Returns:
        The model with its best weights, and after how many passes it had them.

    Raises:
        ValueError: the library is not there, or no user has two training items.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = new_model(n_items, settings)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.lr, betas=(0.9, 0.98))
    size = settings.length + 1
    pieces = [
        one[start : start + size] for one in training for start in range(0, max(1, len(one) - 1), settings.length)
    ]
    pieces = [piece for piece in pieces if len(piece) > 1]
    if not pieces:
        raise ValueError("SASRec learns from one item to the next, and no user has two training items")
    users = rng.permutation(len(training))[: settings.validation_users]
    checked = [training[user] for user in users]
    best, best_state, best_epoch = -1.0, copy.deepcopy(model.state_dict()), 0
    for epoch in range(1, settings.epochs + 1):
        loss = _pass(model, optimiser, pieces, n_items, settings, rng)
        scorer = Sasrec(model, checked, settings, n_items, epoch)
        ranks = ranks_of_scores(scorer(slice(None)), validation[users])
        quality = ranking_from_ranks(ranks).ndcg[10]
        log.info("sasrec    pass %d: loss %.4f, validation NDCG@10 %.4f", epoch, loss, quality)
        if quality > best:
            best, best_state, best_epoch = quality, copy.deepcopy(model.state_dict()), epoch
        elif epoch - best_epoch >= settings.patience:
            break
    model.load_state_dict(best_state)
    return model, best_epoch


def _pass(
    model: Any,
    optimiser: torch.optim.Optimizer,
    pieces: Sequence[NDArray[np.int32]],
    n_items: int,
    settings: SasrecSettings,
    rng: np.random.Generator,
) -> float:
    """One pass over all pieces; the mean loss of its steps."""
    model.train()
    # similar lengths together, or short histories would be mostly padding
    order = rng.permutation(len(pieces))
    order = order[np.argsort([len(pieces[place]) for place in order], kind="stable")]
    batches = [order[start : start + settings.batch_size] for start in range(0, len(order), settings.batch_size)]
    losses = []
    for place in rng.permutation(len(batches)):
        rows = padded([pieces[piece] for piece in batches[place]], settings.length + 1, n_items)
        items, targets = rows[:, :-1], rows[:, 1:]
        known = items != n_items
        loss: Tensor = model(
            {ITEM: items},
            known,
            positive_labels=targets[..., None],
            negative_labels=None,
            target_padding_mask=known[..., None],
        )["loss"]
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    return float(np.mean(losses))
