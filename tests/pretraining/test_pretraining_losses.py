"""Losses of phase 1 against values worked by hand."""

import doctest
import math
from types import ModuleType

import pytest
import torch
from torch.nn import functional as F

from ilm_lightning.pretraining import batches, losses, pairs, priors, retrieval
from ilm_lightning.pretraining.losses import (
    ITM_PRIOR,
    in_batch_info_nce,
    in_batch_pair_loss,
    itc_loss,
    itg_loss,
    itm_loss,
    pair_contrastive_loss,
    sample_hard_negatives,
    vocabulary_grounding_loss,
)


@pytest.mark.parametrize("module", [losses, pairs, priors, batches, retrieval])
def test_worked_examples(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def unit(*rows: tuple[float, ...]) -> torch.Tensor:
    return F.normalize(torch.tensor(rows, dtype=torch.float64), dim=-1)


def test_itc_takes_the_best_query_for_each_candidate() -> None:
    # item 0's first query fits text 0, its second query text 1; item 1 has both queries on text 1
    queries = torch.stack([unit((1, 0), (0, 1)), unit((0, 1), (0, 1))])
    texts, ids = unit((1, 0), (0, 1)), torch.arange(2)
    result = itc_loss(queries, texts, 0.5, ids, ids, label_smoothing=0.0)
    assert result.similarities.tolist() == [[2.0, 2.0], [0.0, 2.0]]
    item_to_text = (math.log(2) + math.log(1 + math.exp(-2))) / 2
    text_to_item = (math.log(1 + math.exp(-2)) + math.log(2)) / 2
    assert result.loss.item() == pytest.approx((item_to_text + text_to_item) / 2, abs=1e-12)


def test_itc_smoothing_by_hand() -> None:
    eye, ids = torch.eye(2, dtype=torch.float64), torch.arange(2)
    # targets 0.95 and 0.05; -log p = log(1 + 1/e) and 1 more for the other
    low = math.log(1 + math.exp(-1))
    loss = itc_loss(eye[:, None], eye, 1.0, ids, ids, label_smoothing=0.1).loss
    assert loss.item() == pytest.approx(0.95 * low + 0.05 * (low + 1), abs=1e-12)


@pytest.mark.parametrize(("items", "texts"), [([3, 3], [0, 1]), ([3, 4], [7, 7])])
def test_itc_equal_item_or_text_is_a_positive(items: list[int], texts: list[int]) -> None:
    # both rows positive for both: with uniform targets on equal logits the loss is log 2, and no gradient is left
    queries = unit((1, 0), (1, 0))[:, None].requires_grad_()
    vectors = unit((1, 0), (1, 0))
    loss = itc_loss(queries, vectors, 1.0, torch.tensor(items), torch.tensor(texts)).loss
    assert loss.item() == pytest.approx(math.log(2))
    (gradient,) = torch.autograd.grad(loss, queries)
    assert gradient.abs().max() < 1e-12


def test_itc_temperature_gets_a_gradient_and_one_pair_is_no_error() -> None:
    temperature = torch.tensor(0.07, requires_grad=True)
    eye, ids = torch.eye(3), torch.arange(3)
    itc_loss(eye[:, None], eye, temperature, ids, ids).loss.backward()
    assert temperature.grad is not None
    assert temperature.grad.item() != 0
    assert itc_loss(eye[:1, None], eye[:1], 0.07, ids[:1], ids[:1]).loss.item() == 0


def test_hard_negatives_never_equal_ids_and_prefer_the_similar() -> None:
    items = torch.tensor([0, 0, 1, 2, 3, 4])
    texts = torch.tensor([0, 1, 2, 2, 4, 5])
    generator = torch.Generator().manual_seed(0)
    similarities = torch.zeros(6, 6)
    similarities[4, 5] = 20.0  # item 4 is close to text 5
    chosen_texts, chosen_items = [], []
    for _ in range(200):
        drawn = sample_hard_negatives(similarities, items, texts, generator)
        assert drawn.valid.all()
        for row in range(6):
            for other in (drawn.items[row], drawn.texts[row]):
                assert items[other] != items[row]
                assert texts[other] != texts[row]
        chosen_texts.append(drawn.texts[4].item())
        chosen_items.append(drawn.items[5].item())
    assert set(chosen_texts) == {5}
    assert set(chosen_items) == {4}


def test_hard_negatives_follow_the_softmax_and_the_seed() -> None:
    similarities = torch.tensor([[0.0, math.log(3), 0.0]] * 3)
    ids, generator = torch.arange(3), torch.Generator().manual_seed(1)
    draws = torch.stack([sample_hard_negatives(similarities, ids, ids, generator).texts for _ in range(2000)])
    assert (draws[:, 0] == 1).double().mean().item() == pytest.approx(0.75, abs=0.04)
    again = torch.Generator().manual_seed(1)
    assert torch.equal(draws[0], sample_hard_negatives(similarities, ids, ids, again).texts)


def test_hard_negatives_mark_rows_without_candidate() -> None:
    ids = torch.tensor([5, 5, 5])
    drawn = sample_hard_negatives(torch.randn(3, 3), ids, torch.arange(3))
    assert not drawn.valid.any()
    assert drawn.items.tolist() == drawn.texts.tolist() == [0, 1, 2]


def test_hard_negatives_survive_similarities_that_are_not_numbers() -> None:
    ids = torch.arange(3)
    drawn = sample_hard_negatives(torch.full((3, 3), torch.nan), ids, ids)
    assert drawn.valid.all()


def test_itm_by_hand() -> None:
    logits = torch.tensor([[0.0, 2.0], [0.0, 0.0], [1.0, 0.0]])
    expected = (math.log(1 + math.exp(-2)) + math.log(2) + math.log(1 + math.exp(-1))) / 3
    loss, accuracy = itm_loss(logits)
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert accuracy.item() == 1.0  # ties go to "no match"
    entropy = -(math.log(1 / 3) / 3 + 2 * math.log(2 / 3) / 3)
    assert pytest.approx(entropy, abs=5e-5) == ITM_PRIOR


def test_itg_by_hand_and_ignores_padding() -> None:
    logits = torch.tensor([[[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [50.0, -50.0, 0.0]]], requires_grad=True)
    targets = torch.tensor([[0, 2, -100]])
    first, second = math.log(1 + 2 * math.exp(-2)), math.log(2 + math.e)
    smoothed, plain = itg_loss(logits, targets, label_smoothing=0.0)
    assert plain.item() == pytest.approx((first + second) / 2, abs=1e-6)
    assert smoothed.item() == pytest.approx(plain.item())
    smoothed, plain = itg_loss(logits, targets, label_smoothing=0.1)
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=0.1)
    assert smoothed.item() == pytest.approx(expected.item(), abs=1e-6)
    smoothed.backward()
    assert logits.grad is not None
    assert logits.grad[0, 2].abs().max() == 0
    assert not plain.requires_grad


def test_itg_smoothing_has_the_known_floor() -> None:
    vocabulary, eps = 50, 0.1
    probabilities = torch.full((vocabulary,), eps / vocabulary)
    probabilities[3] += 1 - eps
    smoothed, plain = itg_loss(probabilities.log()[None], torch.tensor([3]), label_smoothing=eps)
    assert smoothed.item() == pytest.approx(-(probabilities * probabilities.log()).sum().item(), abs=1e-5)
    assert plain.item() < smoothed.item()


def test_itg_without_targets_is_zero() -> None:
    logits = torch.randn(0, 5, requires_grad=True)
    smoothed, plain = itg_loss(logits, torch.empty(0, dtype=torch.long))
    smoothed.backward()
    assert (smoothed.item(), plain.item()) == (0.0, 0.0)


@pytest.mark.parametrize("margin", [0.5, 1.0, 1.4])
def test_pair_loss_is_equation_2(margin: float) -> None:
    left = torch.zeros(4, 2, dtype=torch.float64)
    right = torch.tensor([[0.6, 0.8], [0.3, 0.0], [0.0, 1.2], [0.0, 0.0]], dtype=torch.float64)
    together = torch.tensor([True, False, False, False])
    loss, active = pair_contrastive_loss(left, right, together, margin=margin)
    expected = (1.0 + max(0, margin - 0.3) ** 2 + max(0, margin - 1.2) ** 2 + margin**2) / 8
    assert loss.item() == pytest.approx(expected, abs=2e-6)  # eps inside the root: 1e-6 at distance 0
    assert active.item() == pytest.approx((2 + (margin > 1.2)) / 3)


def test_pair_loss_of_equal_vectors_has_a_finite_gradient() -> None:
    x = torch.ones(2, 3, requires_grad=True)
    loss, _ = pair_contrastive_loss(x, x.detach().clone(), torch.tensor([True, False]))
    loss.backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_pair_loss_without_negatives() -> None:
    loss, active = pair_contrastive_loss(torch.zeros(1, 1), torch.ones(1, 1), torch.tensor([True]))
    assert (loss.item(), active.item()) == (0.5, 0.0)


def test_in_batch_pair_loss_averages_the_sorts_apart() -> None:
    left = torch.tensor([[0.0], [0.4], [3.0]])
    right = torch.tensor([[0.1], [0.4], [3.0]])
    related = torch.zeros(3, 3, dtype=torch.bool)
    related[0, 1] = True
    # negatives: (1,0) at 0.3 -> 0.49; the other four are beyond the margin
    loss, active = in_batch_pair_loss(left, right, related)
    assert loss.item() == pytest.approx((0.01 / 3 + 0.49 / 5) / 2, abs=1e-6)
    assert active.item() == pytest.approx(1 / 5)


def test_info_nce_leaves_related_combinations_out() -> None:
    left, right = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    none, one = torch.zeros(2, 2).bool(), torch.tensor([[True, True], [False, True]])
    # row 0: equal logits -> log 2; row 1: equal logits -> log 2; columns: 1/0 -> log(1+1/e), 1/0 -> log(1+e)
    rows, columns = math.log(2), (math.log(1 + math.exp(-1)) + math.log(1 + math.e)) / 2
    assert in_batch_info_nce(left, right, none, temperature=1.0).item() == pytest.approx((rows + columns) / 2)
    # with (0, 1) out: row 0 and column 1 have one candidate left
    rows, columns = math.log(2) / 2, math.log(1 + math.exp(-1)) / 2
    assert in_batch_info_nce(left, right, one, temperature=1.0).item() == pytest.approx((rows + columns) / 2)


def grounding_case() -> tuple[torch.Tensor, torch.Tensor]:
    soft = torch.tensor([[[2.0, 0.0], [0.0, 5.0]], [[1.0, 0.0], [3.0, 0.0]]], dtype=torch.float64)
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    return soft, rows


def test_grounding_by_hand() -> None:
    soft, rows = grounding_case()
    s = 2.0
    # cosines of item 0's queries: (1, 0, -1) and (0, 1, 0); of item 1's, twice: (1, 0, -1)
    z1, z2 = math.exp(s) + 1 + math.exp(-s), 2 + math.exp(s)
    mixture = [(math.exp(s) / z1 + 1 / z2) / 2, (1 / z1 + math.exp(s) / z2) / 2]
    items, tokens = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2])
    expected = (-(math.log(mixture[0]) + math.log(mixture[1])) / 2 - math.log(math.exp(-s) / z1)) / 2
    loss = vocabulary_grounding_loss(soft, rows, items, tokens, s)
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    weighted = vocabulary_grounding_loss(
        soft, rows, items, tokens, s, token_weights=torch.tensor([3.0, 1.0, 1.0], dtype=torch.float64)
    )
    expected = (-(0.75 * math.log(mixture[0]) + 0.25 * math.log(mixture[1])) - math.log(math.exp(-s) / z1)) / 2
    assert weighted.item() == pytest.approx(expected, abs=1e-6)


def test_grounding_skips_empty_bags_and_takes_lengths_out() -> None:
    soft, rows = grounding_case()
    items, tokens = torch.tensor([1]), torch.tensor([0])
    one = vocabulary_grounding_loss(soft, rows, items, tokens, 2.0)
    alone = vocabulary_grounding_loss(soft[1:] * 7, rows * 3, items - 1, tokens, 2.0)
    assert one.item() == pytest.approx(alone.item(), abs=1e-6)
    empty = torch.empty(0, dtype=torch.long)
    soft = soft.requires_grad_()
    loss = vocabulary_grounding_loss(soft, rows, empty, empty, 2.0)
    loss.backward()
    assert loss.item() == 0


def test_grounding_is_finite_at_great_sharpness() -> None:
    soft = torch.tensor([[[1.0, 0.0]]], requires_grad=True)
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    zero = torch.zeros(1, dtype=torch.long)
    loss = vocabulary_grounding_loss(soft, rows, zero, zero + 1, 100.0)
    loss.backward()
    assert loss.item() == pytest.approx(200.0)
    assert soft.grad is not None
    assert torch.isfinite(soft.grad).all()
