"""Numbers of parameters: Table 3 compares the MLP with a Q-Former of the same size."""

from typing import Any

import pytest
import torch
from torch import nn

from ilm_lightning.adapters import (
    MLPAdapter,
    QFormerAdapter,
    build_adapter,
    count_parameters,
    match_hidden_width,
    qformer_phase2_parameters,
)

DIMS = {
    "behavioral": {"behavioral": 64},
    "semantic": {"semantic": 384},
    "combined": {"behavioral": 64, "semantic": 384},
}


@pytest.mark.parametrize("num_queries", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("encoder", DIMS)
@pytest.mark.parametrize(
    "sizes", [{}, {"source_tokens": 4, "num_layers": 3}, {"concatenate": True}], ids=["default", "other", "joined"]
)
def test_mlp_matches_the_qformer_within_2_percent(encoder: str, num_queries: int, sizes: dict[str, int]) -> None:
    arguments: dict[str, Any] = {"source_dims": DIMS[encoder], "output_dim": 576, "num_queries": num_queries}
    target = qformer_phase2_parameters({**arguments, **sizes})
    with torch.device("meta"):
        mlp = build_adapter({"kind": "mlp", **arguments, "match": sizes})
    assert abs(count_parameters(mlp) / target - 1) < 0.02
    assert mlp.config["hidden_width"] == mlp.get_submodule("up").out_features


def test_default_qformer_has_the_parameters_worked_by_hand() -> None:
    h, f, d = 384, 1536, 576
    block = 4 * (h * h + h) + 2 * h + (h * f + f) + (f * h + h) + 2 * h  # self-attention, query FFN, 2 LayerNorms
    cross_one_key = 2 * (h * h + h) + 2 * h  # value and output maps, LayerNorm
    cross = 4 * (h * h + h) + 2 * h
    rest = 8 * h + 2 * h + (h * d + d)  # queries, LayerNorm of the embeddings, output projection
    one = {"source_dims": DIMS["behavioral"], "output_dim": d}
    assert qformer_phase2_parameters(one) == 6 * block + 3 * cross_one_key + rest + (64 * h + h) + h
    two = {"source_dims": DIMS["combined"], "output_dim": d}
    assert qformer_phase2_parameters(two) == 6 * block + 3 * cross + rest + (64 * h + h) + (384 * h + h) + 2 * h


def test_counting_equals_a_built_adapter_and_draws_no_random_number() -> None:
    config = {"source_dims": {"s": 5}, "output_dim": 6, "hidden_size": 16, "num_heads": 4, "ffn_size": 24}
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    counted = qformer_phase2_parameters({"kind": "qformer", **config})
    assert torch.equal(torch.rand(1), expected)
    assert counted == count_parameters(QFormerAdapter(**config))


def test_shared_parameters_count_once() -> None:
    linear = nn.Linear(3, 3)
    assert count_parameters(nn.Sequential(linear, linear)) == 12


def test_match_needs_room_for_one_unit_and_only_one_of_its_two_settings() -> None:
    with pytest.raises(ValueError, match="5 parameters are too few for an MLP from 4 to 8"):
        match_hidden_width(5, 4, 8)
    with pytest.raises(ValueError, match="hidden_width or match, not both"):
        MLPAdapter({"semantic": 7}, 6, hidden_width=3, match={"num_layers": 1})
