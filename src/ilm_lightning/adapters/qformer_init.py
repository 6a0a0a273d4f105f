"""Starts a Q-Former from a BERT-type checkpoint, as BLIP-2 does (arXiv 2301.12597).

Self-attention, both feed-forward networks (the queries' being a copy of the text's), embeddings and, where the
checkpoint has one, the language-model head come from BERT. Queries, input maps and cross-attention stay new.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ilm_lightning.adapters.qformer import QFormer
from ilm_lightning.adapters.qformer_text import TextBranch


class _Start(NamedTuple):
    """A start value and where it comes from."""

    value: Tensor
    origin: str


class _Checkpoint:
    """A BERT-type state dict under plain names."""

    def __init__(self, state_dict: Mapping[str, Tensor]) -> None:
        # old checkpoints name LayerNorm's weight and bias gamma and beta
        self.tensors = {
            name.removeprefix("bert.")
            .replace("LayerNorm.gamma", "LayerNorm.weight")
            .replace("LayerNorm.beta", "LayerNorm.bias"): tensor
            for name, tensor in state_dict.items()
        }

    def get(self, *names: str) -> _Start:
        """The named tensors, joined along the first axis."""
        if missing := [name for name in names if name not in self.tensors]:
            raise ValueError(
                f"the checkpoint has no tensor {missing[0]!r}: it is not a BERT-type encoder, or has fewer layers than "
                "the Q-Former (lower num_layers)"
            )
        return _Start(torch.cat([self.tensors[name] for name in names]), ", ".join(names))


def init_from_bert(qformer: QFormer, text_branch: TextBranch | None, state_dict: Mapping[str, Tensor]) -> list[str]:
    """Copies a BERT-type encoder's weights into a Q-Former and its text branch.

    A checkpoint with more layers than the Q-Former gives its first ones.

    Args:
        qformer: Changed in place.
        text_branch: Changed in place; None when only the query path is wanted.
        state_dict: Tensors under BERT's names, with or without the prefix ``bert.``.

    Returns:
        One line a tensor of both modules: ``<name>: copied from <checkpoint name>`` or ``<name>: new``.

    Raises:
        ValueError: If the checkpoint lacks a tensor or its sizes do not fit; nothing is changed then.
    """
    checkpoint = _Checkpoint(state_dict)
    query_starts = _query_starts(qformer, checkpoint)
    _check_shapes("qformer", qformer, query_starts)
    if text_branch is None:
        return _copy("qformer", qformer, query_starts)
    text_starts = _text_starts(text_branch, checkpoint)
    _check_shapes("text_branch", text_branch, text_starts)
    return _copy("qformer", qformer, query_starts) + _copy("text_branch", text_branch, text_starts)


def _linear(checkpoint: _Checkpoint, target: str, *names: str) -> dict[str, _Start]:
    """Starts of a map's or LayerNorm's weight and bias."""
    return {f"{target}.{part}": checkpoint.get(*(f"{name}.{part}" for name in names)) for part in ("weight", "bias")}


def _ffn(checkpoint: _Checkpoint, target: str, layer: int) -> dict[str, _Start]:
    return {
        **_linear(checkpoint, f"{target}.up", f"encoder.layer.{layer}.intermediate.dense"),
        **_linear(checkpoint, f"{target}.down", f"encoder.layer.{layer}.output.dense"),
        **_linear(checkpoint, f"{target}.norm", f"encoder.layer.{layer}.output.LayerNorm"),
    }


def _query_starts(qformer: QFormer, checkpoint: _Checkpoint) -> dict[str, _Start]:
    starts = _linear(checkpoint, "embedding_norm", "embeddings.LayerNorm")
    for i in range(qformer.num_layers):
        target, bert = f"layers.{i}.self_attention", f"encoder.layer.{i}.attention"
        starts |= _linear(checkpoint, f"{target}.qkv", *(f"{bert}.self.{part}" for part in ("query", "key", "value")))
        starts |= _linear(checkpoint, f"{target}.output", f"{bert}.output.dense")
        starts |= _linear(checkpoint, f"{target}.norm", f"{bert}.output.LayerNorm")
        starts |= _ffn(checkpoint, f"layers.{i}.query_ffn", i)
    return starts


def _text_starts(branch: TextBranch, checkpoint: _Checkpoint) -> dict[str, _Start]:
    words = checkpoint.get("embeddings.word_embeddings.weight")
    start_row = branch.word_embeddings.weight.detach()[-1:].to(words.value)
    positions = checkpoint.get("embeddings.position_embeddings.weight")
    value, origin = positions.value[: branch.max_positions], positions.origin
    if "embeddings.token_type_embeddings.weight" in checkpoint.tensors:
        # a text is always of type 0: its embedding is a constant that the positions can carry
        value = value + checkpoint.tensors["embeddings.token_type_embeddings.weight"][0]
        origin += " + embeddings.token_type_embeddings.weight[0]"
    starts = {
        "word_embeddings.weight": _Start(torch.cat([words.value, start_row]), words.origin + "; decoder's row new"),
        "position_embeddings.weight": _Start(value, origin),
    }
    for i in range(len(branch.ffns)):
        starts |= _ffn(checkpoint, f"ffns.{i}", i)
    if "cls.predictions.transform.dense.weight" in checkpoint.tensors:
        starts |= _linear(checkpoint, "head_transform", "cls.predictions.transform.dense")
        starts |= _linear(checkpoint, "head_norm", "cls.predictions.transform.LayerNorm")
        bias = checkpoint.get("cls.predictions.bias")
        start_bias = branch.head_bias.detach()[-1:].to(bias.value)
        starts["head_bias"] = _Start(torch.cat([bias.value, start_bias]), bias.origin + "; decoder's entry new")
    return starts


def _check_shapes(prefix: str, module: nn.Module, starts: Mapping[str, _Start]) -> None:
    for name, tensor in module.state_dict().items():
        if name in starts and starts[name].value.shape != tensor.shape:
            raise ValueError(
                f"{starts[name].origin} has shape {list(starts[name].value.shape)}, {prefix}.{name} has "
                f"{list(tensor.shape)}: choose hidden_size, ffn_size, vocab_size and max_positions as in the checkpoint"
            )


def _copy(prefix: str, module: nn.Module, starts: Mapping[str, _Start]) -> list[str]:
    report = []
    for name, tensor in module.state_dict().items():
        if name in starts:
            tensor.copy_(starts[name].value)  # state_dict shares memory with the parameters
            report.append(f"{prefix}.{name}: copied from {starts[name].origin}")
        else:
            report.append(f"{prefix}.{name}: new")
    return report
