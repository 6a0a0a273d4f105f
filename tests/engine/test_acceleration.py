"""Switches of the trainer that change time and memory, and nothing else."""

from copy import deepcopy

import pytest
import torch
from lm_tiny import ITEMS, WIDTH, make_model

from ilm_lightning.adapters import QFormerAdapter, TextBranch, build_adapter
from ilm_lightning.engine.acceleration import accelerate, compiled_pieces
from ilm_lightning.engine.checks import ConfigError
from ilm_lightning.engine.config_trainer import TrainerConfig
from ilm_lightning.lm import Collator, ItemLanguageModel
from ilm_lightning.lm.prompts import TokenisedExample


def with_qformer() -> ItemLanguageModel:
    model = make_model()
    sizes = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "ffn_size": 24, "dropout": 0.0}
    settings = {"kind": "qformer", "source_dims": {"semantic": 6}, "output_dim": WIDTH, "num_queries": 2}
    model.adapter = build_adapter(settings | sizes)
    return model


def test_pieces_of_every_part() -> None:
    phase1, phase2 = torch.nn.Module(), with_qformer()
    assert isinstance(phase2.adapter, QFormerAdapter)
    phase1.adapter, phase1.text_branch = phase2.adapter, TextBranch.for_qformer(phase2.adapter.qformer, 40)
    assert len(list(compiled_pieces(phase1, "text"))) == 2
    # two layers, of which the first has cross-attention
    assert len(list(compiled_pieces(phase1, "adapter"))) == 5
    assert len(list(compiled_pieces(phase2, "adapter"))) == 5
    assert len(list(compiled_pieces(phase2, "lm"))) == 2
    assert not list(compiled_pieces(phase2, "text"))
    mlp = make_model()
    assert list(compiled_pieces(mlp, "adapter")) == [mlp.adapter]


@pytest.mark.slow
def test_compiled_parts_give_the_same() -> None:
    plain = with_qformer()
    compiled = deepcopy(plain)
    accelerate(compiled, TrainerConfig(compile=["adapter"]), compiler="eager")
    assert list(compiled.state_dict()) == list(plain.state_dict())
    sources = {"semantic": torch.randn(3, 6)}
    torch.testing.assert_close(compiled.soft_tokens(sources), plain.soft_tokens(sources), rtol=1e-5, atol=1e-6)
    pieces = list(compiled_pieces(compiled, "adapter"))
    before = [piece._compiled_call_impl for piece in pieces]
    assert all(call is not None for call in before)
    accelerate(compiled, TrainerConfig(compile=["adapter"]), compiler="eager")
    assert [piece._compiled_call_impl for piece in pieces] == before


def test_a_copy_of_a_checkpointed_model_has_layers_of_its_own() -> None:
    model = with_qformer()
    accelerate(model, TrainerConfig(activation_checkpointing=True))
    accelerate(model, TrainerConfig(activation_checkpointing=True))
    copy = deepcopy(model)
    with torch.no_grad():
        for parameter in copy.lm.parameters():
            parameter.zero_()
    collator = Collator({"semantic": torch.randn(ITEMS, 6)})
    ids = torch.arange(2, 8, dtype=torch.int32).numpy()
    batch = collator([TokenisedExample("a", ids, ids[:2], ())])
    assert float(model(batch).loss.detach()) != float(copy(batch).loss.detach())
    assert copy(batch).loss.item() == pytest.approx(torch.log(torch.tensor(260.0)).item(), rel=1e-4)


def test_a_model_without_known_layers_is_refused() -> None:
    model = with_qformer()
    model.lm = torch.nn.Linear(2, 2)
    with pytest.raises(ConfigError, match=r"trainer\.activation_checkpointing"):
        accelerate(model, TrainerConfig(activation_checkpointing=True))
