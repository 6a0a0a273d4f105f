"""What the text branch may see, padding, gradients and bad input."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ilm_lightning.adapters import QFormer, TextBranch

VOCABULARY, TEXTS, TOKENS = 31, 4, 6
DIMS = {"behavioral": 5, "semantic": 7}


@pytest.fixture
def qformer() -> QFormer:
    torch.manual_seed(0)
    return QFormer(DIMS, num_queries=3, hidden_size=16, num_layers=3, num_heads=4, ffn_size=24).double().eval()


@pytest.fixture
def branch(qformer: QFormer) -> TextBranch:
    torch.manual_seed(1)
    return TextBranch.for_qformer(qformer, vocab_size=VOCABULARY, max_positions=10).double().eval()


@pytest.fixture
def sources() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {name: torch.randn(TEXTS, d, generator=generator, dtype=torch.float64) for name, d in DIMS.items()}


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(0, VOCABULARY, (TEXTS, TOKENS), generator=torch.Generator().manual_seed(3))


MASK = (torch.arange(TOKENS) < torch.tensor([6, 2, 4, 1])[:, None]).long()
MASK[2, 1] = 0  # padding need not be at the end
FULL = torch.ones(TEXTS, TOKENS, dtype=torch.long)


def all_passes(branch: TextBranch, qformer: QFormer, sources: dict[str, Tensor], ids: Tensor, mask: Tensor) -> Any:
    decoded = branch.decode_text(qformer, qformer(sources).keys_values, ids, mask)
    return branch.encode_text(qformer, ids, mask), decoded, branch.encode_joint(qformer, sources, ids, mask)


@pytest.mark.parametrize("position", range(TOKENS))
def test_decoding_never_sees_a_later_token(
    qformer: QFormer, branch: TextBranch, sources: dict[str, Tensor], ids: Tensor, position: int
) -> None:
    keys_values = qformer(sources).keys_values
    before = branch.logits(branch.decode_text(qformer, keys_values, ids, FULL))
    changed_ids = ids.clone()
    changed_ids[:, position] = (ids[:, position] + 1) % VOCABULARY
    after = branch.logits(branch.decode_text(qformer, keys_values, changed_ids, FULL))
    assert torch.equal(after[:, :position], before[:, :position])
    assert (after[:, position:] != before[:, position:]).any(-1).all()


def test_decoding_sees_the_item_and_its_gradient_reaches_it(
    qformer: QFormer, branch: TextBranch, sources: dict[str, Tensor], ids: Tensor
) -> None:
    sources["semantic"].requires_grad_()
    decoded = branch.decode_text(qformer, qformer(sources).keys_values, ids, MASK)
    row = 2
    (decoded[row] * torch.randn_like(decoded[row])).sum().backward()
    gradient = sources["semantic"].grad
    assert gradient is not None
    assert (gradient.abs().amax(1) > 0).tolist() == [i == row for i in range(TEXTS)]


def test_joint_queries_see_text_and_item(
    qformer: QFormer, branch: TextBranch, sources: dict[str, Tensor], ids: Tensor
) -> None:
    before = branch.encode_joint(qformer, sources, ids, MASK)
    for position in (0, 5):
        changed = ids.clone()
        changed[:, position] = (ids[:, position] + 1) % VOCABULARY
        after = branch.encode_joint(qformer, sources, changed, MASK)
        moved = (after - before).abs().amax((1, 2)) > 1e-9
        assert moved.tolist() == MASK[:, position].bool().tolist()
    other = {"behavioral": sources["behavioral"], "semantic": sources["semantic"] + 1}
    assert ((branch.encode_joint(qformer, other, ids, MASK) - before).abs().amax((1, 2)) > 1e-9).all()
    mask = torch.tensor([[True, False]]).expand(TEXTS, 2)
    blind = branch.encode_joint(qformer, sources, ids, MASK, mask)
    assert torch.equal(branch.encode_joint(qformer, other, ids, MASK, mask), blind)


def test_padding_and_the_rest_of_the_batch_change_nothing(
    qformer: QFormer, branch: TextBranch, sources: dict[str, Tensor], ids: Tensor
) -> None:
    text, decoded, joint = all_passes(branch, qformer, sources, ids, MASK)
    assert not text[~MASK.bool()].any()
    assert not decoded[~MASK.bool()].any()

    garbage = torch.where(MASK.bool(), ids, (ids + 7) % VOCABULARY)
    longer_ids = torch.cat([garbage, torch.full((TEXTS, 3), 5)], dim=1)
    longer_mask = torch.cat([MASK, torch.zeros(TEXTS, 3, dtype=torch.long)], dim=1)
    padded = all_passes(branch, qformer, sources, longer_ids, longer_mask.bool())
    for actual, expected in zip(
        (padded[0][:, :TOKENS], padded[1][:, :TOKENS], padded[2]), (text, decoded, joint), strict=True
    ):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)

    row = slice(1, 2)  # 2 real tokens: alone it needs no padding
    own = {name: vector[row] for name, vector in sources.items()}
    alone = all_passes(branch, qformer, own, ids[row, :2], MASK[row, :2])
    for actual, expected in zip(alone, (text[row, :2], decoded[row, :2], joint[row]), strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


def test_every_parameter_gets_a_gradient_from_the_three_passes(
    qformer: QFormer, branch: TextBranch, sources: dict[str, Tensor], ids: Tensor
) -> None:
    text, decoded, joint = all_passes(branch.train(), qformer.train(), sources, branch.decoder_ids(ids), MASK)
    outputs = [text[:, 0], branch.logits(decoded[MASK.bool()]), joint]
    torch.stack([(output * torch.randn_like(output)).sum() for output in outputs]).sum().backward()
    for module in (qformer, branch):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name
    used = branch.position_embeddings.weight.grad.abs().amax(1) > 0  # type: ignore[union-attr]
    assert used.tolist() == [True] * TOKENS + [False] * (10 - TOKENS)


def test_an_empty_text_gives_no_nan(
    qformer: QFormer, branch: TextBranch, sources: dict[str, Tensor], ids: Tensor
) -> None:
    mask = MASK.clone()
    mask[3] = 0
    outputs = all_passes(branch, qformer, sources, ids, mask)
    assert not outputs[0][3].any()
    torch.testing.assert_close(outputs[0][:3], branch.encode_text(qformer, ids[:3], mask[:3]), rtol=0, atol=1e-12)
    sum(output.square().sum() for output in outputs).backward()
    for parameter in (*qformer.parameters(), *branch.parameters()):
        assert parameter.grad is None or parameter.grad.isfinite().all()


def test_passes_run_under_bfloat16_autocast(
    qformer: QFormer, branch: TextBranch, sources: dict[str, Tensor], ids: Tensor
) -> None:
    qformer, branch = qformer.float(), branch.float()
    single = {name: vector.float() for name, vector in sources.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = all_passes(branch, qformer, single, ids, MASK)
        logits = branch.logits(low[1])
    for actual, expected in zip(low, all_passes(branch, qformer, single, ids, MASK), strict=True):
        torch.testing.assert_close(actual.float(), expected, rtol=0.05, atol=0.1)
    logits.float().square().mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in (*qformer.parameters(), *branch.parameters()))


def test_dropout_acts_in_training_only(branch: TextBranch, sources: dict[str, Tensor], ids: Tensor) -> None:
    sizes: Any = {"num_queries": 3, "hidden_size": 16, "num_layers": 3, "num_heads": 4, "ffn_size": 24}
    for dropout in (0.0, 0.5):
        qformer = QFormer(DIMS, **sizes, dropout=dropout).double().eval()
        own = TextBranch.for_qformer(qformer, vocab_size=VOCABULARY).double().eval()
        still = all_passes(own, qformer, sources, ids, MASK)
        trained = all_passes(own.train(), qformer.train(), sources, ids, MASK)
        assert [torch.equal(a, b) for a, b in zip(still, trained, strict=True)] == [dropout == 0.0] * 3


def test_decoder_ids_replace_the_first_token_only(branch: TextBranch, ids: Tensor) -> None:
    before = ids.clone()
    decoder_ids = branch.decoder_ids(ids)
    assert decoder_ids[:, 0].tolist() == [VOCABULARY] * TEXTS
    assert torch.equal(decoder_ids[:, 1:], ids[:, 1:])
    assert torch.equal(ids, before)
    assert branch.decoder_id == VOCABULARY


def test_the_branch_does_not_hold_the_qformer(branch: TextBranch) -> None:
    assert not any("attention" in name or "queries" in name for name in branch.state_dict())


def test_bad_input_says_what_is_wrong(
    qformer: QFormer, branch: TextBranch, sources: dict[str, Tensor], ids: Tensor
) -> None:
    with pytest.raises(ValueError, match=r"ids \[4, 6\] and mask \[4, 5\] must both be \[n, t\]"):
        branch.encode_text(qformer, ids, MASK[:, :5])
    with pytest.raises(ValueError, match="texts of 12 tokens, at most 10: truncate"):
        branch.encode_text(qformer, ids.repeat(1, 2), MASK.repeat(1, 2))
    with pytest.raises(ValueError, match="sources are of 4 items, ids of 2 texts"):
        branch.encode_joint(qformer, sources, ids[:2], MASK[:2])
    with pytest.raises(ValueError, match="keys_values are of 4 items, ids of 2 texts"):
        branch.decode_text(qformer, qformer(sources).keys_values, ids[:2], MASK[:2])
    shallow = TextBranch(VOCABULARY, 16, num_layers=2, ffn_size=24).double()
    with pytest.raises(ValueError, match="the text branch has 2 layers, the Q-Former 3"):
        shallow.encode_text(qformer, ids, MASK)
    with pytest.raises(ValueError, match="vocab_size=0"):
        TextBranch(vocab_size=0)
