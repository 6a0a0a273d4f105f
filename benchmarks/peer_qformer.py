"""Phase 1 as LAVIS trains it, on transformers' own Q-Former: the peer of our training step.

Every loss has passes of its own over texts padded to the maximal length; the vocabulary head runs at every position;
negatives are drawn row by row, each with a look at its value. LAVIS' own class cannot be imported beside a recent
transformers; ``Blip2QFormerModel`` is the same network. It keeps no keys and values, so that ITG runs as one sequence
of queries and text (72 positions in the place of LAVIS' 64 after a cache of 8; ITG is a seventh of the step).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from ilm_lightning.adapters import QFormer, TextBranch
from ilm_lightning.pretraining.model import PretrainingModel

LOSSES = ("itc", "itm", "itg")


def dense_qformer(qformer: QFormer, branch: TextBranch | None, attention: str = "sdpa") -> Blip2QFormerModel:
    """Transformers' Q-Former with copies of our weights."""
    every = next((i for i, layer in enumerate(qformer.blocks) if i and layer.cross_attention is not None), 10**6)
    config = Blip2QFormerConfig(
        hidden_size=qformer.hidden_size,
        num_hidden_layers=qformer.num_layers,
        num_attention_heads=qformer.num_heads,
        intermediate_size=qformer.ffn_size,
        encoder_hidden_size=qformer.hidden_size,
        cross_attention_frequency=every,
        hidden_dropout_prob=qformer.dropout,
        attention_probs_dropout_prob=qformer.dropout,
        use_qformer_text_input=branch is not None,
        attn_implementation=attention,
    )
    model = Blip2QFormerModel(config).to(qformer.queries.dtype)
    model.load_state_dict({**model.state_dict(), **_state(qformer, branch)})
    return model


def _state(qformer: QFormer, branch: TextBranch | None) -> dict[str, Tensor]:
    state = _named("layernorm", qformer.embedding_norm)
    for i, layer in enumerate(qformer.blocks):
        name = f"encoder.layer.{i}"
        own, cross = layer.self_attention, layer.cross_attention
        state |= _split([f"{name}.attention.attention.{part}" for part in ("query", "key", "value")], own.qkv)
        state |= _named(f"{name}.attention.output.dense", own.output)
        state |= _named(f"{name}.attention.output.LayerNorm", own.norm)
        if cross is not None:
            theirs = f"{name}.crossattention"
            if cross.single_key:
                state |= _named(f"{theirs}.attention.value", cross.value)
            else:
                state |= _named(f"{theirs}.attention.query", cross.query)
                state |= _split([f"{theirs}.attention.{part}" for part in ("key", "value")], cross.key_value)
            state |= _named(f"{theirs}.output.dense", cross.output)
            state |= _named(f"{theirs}.output.LayerNorm", cross.norm)
        for suffix, ffn in (("_query", layer.query_ffn), ("", None if branch is None else branch.ffns[i])):
            if ffn is not None:
                state |= _named(f"{name}.intermediate{suffix}.dense", ffn.up)
                state |= _named(f"{name}.output{suffix}.dense", ffn.down)
                state |= _named(f"{name}.output{suffix}.LayerNorm", ffn.norm)
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _named(name: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{name}.{part}": tensor for part, tensor in module.state_dict().items()}


def _split(names: list[str], module: nn.Module) -> dict[str, Tensor]:
    pieces = {part: tensor.chunk(len(names)) for part, tensor in module.state_dict().items()}
    return {f"{name}.{part}": pieces[part][i] for i, name in enumerate(names) for part in pieces}


def _parameter(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach().clone())


def _linear(module: nn.Module) -> nn.Linear:
    """A linear map of its own with the same weights."""
    assert isinstance(module, nn.Linear)
    copy = nn.Linear(module.in_features, module.out_features).to(module.weight.dtype)
    copy.load_state_dict(module.state_dict())
    return copy


class PeerPretraining(nn.Module):
    """The peer's model with copies of our weights.

    Args:
        ours: a `PretrainingModel` with ITC, ITM and ITG on, and one source.
        attention: of transformers.
    """

    def __init__(self, ours: PretrainingModel, attention: str = "sdpa") -> None:
        super().__init__()
        qformer, branch = ours.qformer, ours.text_branch
        assert branch is not None
        assert len(qformer.source_dims) == 1
        (self.source,) = qformer.source_dims
        self.settings, self.dropout = ours.settings, qformer.dropout
        self.qformer = dense_qformer(qformer, branch, attention)
        self.vectors = ours.items
        self.queries = _parameter(qformer.queries)
        self.source_embedding = _parameter(qformer.source_embedding)
        self.input_map = _linear(qformer.input_maps[self.source])
        self.words, self.positions = (
            nn.Embedding.from_pretrained(table.weight.detach().clone(), freeze=False)
            for table in (branch.word_embeddings, branch.position_embeddings)
        )
        self.head_transform, self.head_bias = _linear(branch.head_transform), _parameter(branch.head_bias)
        self.head_norm = nn.LayerNorm(qformer.hidden_size, eps=1e-12).to(qformer.queries.dtype)
        self.head_norm.load_state_dict(branch.head_norm.state_dict())
        self.item_proj, self.text_proj, self.itm_head = map(_linear, (ours.item_proj, ours.text_proj, ours.itm_head))
        self.temperature = _parameter(ours.temperature)
        self.decoder_id = branch.decoder_id

    def forward(
        self, items: Tensor, ids: Tensor, mask: Tensor, negatives: tuple[Tensor, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """ITC, ITM and ITG of a batch.

        Args:
            items: ``[B]`` rows.
            ids: ``[B, t]``, padded to the maximal length.
            mask: ``[B, t]``.
            negatives: rows of negative items and of negative texts, each ``[B]``; drawn if None.
        """
        mapped = self.input_map(self.vectors(items)[self.source])
        tokens = mapped.view(len(items), -1, self.queries.shape[1]) + self.source_embedding
        states = self._run(self.queries.expand(len(items), -1, -1), None, tokens).last_hidden_state
        item_features = F.normalize(self.item_proj(states), dim=-1)
        texts = self._run(self._embed(ids), mask, None, 0).last_hidden_state[:, 0]
        text_features = F.normalize(self.text_proj(texts), dim=-1)
        similarities = torch.einsum("aqe,be->abq", item_features, text_features).amax(2) / self.temperature
        labels = torch.arange(len(items), device=ids.device)
        smoothing = self.settings.label_smoothing
        itc = F.cross_entropy(similarities, labels, label_smoothing=smoothing)
        itc = (itc + F.cross_entropy(similarities.T, labels, label_smoothing=smoothing)) / 2
        negatives = self._draw(similarities) if negatives is None else negatives
        itm = self._itm(tokens, ids, mask, negatives)
        return {"itc": itc, "itm": itm, "itg": self._itg(tokens, ids, mask)}

    def _run(self, embeddings: Tensor, mask: Tensor | None, tokens: Tensor | None, queries: int | None = None):  # noqa: ANN202
        return self.qformer(embeddings, queries, attention_mask=mask, encoder_hidden_states=tokens)

    def _embed(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.words(ids) + self.positions.weight[: ids.shape[1]]
        return embedded

    @torch.no_grad()
    def _draw(self, similarities: Tensor) -> tuple[Tensor, Tensor]:
        """One draw a row, as LAVIS does it."""
        found = []
        for scores in (similarities.T, similarities):
            weights = scores.softmax(1).fill_diagonal_(0)
            found.append(torch.tensor([torch.multinomial(row, 1).item() for row in weights], device=scores.device))
        return found[0], found[1]

    def _itm(self, tokens: Tensor, ids: Tensor, mask: Tensor, negatives: tuple[Tensor, Tensor]) -> Tensor:
        own = torch.arange(len(ids), device=ids.device)
        items, texts = torch.cat([own, negatives[0], own]), torch.cat([own, own, negatives[1]])
        count = len(self.queries)
        embeddings = torch.cat([self.queries.expand(len(items), -1, -1), self._embed(ids[texts])], dim=1)
        visible = torch.cat([mask.new_ones(len(items), count), mask[texts]], dim=1)
        states = self._run(embeddings, visible, tokens[items], count).last_hidden_state[:, :count]
        labels = (torch.arange(len(items), device=ids.device) < len(ids)).long()
        return F.cross_entropy(self.itm_head(states).mean(1), labels)

    def _itg(self, tokens: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        count, length = len(self.queries), ids.shape[1]
        given = torch.cat([torch.full_like(ids[:, :1], self.decoder_id), ids[:, 1:]], dim=1)
        embeddings = torch.cat([self.queries.expand(len(ids), -1, -1), self._embed(given)], dim=1)
        causal = torch.ones(count + length, count + length, dtype=torch.bool, device=ids.device).tril()
        causal[:count, :count] = True
        causal[:count, count:] = False
        real = torch.cat([mask.new_ones(len(ids), count), mask], dim=1).bool()
        visible = (causal & real[:, None])[:, None]
        states = self._run(embeddings, visible, tokens, count).last_hidden_state[:, count:]
        logits = F.linear(self.head_norm(F.gelu(self.head_transform(states))), self.words.weight, self.head_bias)
        targets = ids.masked_fill(~mask.bool(), -100)[:, 1:]
        return F.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(),
            targets.flatten(),
            label_smoothing=self.settings.label_smoothing,
        )


def gradient_pairs(ours: PretrainingModel, peer: PeerPretraining) -> dict[str, tuple[Tensor, Tensor]]:
    """Gradients of the same weights on both sides, by our name."""
    branch, qformer = ours.text_branch, ours.qformer
    assert branch is not None
    grads = {name: p.grad for name, p in peer.qformer.named_parameters()}
    found: dict[str, tuple[Tensor | None, Tensor | None]] = {
        "queries": (qformer.queries.grad, peer.queries.grad),
        "source_embedding": (qformer.source_embedding.grad, peer.source_embedding.grad),
        "word_embeddings": (branch.word_embeddings.weight.grad, peer.words.weight.grad),
        "position_embeddings": (branch.position_embeddings.weight.grad, peer.positions.weight.grad),
        "head_bias": (branch.head_bias.grad, peer.head_bias.grad),
        "temperature": (ours.temperature.grad, peer.temperature.grad),
        "embedding_norm": (qformer.embedding_norm.weight.grad, grads["layernorm.weight"]),
    }
    for name in ("item_proj", "text_proj", "itm_head"):
        found[name] = (ours.get_submodule(name).weight.grad, getattr(peer, name).weight.grad)
    for i, layer in enumerate(qformer.blocks):
        hf = f"encoder.layer.{i}"
        parts = [grads[f"{hf}.attention.attention.{part}.weight"] for part in ("query", "key", "value")]
        found[f"{i}.qkv"] = (layer.self_attention.qkv.weight.grad, torch.cat(parts))  # type: ignore[arg-type]
        found[f"{i}.output"] = (layer.self_attention.output.weight.grad, grads[f"{hf}.attention.output.dense.weight"])
        found[f"{i}.query_ffn"] = (layer.query_ffn.up.weight.grad, grads[f"{hf}.intermediate_query.dense.weight"])
        found[f"{i}.text_ffn"] = (branch.ffns[i].up.weight.grad, grads[f"{hf}.intermediate.dense.weight"])
        if (cross := layer.cross_attention) is not None:
            theirs = {part: grads[f"{hf}.crossattention.attention.{part}.weight"] for part in ("query", "key", "value")}
            if cross.single_key:
                found[f"{i}.cross_value"] = (cross.value.weight.grad, theirs["value"])
            else:
                found[f"{i}.cross_query"] = (cross.query.weight.grad, theirs["query"])
                both = torch.cat([theirs["key"], theirs["value"]])  # type: ignore[list-item]
                found[f"{i}.cross_key_value"] = (cross.key_value.weight.grad, both)
    zero = torch.zeros(())
    return {name: (zero if a is None else a, zero if b is None else b) for name, (a, b) in found.items()}
