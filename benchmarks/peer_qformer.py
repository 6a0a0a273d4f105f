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


def _same(qformer: QFormer, branch: TextBranch | None) -> dict[str, tuple[nn.Module, list[str]]]:
    """Our modules by name, each with the peer's module of the same weights, or those that it joins."""
    found: dict[str, tuple[nn.Module, list[str]]] = {"embedding_norm": (qformer.embedding_norm, ["layernorm"])}
    for i, layer in enumerate(qformer.blocks):
        name = f"encoder.layer.{i}"
        own, cross = layer.self_attention, layer.cross_attention
        found[f"{i}.qkv"] = (own.qkv, [f"{name}.attention.attention.{part}" for part in ("query", "key", "value")])
        found[f"{i}.output"] = (own.output, [f"{name}.attention.output.dense"])
        found[f"{i}.norm"] = (own.norm, [f"{name}.attention.output.LayerNorm"])
        if cross is not None:
            theirs = f"{name}.crossattention"
            if cross.single_key:
                found[f"{i}.cross_value"] = (cross.value, [f"{theirs}.attention.value"])
            else:
                found[f"{i}.cross_query"] = (cross.query, [f"{theirs}.attention.query"])
                both = [f"{theirs}.attention.{part}" for part in ("key", "value")]
                found[f"{i}.cross_key_value"] = (cross.key_value, both)
            found[f"{i}.cross_output"] = (cross.output, [f"{theirs}.output.dense"])
            found[f"{i}.cross_norm"] = (cross.norm, [f"{theirs}.output.LayerNorm"])
        for kind, suffix, ffn in (
            ("query", "_query", layer.query_ffn),
            ("text", "", None if branch is None else branch.ffns[i]),
        ):
            if ffn is not None:
                found[f"{i}.{kind}_up"] = (ffn.up, [f"{name}.intermediate{suffix}.dense"])
                found[f"{i}.{kind}_down"] = (ffn.down, [f"{name}.output{suffix}.dense"])
                found[f"{i}.{kind}_norm"] = (ffn.norm, [f"{name}.output{suffix}.LayerNorm"])
    return found


def _state(qformer: QFormer, branch: TextBranch | None) -> dict[str, Tensor]:
    return {
        f"{name}.{part}": piece.detach().clone()
        for module, names in _same(qformer, branch).values()
        for part, tensor in module.state_dict().items()
        for name, piece in zip(names, tensor.chunk(len(names)), strict=True)
    }


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
    """Gradients of every trained tensor of ours and of the same weights of the peer, by our name."""
    branch, qformer = ours.text_branch, ours.qformer
    assert branch is not None
    theirs = dict(peer.named_parameters())
    pairs: dict[str, tuple[Tensor, list[Tensor]]] = {
        "queries": (qformer.queries, [peer.queries]),
        "source_embedding": (qformer.source_embedding, [peer.source_embedding]),
        "word_embeddings": (branch.word_embeddings.weight, [peer.words.weight]),
        "position_embeddings": (branch.position_embeddings.weight, [peer.positions.weight]),
        "head_bias": (branch.head_bias, [peer.head_bias]),
        "temperature": (ours.temperature, [peer.temperature]),
    }
    same = {
        f"qformer.{name}": (one, [f"qformer.{n}" for n in names])
        for name, (one, names) in _same(qformer, branch).items()
    }
    same["input_map"] = (qformer.input_maps[peer.source], ["input_map"])
    same |= {name: (ours.get_submodule(name), [name]) for name in ("item_proj", "text_proj", "itm_head")}
    same |= {name: (branch.get_submodule(name), [name]) for name in ("head_transform", "head_norm")}
    for name, (module, names) in same.items():
        for part, own in module.named_parameters():
            pairs[f"{name}.{part}"] = (own, [theirs[f"{one}.{part}"] for one in names])
    return {
        name: (
            _gradient(own),
            torch.cat([_gradient(one) for one in others]) if len(others) > 1 else _gradient(others[0]),
        )
        for name, (own, others) in pairs.items()
    }


def _gradient(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
