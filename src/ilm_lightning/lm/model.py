"""The item-language model: an adapter's soft tokens among the words of a language model's prompt."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ilm_lightning.adapters import Adapter
from ilm_lightning.lm.attention import PLAIN_ATTENTION
from ilm_lightning.lm.backbone import Backbone, Tuning, causal_lm, set_training_mode
from ilm_lightning.lm.batch import PLACEHOLDER_ID, PromptBatch, Targets
from ilm_lightning.lm.heads import ItemHead
from ilm_lightning.lm.lead import hidden_after, lead
from ilm_lightning.lm.seq2seq import ReadPrompts, is_encoder_decoder, target_states
from ilm_lightning.lm.splice import splice
from ilm_lightning.lm.vocabulary import head_logits, head_losses

if TYPE_CHECKING:
    from transformers import Cache
    from transformers.modeling_outputs import BaseModelOutputWithPast

RMS_ROWS = 8192
"""Embedding rows from which the embeddings' scale is taken, evenly spaced."""


@dataclass(frozen=True)
class LMOutput:
    """Losses of a batch, in nats.

    Attributes:
        loss: scalar; mean over target tokens, weighted where the batch has token weights.
        token_losses: ``[n_targets]``, unweighted, in reading order.
        target_rows: ``[n_targets]``, int64; the example of each target token.
        example_losses: ``[B]``; mean of each example's token losses, unweighted, NaN for one without target.
        hidden: ``[n_targets, d]``; the hidden states that predict the target tokens.
        weights: ``[n_targets]``; the batch's weights of the target tokens, or None.
    """

    loss: Tensor
    token_losses: Tensor
    target_rows: Tensor
    example_losses: Tensor
    hidden: Tensor
    weights: Tensor | None = None

    def weight(self, rows: Tensor | None = None) -> Tensor:
        """How much the mean over the target tokens counts: their number, or the sum of their weights.

        Args:
            rows: of these examples only.
        """
        weights = torch.ones_like(self.token_losses) if self.weights is None else self.weights
        return (weights if rows is None else weights[torch.isin(self.target_rows, rows)]).sum().detach()


def weighted_mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """Average ``[n]`` values, by ``[n]`` weights where there are any.

    >>> float(weighted_mean(torch.tensor([1.0, 4.0]), torch.tensor([3.0, 1.0])))
    1.75
    """
    if weights is None:
        return values.mean()
    return (values * weights).sum() / weights.sum().clamp_min(1e-12)


class ItemLanguageModel(nn.Module):
    """Adapter and language model.

    Soft tokens are brought to the root mean square of the language model's input embeddings, times a learned gain.
    Where they begin at trained ones (see ``lm.start``), ``soft_start`` ``[q, d]`` is added to the adapter's before.
    The adapter computes in float32, the language model in the backbone's ``compute_dtype``, whatever autocast says.

    Args:
        adapter: maps item vectors to soft tokens.
        backbone: the language model, set up for a tuning mode.
        item_head: whether it scores items by a head of its own (see ``lm.item_head``).

    Raises:
        ValueError: if the adapter's output is not as wide as the language model's embeddings.
    """

    embedding_rms: Tensor
    soft_start: nn.Parameter | None

    def __init__(self, adapter: Adapter, backbone: Backbone, item_head: bool = False) -> None:
        super().__init__()
        self.adapter = adapter
        self.lm = backbone.lm
        self.tuning = backbone.tuning
        self.compute_dtype = backbone.compute_dtype
        self.reference = backbone.reference
        self.updates = backbone.updates
        width = self._embedding().weight.shape[1]
        if adapter.output_dim != width:
            raise ValueError(
                f"the adapter's soft tokens are {adapter.output_dim} wide, the embeddings of "
                f"{backbone.reference.name} {width}; build the adapter with output_dim={width}"
            )
        self.log_gain = nn.Parameter(torch.zeros(()))
        self.register_parameter("soft_start", None)
        self.register_buffer("embedding_rms", self._measure_rms())
        self.item_head = ItemHead(width) if item_head else None
        if item_head:
            self._freeze_vocabulary_head()

    def _embedding(self) -> nn.Embedding:
        embedding: nn.Embedding = causal_lm(self.lm).get_input_embeddings()
        return embedding

    @torch.no_grad()
    def _measure_rms(self) -> Tensor:
        # through the module, not its weight: some architectures scale what they look up
        embedding = self._embedding()
        rows = embedding.weight.shape[0]
        ids = torch.linspace(0, rows - 1, min(rows, RMS_ROWS), device=embedding.weight.device).long()
        scale: Tensor = embedding(ids).float().square().mean().sqrt()
        return scale

    def _freeze_vocabulary_head(self) -> None:
        """No word is predicted where items are scored; a head that is not the embedding itself would learn nothing."""
        head = causal_lm(self.lm).get_output_embeddings()
        if head is not None and head.weight is not self._embedding().weight:
            head.requires_grad_(False)

    @property
    def num_queries(self) -> int:
        """Soft tokens per item slot."""
        return self.adapter.num_queries

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.log_gain.device

    @property
    def attention(self) -> str | None:
        """Name of the language model's attention function, as transformers has it."""
        name: str | None = getattr(causal_lm(self.lm).config, "_attn_implementation", None)
        return name

    def train(self, mode: bool = True) -> "ItemLanguageModel":
        """Switch the trained parts; frozen parts of the language model stay in evaluation mode."""
        super().train(mode)
        set_training_mode(self.lm, self.tuning, mode)
        return self

    @contextmanager
    def lm_precision(self) -> Iterator[None]:
        """Run the language model in ``compute_dtype``, whatever autocast is set outside."""
        # LoRA's fp32 updates would otherwise multiply in fp32: half as fast on a CPU with bf16
        mixed = self.tuning is Tuning.LORA and self.compute_dtype is torch.bfloat16
        autocast = mixed or self._embedding().weight.dtype is not self.compute_dtype
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=autocast):
            yield

    def soft_tokens(self, sources: Mapping[str, Tensor]) -> Tensor:
        """Compute soft tokens at the language model's embedding scale.

        Args:
            sources: vectors of items per source ``[n, d_s]``.

        Returns:
            ``[n, num_queries, d]``, float32.

        Raises:
            ValueError: if a source is missing or has another width than the adapter was built for.
        """
        with torch.autocast(self.device.type, enabled=False):
            dtype = self.log_gain.dtype
            raw: Tensor = self.adapter({name: vectors.to(dtype) for name, vectors in sources.items()})
            if self.soft_start is not None:
                raw = raw + self.soft_start
            rms = raw.square().mean(-1, keepdim=True).add(1e-12).sqrt()
            return raw / rms * self.embedding_rms.to(dtype) * self.log_gain.exp()

    def embed(self, batch: PromptBatch, soft: Tensor | None = None) -> Tensor:
        """Return the batch's input embeddings ``[B, T, d]`` with the soft tokens in their places.

        Args:
            batch: the prompts.
            soft: soft tokens of the rows that ``batch.slot_index`` counts ``[u, q, d]``; computed if None.

        Raises:
            ValueError: if slots and placeholders disagree.
        """
        words = self._embedding()(batch.input_ids.clamp_min(0))
        if len(batch.slot_index) == 0:
            soft = words.new_zeros(0, self.num_queries, words.shape[-1])
            return splice(words, batch.input_ids, PLACEHOLDER_ID, soft, batch.n_placeholders)
        if soft is None:
            soft = self.soft_tokens(batch.sources)
        return splice(words, batch.input_ids, PLACEHOLDER_ID, soft[batch.slot_index], batch.n_placeholders)

    def run_lm(
        self,
        embeddings: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor | None = None,
        cache: "Cache | None" = None,
        **inputs: Any,
    ) -> "BaseModelOutputWithPast":
        """Run the language model without its vocabulary head.

        Args:
            embeddings: ``[B, T, d]``.
            attention_mask: ``[B, T]``, with a cache ``[B, cached + T]``; None where nothing but causality hides tokens.
            position_ids: ``[B, T]``; None counts from the left, which padding on the right allows.
            cache: keys and values of the tokens before; extended in place. With an encoder-decoder, prompts that were
                read (see ``lm.reading.begin``); this is the decoder then.
            inputs: what the attention function takes beside these.
        """
        if isinstance(cache, ReadPrompts):
            assert attention_mask is not None
            return cache.decode(self.lm, embeddings, attention_mask, position_ids)
        decoder = causal_lm(self.lm).get_decoder()
        if cache is None and attention_mask is None and decoder.config.model_type in PLAIN_ATTENTION:
            from ilm_lightning.lm.cache import passing_cache

            cache = passing_cache(decoder.config)
        return decoder(
            inputs_embeds=embeddings,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=cache is not None,
            **inputs,
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits ``[n, V]`` of hidden states ``[n, d]``, float32."""
        lm = causal_lm(self.lm)
        return head_logits(lm.get_output_embeddings(), hidden, lm.config)

    def target_logits(self, batch: PromptBatch, soft: Tensor | None = None) -> Tensor:
        """Return the logits that predict the target tokens ``[n_targets, V]``, float32, in reading order."""
        with self.lm_precision():
            targets = batch.targets
            logits = self.logits(self._target_hidden(batch, targets, soft))
            return logits if targets.copies is None else logits[targets.copies]

    def _target_hidden(self, batch: PromptBatch, targets: Targets, soft: Tensor | None) -> Tensor:
        if is_encoder_decoder(self.lm):
            return target_states(self.lm, self.embed(batch, soft), batch)
        return self.hidden_at(batch, targets.places, soft)

    def hidden_at(self, batch: PromptBatch, places: Tensor, soft: Tensor | None = None) -> Tensor:
        """Return the hidden states ``[n, d]`` at places ``row * T + column`` of a batch padded on the right."""
        embeddings = self.embed(batch, soft)
        if first := lead(self, batch, places):
            hidden = hidden_after(self, embeddings, batch.attention_mask, first)
            # every row has lost its first columns
            places = places - (places // embeddings.shape[1] + 1) * first
        else:
            inputs = batch.attention_inputs(self.attention, self.compute_dtype)
            hidden = self.run_lm(embeddings, **inputs).last_hidden_state
        return hidden.flatten(0, 1).index_select(0, places)

    def forward(self, batch: PromptBatch, soft: Tensor | None = None) -> LMOutput:
        """Compute the loss of the targets; logits exist only where there is a label.

        Args:
            batch: prompts, targets and vectors, padded on the right.
            soft: soft tokens of the rows that ``batch.slot_index`` counts ``[u, q, d]``; computed from the batch's
                vectors if None.

        Returns:
            The losses.

        Raises:
            ValueError: if the batch holds no target token, or slots and placeholders disagree.
        """
        targets = batch.targets
        if len(targets.ids) == 0:
            raise ValueError(f"the batch of examples {batch.example_ids[:4]} … holds no target token")
        lm = causal_lm(self.lm)
        with self.lm_precision():
            hidden = self._target_hidden(batch, targets, soft)
            losses = head_losses(lm.get_output_embeddings(), hidden, targets.ids, lm.config)
        if targets.copies is not None:
            hidden, losses = hidden[targets.copies], losses[targets.copies]
        rows = targets.examples
        sums = losses.detach().new_zeros(len(batch)).index_add(0, rows, losses.detach())
        means = sums / torch.zeros_like(sums).index_add(0, rows, torch.ones_like(losses))
        return LMOutput(weighted_mean(losses, targets.weights), losses, rows, means, hidden, targets.weights)

    def merge_lora(self) -> "ItemLanguageModel":
        """Add LoRA's updates into the weights they update, for faster reading; exact up to the weights' rounding.

        Returns:
            The model itself, its language model frozen from now on; without LoRA nothing changes.
        """
        if self.tuning is Tuning.LORA:
            merged: Any = self.lm
            self.lm = merged.merge_and_unload()
            self.tuning = Tuning.FROZEN
            self.lm.requires_grad_(False)
        return self

    def save_pretrained(
        self, folder: str | Path, tokenizer: str | None = None, extra: Mapping[str, Any] | None = None
    ) -> None:
        """Write a portable folder; see ``ilm_lightning.lm.portable.save_pretrained``."""
        from ilm_lightning.lm.portable import save_pretrained

        save_pretrained(self, folder, tokenizer, extra)

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, lm: str | Path | Backbone | None = None, dtype: str | None = None
    ) -> "ItemLanguageModel":
        """Read a portable folder; see ``ilm_lightning.lm.portable.from_pretrained``."""
        from ilm_lightning.lm.portable import from_pretrained

        return from_pretrained(folder, lm, dtype)

    def trainable_state_dict(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps: all outside the language model, and of it what is trained."""
        from ilm_lightning.lm.portable import trainable_state_dict

        return trainable_state_dict(self)

    def load_trainable_state_dict(self, state: Mapping[str, Tensor], strict: bool = True) -> None:
        """Load such weights; see ``ilm_lightning.lm.portable.load_trainable_state_dict``."""
        from ilm_lightning.lm.portable import load_trainable_state_dict

        load_trainable_state_dict(self, state, strict)
