"""An adapter that begins at trained soft tokens."""

from pathlib import Path

import pytest
import torch
from lm_tiny import ITEMS, QUERIES, WIDTH, make_model, tiny_llama

from ilm_lightning.adapters import build_adapter
from ilm_lightning.lm import Backbone, Collator, ItemLanguageModel, LMReference
from ilm_lightning.lm.prompts import TokenisedExample
from ilm_lightning.lm.start import SPREAD, start_at

Examples = list[TokenisedExample]


def model_of(kind: str, queries: int = QUERIES, **more: object) -> tuple[ItemLanguageModel, dict[str, torch.Tensor]]:
    torch.manual_seed(3)
    dims = make_model().adapter.source_dims
    settings = {"kind": kind, "source_dims": dims, "output_dim": WIDTH, "num_queries": queries, **more}
    model = ItemLanguageModel(build_adapter(settings), Backbone(tiny_llama(), reference=LMReference("tiny", None)))
    return model, {name: torch.randn(ITEMS, width) for name, width in dims.items()}


SMALL = {"hidden_size": 24, "num_layers": 2, "num_heads": 4, "ffn_size": 48}


@pytest.mark.parametrize(
    ("kind", "more"), [("mlp", {"hidden_width": 20}), ("qformer", SMALL), ("collm", {}), ("perceiver", SMALL)]
)
@pytest.mark.parametrize("queries", [1, 3, 5])
def test_the_mean_item_begins_at_the_trained_tokens(kind: str, more: dict[str, object], queries: int) -> None:
    model, sources = model_of(kind, queries, **more)
    trained = torch.randn(3, WIDTH) * torch.tensor([[0.01], [1.0], [30.0]])
    start_at(model, trained, sources)
    assert model.adapter.training
    model.eval()
    assert model.soft_start is not None
    assert model.soft_start.requires_grad
    raw = model.adapter(sources) + model.soft_start
    mean, apart = raw.mean(0), (raw - raw.mean(0)).square().mean().sqrt()
    wanted = torch.nn.functional.normalize(trained, dim=-1)[[0, 1, 2, 0, 1][:queries]]
    # whatever the tokens' sizes: soft tokens are brought to one size anyway
    torch.testing.assert_close(torch.nn.functional.normalize(mean, dim=-1), wanted, atol=1e-4, rtol=0)
    sizes = mean.square().mean(-1).sqrt()
    torch.testing.assert_close(apart / sizes, torch.full((queries,), SPREAD), atol=1e-4, rtol=0)
    soft = torch.nn.functional.normalize(model.soft_tokens(sources), dim=-1)
    assert (soft * wanted).sum(-1).min() > 0.9
    assert not torch.equal(soft[0], soft[1])


def test_free_soft_tokens_are_the_trained_ones() -> None:
    model, sources = model_of("constant", 5)
    trained = torch.randn(3, WIDTH)
    start_at(model, trained, sources)
    assert model.soft_start is None
    assert torch.equal(model.adapter(sources)[0], trained[[0, 1, 2, 0, 1]])


def test_the_start_is_trained_and_travels(tmp_path: Path, examples: Examples, collator: Collator) -> None:
    plain = make_model()
    batch = collator(examples)
    start_at(plain, torch.randn(QUERIES, WIDTH), batch.sources)
    model = plain.eval()
    model(batch).loss.backward()
    assert model.soft_start is not None
    assert model.soft_start.grad is not None
    assert model.soft_start.grad.abs().max() > 0
    model.save_pretrained(tmp_path)
    again = ItemLanguageModel.from_pretrained(tmp_path, lm=Backbone(tiny_llama(), reference=LMReference("tiny", None)))
    assert torch.equal(again.target_logits(batch), model.target_logits(batch))
    # a checkpoint of a model without a start is refused, and the other way round
    with pytest.raises(ValueError, match="soft_start"):
        make_model().load_trainable_state_dict(model.trainable_state_dict())
    with pytest.raises(ValueError, match="missing soft_start"):
        again.load_trainable_state_dict(make_model().trainable_state_dict())
