"""Phase 1's lean step against plain padded passes in transformers' Q-Former: the same losses and gradients."""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from torch import Tensor

from generated_25m import script
from ilm_lightning.adapters import QFormerAdapter, TextBranch
from ilm_lightning.pretraining import losses as L
from ilm_lightning.pretraining.batches import ItemTextBatch
from ilm_lightning.pretraining.model import PretrainingModel
from ilm_lightning.pretraining.settings import PretrainingSettings
from syncs import Syncs

ITEMS, LENGTH, VOCABULARY = 7, 12, 40


@pytest.fixture(scope="module")
def peer_module() -> ModuleType:
    """The benchmark's peer, which is no part of the package."""
    return script("peer_qformer")


def model(source_tokens: int) -> PretrainingModel:
    torch.manual_seed(0)
    adapter = QFormerAdapter(
        {"behavioral": 6}, output_dim=10, num_queries=3, hidden_size=24, num_layers=3, num_heads=4, ffn_size=40,
        dropout=0.0, source_tokens=source_tokens,
    )  # fmt: skip
    branch = TextBranch.for_qformer(adapter.qformer, vocab_size=VOCABULARY, max_positions=LENGTH)
    settings = PretrainingSettings(losses=("itc", "itm", "itg"), projection_dim=8)
    made = PretrainingModel(adapter, branch, {"behavioral": torch.randn(ITEMS, 6)}, settings)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name != "temperature":
                # large enough for an error to show
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return made


def batch() -> ItemTextBatch:
    """Texts of 3 to 9 tokens, padded to the longest."""
    lengths = torch.tensor([9, 4, 3, 7, 6, 9, 5])
    mask = torch.arange(9) < lengths[:, None]
    ids = torch.randint(3, VOCABULARY, mask.shape, generator=torch.Generator().manual_seed(1)) * mask
    none = torch.empty(0, dtype=torch.long)
    return ItemTextBatch(0, torch.randperm(ITEMS), torch.arange(ITEMS), ids, mask, none, none)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("source_tokens", [1, 2])
def test_losses_and_gradients_equal_the_plain_way(
    peer_module: ModuleType, dtype: torch.dtype, source_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dtype is torch.float64:
        # also what asks for single precision: what is left is an error, not rounding
        monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    ours, given = model(source_tokens).to(dtype).train(), batch()
    peer = peer_module.PeerPretraining(ours).train()
    chosen = L.HardNegatives(
        torch.tensor([2, 0, 1, 6, 3, 4, 5]), torch.tensor([1, 2, 0, 4, 5, 6, 3]), torch.ones(ITEMS, dtype=torch.bool)
    )
    monkeypatch.setattr(L, "sample_hard_negatives", lambda *_, **__: chosen)
    terms = ours(given)
    ours.total(terms).backward()
    missing = (0, LENGTH - given.token_ids.shape[1])
    ids, mask = (torch.nn.functional.pad(tensor, missing) for tensor in (given.token_ids, given.mask))
    theirs: dict[str, Tensor] = peer(given.items, ids, mask.long(), negatives=(chosen.items, chosen.texts))
    torch.stack(list(theirs.values())).sum().backward()
    tolerance = 1e-9 if dtype is torch.float64 else 1e-5
    for name, loss in theirs.items():
        assert abs(float((terms[name] - loss).detach())) < tolerance * float(loss.detach()), name
    pairs = peer_module.gradient_pairs(ours, peer)
    # all that is trained, but for phase 2's own map
    trained = {id(p) for name, p in ours.named_parameters() if "output_projection" not in name}
    assert len(pairs) == len(trained)
    for name, (mine, other) in pairs.items():
        assert other.abs().max() > 0, name
        assert (mine - other).abs().max() <= tolerance * other.abs().max(), name


def test_waits_for_a_device_do_not_grow_with_the_batch(peer_module: ModuleType) -> None:
    ours = model(1).train()
    peer = peer_module.PeerPretraining(ours).train()

    def waits(step: Callable[[], dict[str, Tensor]]) -> int:
        with Syncs() as syncs:
            terms = step()
            torch.stack([terms[name] for name in ("itc", "itm", "itg")]).sum().backward()
        return sum(syncs.found.values())

    def part(rows: int) -> ItemTextBatch:
        whole = batch()
        cut = {name: getattr(whole, name)[:rows] for name in ("items", "text_ids", "token_ids", "mask")}
        return replace(whole, **cut)

    counts = {rows: waits(lambda rows=rows: ours(part(rows))) for rows in (3, ITEMS)}
    assert counts[3] == counts[ITEMS] < 60
    theirs = {
        rows: waits(lambda rows=rows: peer(*(getattr(part(rows), name) for name in ("items", "token_ids", "mask"))))
        for rows in (3, ITEMS)
    }
    # one look at each drawn negative
    assert theirs[ITEMS] - theirs[3] == 2 * (ITEMS - 3)
