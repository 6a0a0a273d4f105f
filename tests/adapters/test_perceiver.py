"""A Perceiver over histories; what every adapter has to do stands in the contract's suite."""

import pytest
import torch

from ilm_lightning.adapters import CoLLMAdapter, PerceiverAdapter
from ilm_lightning.adapters.perceiver import PRESENT

DIMS = {"behavioral": 5, "semantic": 3}


def adapter() -> PerceiverAdapter:
    torch.manual_seed(0)
    return PerceiverAdapter(DIMS, 6, 3, hidden_size=16, num_layers=2, num_heads=4, ffn_size=24).double().eval()


def history(rows: int, places: int, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(rows, places, width, generator=generator, dtype=torch.float64) for name, width in DIMS.items()
    }


def test_padding_before_a_history_changes_nothing() -> None:
    model, sources = adapter(), history(4, 6)
    alone = model(sources)
    longer = {name: torch.cat([torch.full_like(v[:, :2], 9.0), v], dim=1) for name, v in sources.items()}
    longer[PRESENT] = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1]]).expand(4, -1)
    torch.testing.assert_close(model(longer), alone, rtol=0, atol=1e-12)


def test_every_item_and_the_order_count() -> None:
    model, sources = adapter(), history(1, 4)
    sources["behavioral"].requires_grad_()
    model(sources).square().sum().backward()
    assert (sources["behavioral"].grad.abs().sum(-1) > 0).all()
    flipped = {name: vectors.detach().flip(1) for name, vectors in sources.items()}
    assert not torch.allclose(model(flipped), model(sources))


def test_an_empty_history_has_soft_tokens_of_its_own() -> None:
    model, sources = adapter(), history(2, 3)
    empty = model({**sources, PRESENT: torch.zeros(2, 3)})
    torch.testing.assert_close(empty[0], empty[1], rtol=0, atol=1e-12)
    assert not torch.allclose(empty, model(sources))


def test_a_vector_is_a_history_of_one() -> None:
    model, sources = adapter(), history(3, 1)
    alone = model({name: vectors[:, 0] for name, vectors in sources.items()})
    torch.testing.assert_close(model(sources), alone, rtol=0, atol=1e-12)


def test_bad_input() -> None:
    model, sources = adapter(), history(2, 3)
    with pytest.raises(ValueError, match="differ in length"):
        model({**sources, "semantic": sources["semantic"][:, 0]})
    with pytest.raises(ValueError, match="present has shape"):
        model({**sources, PRESENT: torch.ones(2, 2)})
    with pytest.raises(ValueError, match="'semantic' is missing"):
        model({"behavioral": sources["behavioral"]})
    with pytest.raises(ValueError, match="multiple of num_heads"):
        PerceiverAdapter(DIMS, 6, hidden_size=18, num_heads=4)
    with pytest.raises(ValueError, match="hidden_size=9 must be even"):
        PerceiverAdapter(DIMS, 6, hidden_size=9, num_heads=3)
    with pytest.raises(ValueError, match="dropout=1"):
        PerceiverAdapter(DIMS, 6, dropout=1.0)
    with pytest.raises(ValueError, match="num_layers=0"):
        PerceiverAdapter(DIMS, 6, num_layers=0)


def test_collm_has_its_width() -> None:
    model = CoLLMAdapter({"behavioral": 64}, 576)
    assert (model.up.out_features, model.num_queries) == (640, 1)
