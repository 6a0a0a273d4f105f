"""The model of phase 1: adapter, text branch and heads, from a batch to named loss terms.

Letters in shapes: B pairs in the batch, n distinct items, q queries, e contrastive width, t text length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ilm_lightning.adapters import Adapter, QFormer, QFormerAdapter, QueryOutput, TextBranch
from ilm_lightning.adapters.base import check_sources
from ilm_lightning.pretraining import losses as L
from ilm_lightning.pretraining.batches import Batch, ItemTextBatch, PairBatch
from ilm_lightning.pretraining.pairs import ITEM_ITEM, USER_ITEM
from ilm_lightning.pretraining.settings import PretrainingSettings
from ilm_lightning.ranks import Share, joint_mean, rows_from_main

TEMPERATURE_RANGE = (0.01, 0.5)
MAX_SCALE = 100.0


class VectorTable(nn.Module):
    """Frozen vectors of items or users, looked up by row; moves with the model, absent from checkpoints.

    Args:
        sources: [N, d_s] by source name.
    """

    def __init__(self, sources: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.names = tuple(sorted(sources))
        for name in self.names:
            self.register_buffer(f"source_{name}", sources[name].detach().float(), persistent=False)

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        """Vectors [len(rows), d_s] by source name."""
        return {name: self.get_buffer(f"source_{name}")[rows] for name in self.names}


class PretrainingModel(nn.Module):
    """Adapter with text branch and heads.

    Args:
        adapter: what phase 2 will use: a Q-Former, or any adapter where VG is the only loss.
        text_branch: shares the adapter's self-attention; None if no text loss but VG is on.
        item_vectors: [I, d_s] by source name.
        settings: losses and their options.
        user_vectors: [U, d_s] by source name, for UIC; they pass through the items' input maps.
        llm_embeddings: [V', d] input embeddings of the LLM for the grounding vocabulary, for VG.
        token_weights: [V'] weights of the tokens in their bags, for VG; None = all equal.

    Attributes:
        temperature: of ITC; similarities are divided by it.

    Raises:
        ValueError: something that the losses need is missing or does not fit.
    """

    def __init__(
        self,
        adapter: Adapter,
        text_branch: TextBranch | None,
        item_vectors: Mapping[str, Tensor],
        settings: PretrainingSettings | None = None,
        *,
        user_vectors: Mapping[str, Tensor] | None = None,
        llm_embeddings: Tensor | None = None,
        token_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings if settings is not None else PretrainingSettings()
        on = set(self.settings.losses)
        if on != {"vg"} and not isinstance(adapter, QFormerAdapter):
            raise ValueError(f"an adapter of kind {adapter.kind} has no queries: its only loss in phase 1 is vg")
        self.adapter = adapter
        reads_text = bool(on & {"itc", "itm", "itg"})
        if reads_text and text_branch is None:
            raise ValueError("pretraining.losses: itc, itm and itg need a text branch")
        self.text_branch = text_branch if reads_text else None
        self.items = VectorTable(_checked(item_vectors, adapter))
        self.users: VectorTable | None = None
        if "uic" in on:
            if user_vectors is None:
                raise ValueError("pretraining.losses: uic needs user vectors: fit them with the item vectors")
            self.users = VectorTable(_checked(user_vectors, adapter))
        if self.settings.source_dropout and not {self.settings.dropped_source} < set(adapter.source_dims):
            raise ValueError("pretraining.source_dropout hides one of several sources: use it with encoder=combined")
        shared = self.settings.pair_projection == "shared"
        if "itc" in on or (shared and on & {"iic", "uic"}):
            self.item_proj = nn.Linear(self.qformer.hidden_size, self.settings.projection_dim)
        if not shared and on & {"iic", "uic"}:
            self.pair_proj = nn.Linear(self.qformer.hidden_size, self.settings.projection_dim)
        if "itc" in on:
            self.text_proj = nn.Linear(self.qformer.hidden_size, self.settings.projection_dim)
            self.temperature = nn.Parameter(torch.tensor(self.settings.temperature))
        if "itm" in on:
            self.itm_head = nn.Linear(self.qformer.hidden_size, 2)
        if "vg" in on:
            self._add_grounding(llm_embeddings, token_weights)

    def _add_grounding(self, embeddings: Tensor | None, weights: Tensor | None) -> None:
        if embeddings is None or embeddings.ndim != 2 or embeddings.shape[1] != self.adapter.output_dim:
            shape = None if embeddings is None else list(embeddings.shape)
            raise ValueError(f"vg needs LLM embedding rows [V', {self.adapter.output_dim}], got {shape}")
        # unit length once here rather than in every step
        rows = F.normalize(embeddings.detach().float(), dim=1)
        self.register_buffer("llm_embeddings", rows, persistent=False)
        self.register_buffer("token_weights", weights, persistent=False)
        self.vg_log_scale = nn.Parameter(torch.tensor(math.log(self.settings.vg_scale)))

    @property
    def qformer(self) -> QFormer:
        """The adapter's query path, which every loss but VG reads."""
        assert isinstance(self.adapter, QFormerAdapter)
        return self.adapter.qformer

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Terms of any batch: the losses by name, and measures that are not trained on."""
        if isinstance(batch, PairBatch):
            return self.item_item_step(batch) if batch.kind == ITEM_ITEM else self.user_item_step(batch)
        if self.text_branch is None:
            return self.grounding_step(batch)
        return self.item_text_step(batch)

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Weighted sum of the losses among `terms`."""
        weights = self.settings.loss_weights
        return torch.stack([terms[n] * weights.get(n, 1.0) for n in self.settings.losses if n in terms]).sum()

    def item_text_step(self, batch: ItemTextBatch) -> dict[str, Tensor]:
        """ITC, ITM, ITG and VG, as far as they are on, from one query pass over the batch's distinct items."""
        rows, inverse = _distinct(batch.items)
        share = Share(len(rows), self.training)
        sources, visible = self.items(rows), self._visible(len(rows))
        mine = {name: share.mine(vectors) for name, vectors in sources.items()}
        output = self.qformer(mine, None if visible is None else share.mine(visible))
        terms: dict[str, Tensor] = {}
        if "itc" in self.settings.losses:
            contrast = self._itc(output.hidden, share, inverse, batch)
            terms |= {"itc": contrast.loss, "temperature": self.temperature.detach()}
            if "itm" in self.settings.losses:
                terms |= self._itm(contrast.similarities, sources, visible, share, inverse, batch)
        if "itg" in self.settings.losses:
            terms |= self._itg(output, share, inverse, batch)
        if "vg" in self.settings.losses:
            assert isinstance(self.adapter, QFormerAdapter)
            terms |= self._vg(self.adapter.output_projection(output.hidden), share, inverse, batch)
        return terms

    def grounding_step(self, batch: ItemTextBatch) -> dict[str, Tensor]:
        """VG alone: needs soft tokens only, so no text branch and no particular adapter."""
        rows, inverse = _distinct(batch.items)
        share = Share(len(rows), self.training)
        mine = share.mine(rows)
        return self._vg(self.adapter(self.items(mine), self._visible(len(mine))), share, inverse, batch)

    def item_item_step(self, batch: PairBatch) -> dict[str, Tensor]:
        """IIC on items that follow one another; one query pass over the distinct items."""
        rows, inverse = _distinct(torch.cat([batch.left, batch.right]))
        share = Share(len(rows), self.training)
        pooled = share.join(self._pooled(self.items(share.mine(rows))))[inverse]
        return self._pair_terms("iic", pooled[: len(batch.left)], pooled[len(batch.left) :], batch)

    def user_item_step(self, batch: PairBatch) -> dict[str, Tensor]:
        """UIC on users and their items; one query pass over the distinct users and items."""
        assert batch.kind == USER_ITEM
        assert self.users is not None
        user_rows, user_inverse = _distinct(batch.left)
        item_rows, item_inverse = _distinct(batch.right)
        users, items = self.users(user_rows), self.items(item_rows)
        share = Share(len(user_rows) + len(item_rows), self.training)
        both = {name: share.mine(torch.cat([users[name], items[name]])) for name in users}
        pooled = share.join(self._pooled(both))
        left, right = pooled[user_inverse], pooled[len(user_rows) + item_inverse]
        return self._pair_terms("uic", left, right, batch)

    def item_queries(self, rows: Tensor) -> Tensor:
        """Unit query vectors [n, q, e] of the items at `rows` in the contrastive space."""
        return self._project(self.item_proj, self.qformer(self.items(rows)).hidden)

    def texts(self, token_ids: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors [n, e] of texts [n, t] in the contrastive space, from their first token."""
        assert self.text_branch is not None
        hidden = self.text_branch.encode_text(self.qformer, token_ids, mask)
        return self._project(self.text_proj, hidden[:, 0])

    def adapter_state(self) -> dict[str, Tensor]:
        """Weights that phase 2 starts from, detached and on the CPU."""
        return {name: value.detach().cpu().contiguous() for name, value in self.adapter.state_dict().items()}

    def _visible(self, n: int) -> Tensor | None:
        """Mask [n, sources] that hides one source of some items, in training and where asked for."""
        if not (self.training and self.settings.source_dropout):
            return None
        names = list(self.adapter.source_dims)
        visible = torch.ones(n, len(names), dtype=torch.bool)
        visible[:, names.index(self.settings.dropped_source)] = torch.rand(n) >= self.settings.source_dropout
        return visible.to(self.device)

    def _project(self, head: nn.Linear, hidden: Tensor) -> Tensor:
        return F.normalize(head(hidden).float(), dim=-1)

    def _itc(self, hidden: Tensor, share: Share, inverse: Tensor, batch: ItemTextBatch) -> L.ItcOutput:
        if self.training:
            with torch.no_grad():
                self.temperature.clamp_(*TEMPERATURE_RANGE)
        queries = share.join(self._project(self.item_proj, hidden))[inverse]
        by_text = Share(len(inverse), self.training)
        texts = by_text.join(self.texts(by_text.mine(batch.token_ids), by_text.mine(batch.mask)))
        # cosines are divided by a small temperature: bf16's three digits would show
        with torch.autocast(queries.device.type, enabled=False):
            return L.itc_loss(
                queries,
                texts,
                self.temperature,
                batch.items,
                batch.text_ids,
                label_smoothing=self.settings.label_smoothing,
            )

    def _itm(
        self,
        similarities: Tensor,
        sources: Mapping[str, Tensor],
        visible: Tensor | None,
        share: Share,
        inverse: Tensor,
        batch: ItemTextBatch,
    ) -> dict[str, Tensor]:
        """True pairs, then a negative item per text, then a negative text per item; rows without one are left out."""
        assert self.text_branch is not None
        negatives = L.sample_hard_negatives(similarities, batch.items, batch.text_ids)
        if self.training:
            negatives = L.HardNegatives(*(rows_from_main(drawn) for drawn in negatives))
        own = _own(share, inverse)
        some = own[negatives.valid[own]]
        items = inverse[torch.cat([own, negatives.items[some], some])]
        texts = torch.cat([own, some, negatives.texts[some]])
        hidden = self.text_branch.encode_joint(
            self.qformer,
            {name: vectors[items] for name, vectors in sources.items()},
            batch.token_ids[texts],
            batch.mask[texts],
            None if visible is None else visible[items],
        )
        measures = L.itm_loss(self.itm_head(hidden).mean(dim=1), n_matched=len(own))
        loss, accuracy = (joint_mean(value, len(items), self.training) for value in measures)
        return {"itm": loss, "itm_accuracy": accuracy}

    def _itg(self, output: QueryOutput, share: Share, inverse: Tensor, batch: ItemTextBatch) -> dict[str, Tensor]:
        assert self.text_branch is not None
        own = _own(share, inverse)
        items, mask, tokens = share.local(inverse[own]), batch.mask[own], batch.token_ids[own]
        keys_values = tuple((key[items], value[items]) for key, value in output.keys_values)
        ids = self.text_branch.decoder_ids(tokens)
        hidden = self.text_branch.decode_text(self.qformer, keys_values, ids, mask)
        # the vocabulary head is the costliest map: only where a next token exists
        follows = mask[:, 1:]
        logits = self.text_branch.logits(hidden[:, :-1][follows])
        measures = L.itg_loss(logits, tokens[:, 1:][follows], label_smoothing=self.settings.label_smoothing)
        smoothed, plain = (joint_mean(value, follows.sum(), self.training) for value in measures)
        return {"itg": smoothed, "itg_nll": plain}

    def _vg(self, soft: Tensor, share: Share, inverse: Tensor, batch: ItemTextBatch) -> dict[str, Tensor]:
        items = inverse[batch.bag_items]
        own = share.holds(items)
        local = share.local(items[own])
        loss = L.vocabulary_grounding_loss(
            soft,
            self.get_buffer("llm_embeddings"),
            local,
            batch.bag_tokens[own],
            self.scale(),
            token_weights=self.token_weights if isinstance(self.token_weights, Tensor) else None,
        )
        loss = joint_mean(loss, len(torch.unique(local)), self.training)
        return {"vg": loss, "vg_scale": self.scale().detach()}

    def scale(self) -> Tensor:
        """Sharpness of vocabulary grounding."""
        return self.vg_log_scale.exp().clamp(max=MAX_SCALE)

    def _pooled(self, sources: Mapping[str, Tensor]) -> Tensor:
        """Unit vectors [n, e]: mean query state, projected."""
        n = len(next(iter(sources.values())))
        hidden = self.qformer(sources, self._visible(n)).hidden
        head = self.pair_proj if self.settings.pair_projection == "own" else self.item_proj
        return self._project(head, hidden.mean(dim=1))

    def _pair_terms(self, name: str, left: Tensor, right: Tensor, batch: PairBatch) -> dict[str, Tensor]:
        settings = self.settings
        if settings.pair_mode == "infonce":
            with torch.autocast(left.device.type, enabled=False):
                return {name: L.in_batch_info_nce(left, right, batch.related, temperature=settings.temperature)}
        if settings.pair_mode == "margin_all":
            loss, active = L.in_batch_pair_loss(left, right, batch.related, margin=settings.margin)
        else:
            drawn = batch.negatives >= 0
            together = torch.arange(len(left) + int(drawn.sum()), device=left.device) < len(left)
            partners = torch.cat([right, right[batch.negatives[drawn]]])
            loss, active = L.pair_contrastive_loss(
                torch.cat([left, left[drawn]]), partners, together, margin=settings.margin
            )
        return {name: loss, f"{name}_active": active}


def _distinct(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Sorted distinct rows, and where each row of the argument is among them."""
    found, inverse = torch.unique(rows, return_inverse=True)
    return found, inverse


def _own(share: Share, inverse: Tensor) -> Tensor:
    """Rows of the batch whose item is in this rank's share."""
    return torch.nonzero(share.holds(inverse))[:, 0]


def _checked(sources: Mapping[str, Tensor], adapter: Adapter) -> dict[str, Tensor]:
    """The sources that the adapter reads; the adapter's own check names a missing or misfitting one."""
    return dict(zip(adapter.source_dims, check_sources(sources, adapter.source_dims), strict=True))
