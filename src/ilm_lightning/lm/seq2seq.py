"""Encoder-decoders (T5): the encoder reads the prompt and its soft tokens, the decoder writes the answer.

What the decoder has read is kept in a cache as with other language models; here the cache also holds what the encoder
made of the prompts, so that a prompt is encoded once however its answer is searched.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache

from ilm_lightning.lm.backbone import causal_lm
from ilm_lightning.lm.batch import IGNORE_INDEX, ContextBatch, PromptBatch

if TYPE_CHECKING:
    from transformers.modeling_outputs import BaseModelOutputWithPast


def is_encoder_decoder(lm: nn.Module) -> bool:
    """Tell whether a language model has an encoder of its own."""
    return bool(getattr(causal_lm(lm).config, "is_encoder_decoder", False))


def encode(lm: nn.Module, embeddings: Tensor, mask: Tensor) -> Tensor:
    """Run the encoder.

    Args:
        lm: the language model.
        embeddings: ``[B, S, d]``, soft tokens in their places.
        mask: ``[B, S]``; T5 counts relative distances, so padding may stand on either side.

    Returns:
        ``[B, S, d]``.
    """
    states: Tensor = causal_lm(lm).get_encoder()(inputs_embeds=embeddings, attention_mask=mask).last_hidden_state
    return states


def start_id(lm: nn.Module) -> int:
    """The token that every answer begins after."""
    return int(causal_lm(lm).config.decoder_start_token_id)


def decoder_scale(lm: nn.Module) -> float:
    """What hidden states are multiplied with before the vocabulary head; the first T5 models shrink them."""
    config: Any = causal_lm(lm).config
    return float(config.d_model**-0.5) if getattr(config, "scale_decoder_outputs", False) else 1.0


def target_states(lm: nn.Module, embeddings: Tensor, batch: PromptBatch | ContextBatch) -> Tensor:
    """Hidden states that predict the target tokens.

    Args:
        lm: the language model.
        embeddings: ``[B, T, d]`` of prompts and targets; the encoder sees the prompts alone.
        batch: padded on the right.

    Returns:
        ``[n_targets, d]``, in reading order.
    """
    is_target = batch.labels != IGNORE_INDEX
    mask = batch.attention_mask.bool() & ~is_target
    memory = encode(lm, embeddings, mask)
    counts = is_target.sum(1)
    valid = torch.arange(int(counts.max()), device=counts.device) < counts[:, None]
    answers = torch.zeros(valid.shape, dtype=torch.long, device=counts.device)
    answers[valid] = batch.labels[is_target]
    first = torch.full_like(answers[:, :1], start_id(lm))
    model = causal_lm(lm)
    # padding on the right is behind every target, so the causal mask alone hides it
    hidden: Tensor = model.get_decoder()(
        inputs_embeds=model.get_input_embeddings()(torch.cat([first, answers[:, :-1]], dim=1)),
        encoder_hidden_states=memory,
        encoder_attention_mask=mask,
        use_cache=False,
    ).last_hidden_state
    return hidden[valid] * decoder_scale(lm)


class ReadPrompts(EncoderDecoderCache):
    """Prompts that the encoder has read, and keys and values of what the decoder has read after them.

    Args:
        own: an empty cache of the decoder's self-attention.
        states: the encoder's ``[B, S, d]``.
        mask: ``[B, S]``.
    """

    def __init__(self, own: Cache, states: Tensor, mask: Tensor) -> None:
        super().__init__(own, DynamicCache())
        self.states, self.mask = states, mask
        self._places = torch.empty(0, dtype=torch.long, device=states.device)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows of the batch, or copies of them: ``[b]``, which."""
        super().batch_select_indices(indices)
        self.states, self.mask = self.states[indices], self.mask[indices]

    def decode(
        self, lm: nn.Module, embeddings: Tensor, mask: Tensor, positions: Tensor | None
    ) -> "BaseModelOutputWithPast":
        """Run the decoder on further tokens.

        Args:
            lm: the language model.
            embeddings: ``[B, T, d]``.
            mask: ``[B, cached + T]``; or added to the scores ``[B, 1, T, cached + T]``, for tokens whose place in the
                cache is not their position.
            positions: ``[B, T]``, the same in every row; needed with a mask of the second kind.

        Returns:
            The decoder's output, ready for the vocabulary head.
        """
        count = embeddings.shape[1]
        new = torch.arange(count, device=mask.device) + len(self._places) if positions is None else positions[0]
        self._places = torch.cat([self._places, new])
        if mask.ndim == 4:
            hidden = mask < torch.finfo(mask.dtype).min / 2
            bias = self._bias_by_position(lm, new)
            mask = torch.where(hidden, mask, mask + bias.to(mask.dtype))
        output: BaseModelOutputWithPast = causal_lm(lm).get_decoder()(
            inputs_embeds=embeddings,
            attention_mask=mask,
            encoder_hidden_states=self.states,
            encoder_attention_mask=self.mask,
            past_key_values=self,
            use_cache=True,
        )
        assert output.last_hidden_state is not None
        output.last_hidden_state = output.last_hidden_state * decoder_scale(lm)
        return output

    def _bias_by_position(self, lm: nn.Module, new: Tensor) -> Tensor:
        """What T5's bias lacks where places in the cache are not positions: ``[1, H, T, cached + T]``.

        Beams of a search lie one after another in the cache, though they are alternatives at one position; T5 would
        take the place for the distance.
        """
        attention: Any = causal_lm(lm).get_decoder().block[0].layer[0].SelfAttention
        keys = len(self._places)
        by_place: Tensor = attention.compute_bias(len(new), keys, new.device, keys - len(new))
        buckets = attention._relative_position_bucket(
            self._places[None] - new[:, None],
            bidirectional=False,
            num_buckets=attention.relative_attention_num_buckets,
            max_distance=attention.relative_attention_max_distance,
        )
        by_position: Tensor = attention.relative_attention_bias(buckets).permute(2, 0, 1)[None]
        return by_position - by_place
