"""SASRec from RePlay: on sequences whose next item is known; skipped where the library is not installed."""

import logging
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from ilm_lightning.evaluation.baselines import evaluate
from ilm_lightning.evaluation.sasrec import Sasrec, SasrecSettings, fit_sasrec, new_model, padded

SMALL = SasrecSettings(width=16, length=5, dropout=0.0, lr=1e-2, batch_size=16, epochs=12, patience=12)
ITEMS = 12
needs_replay = pytest.mark.skipif(
    find_spec("replay") is None,
    reason="RePlay is not installed: pip install 'ilm-lightning[sasrec]'",
)


def circles(users: int) -> list[np.ndarray]:
    """Everybody walks round the same circle of items from another start."""
    return [((np.arange(9) + user) % ITEMS).astype(np.int32) for user in range(users)]


@needs_replay
def test_it_learns_what_follows(caplog: pytest.LogCaptureFixture) -> None:
    sequences = circles(48)
    training = [one[:-2] for one in sequences]
    validation = np.array([one[-2] for one in sequences], dtype=np.int64)
    with caplog.at_level(logging.INFO):
        model, passes = fit_sasrec(training, validation, ITEMS, SMALL)
    assert 1 <= passes <= 12
    assert "validation NDCG@10" in caplog.text
    scorer = Sasrec(model, [one[:-1] for one in sequences], SMALL, ITEMS, passes)
    targets = np.array([one[-1] for one in sequences], dtype=np.int64)
    assert evaluate(scorer, targets).hr[5] > 0.95
    assert scorer.parameters == sum(weights.numel() for weights in model.parameters()) > 0
    # histories that are longer than what is read, and users in blocks, change nothing
    again = Sasrec(model, [np.concatenate([one[::-1], one[:-1]]) for one in sequences], SMALL, ITEMS, passes)
    np.testing.assert_allclose(again(slice(3, 5)), scorer(slice(0, 48))[3:5], atol=1e-5)


@needs_replay
def test_the_same_seed_gives_the_same_weights() -> None:
    training, validation = circles(8), np.arange(8, dtype=np.int64)
    few = SasrecSettings(width=8, length=4, epochs=2, batch_size=4)
    one, other = (fit_sasrec(training, validation, ITEMS, few, seed=3)[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


@needs_replay
def test_nothing_to_learn_from() -> None:
    with pytest.raises(ValueError, match="two training items"):
        fit_sasrec([np.array([1], np.int32)] * 3, np.zeros(3, np.int64), ITEMS, SMALL)


def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "replay.data", None)
    with pytest.raises(ValueError, match=r"pip install 'ilm-lightning\[sasrec\]'"):
        new_model(ITEMS, SMALL)


def test_padding_keeps_the_latest() -> None:
    assert padded([np.array([1, 2, 3], np.int32), np.array([4], np.int32)], 5, 9).tolist() == [[1, 2, 3], [9, 9, 4]]
    assert padded([np.array([], np.int32)], 5, 9).tolist() == [[9]]
