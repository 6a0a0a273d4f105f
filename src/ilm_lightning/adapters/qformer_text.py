"""The Q-Former's text branch, which phase 1 runs beside the query path and phase 2 leaves behind.

Texts pass through the same self-attention as the queries and through feed-forward networks of their own; they have no
cross-attention, so that all they know of an item comes through the queries. The three passes are BLIP-2's
(arXiv 2301.12597): text alone (ITC), text after the queries' keys and values (ITG), queries and text together (ITM).

All position-wise maps run on the real tokens only; padding exists inside attention alone. This changes no result.

Notation: n items (= texts), q queries, t text positions, m real tokens of the batch, h hidden, a heads.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ilm_lightning.adapters.base import require_positive
from ilm_lightning.adapters.layers import FeedForward, SelfAttention, causal_mask, init_bert_, layer_norm
from ilm_lightning.adapters.qformer import KeysValues, QFormer


@dataclass(frozen=True)
class _Packing:
    """Where packed rows [m, width] lie in a padded [rows, length, width]; `index` [m] counts positions row by row."""

    rows: int
    length: int
    index: Tensor

    def pad(self, packed: Tensor) -> Tensor:
        padded = packed.new_zeros(self.rows * self.length, packed.shape[-1])
        return padded.index_copy(0, self.index, packed).view(self.rows, self.length, packed.shape[-1])

    def pack(self, padded: Tensor) -> Tensor:
        return padded.flatten(0, 1).index_select(0, self.index)


def _attend(
    attention: SelfAttention,
    hidden: Tensor,
    packing: _Packing,
    mask: Tensor,
    prefix: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Self-attention of packed tokens [m, h]; `prefix` holds keys and values [n, a, q, h / a] put before the text's."""
    query, key, value = attention.split(packing.pad(attention.qkv(hidden)), 3)
    if prefix is not None:
        key, value = torch.cat([prefix[0], key], dim=2), torch.cat([prefix[1], value], dim=2)
    return attention.finish(packing.pack(attention.attend(query, key, value, mask)), hidden)


class TextBranch(nn.Module):
    """Embeddings, feed-forward networks and language-model head for text.

    The Q-Former whose self-attention is shared is an argument of each pass, not a part of the branch: its weights are
    stored once and belong to the adapter.

    Args:
        vocab_size: Rows of the tokenizer's vocabulary; one row is added for the token that starts a decoder's input.
        hidden_size: h, the Q-Former's.
        num_layers: The Q-Former's.
        ffn_size: Inner width of the feed-forward networks.
        max_positions: Longest text in tokens.
        dropout: Of hidden states.

    Attributes:
        decoder_id: Id of the start token of ITG's input, equal to `vocab_size`.
    """

    def __init__(
        self,
        vocab_size: int = 30522,
        hidden_size: int = 384,
        num_layers: int = 6,
        ffn_size: int = 1536,
        max_positions: int = 512,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        require_positive(vocab_size=vocab_size, max_positions=max_positions)
        self.vocab_size = self.decoder_id = vocab_size
        self.max_positions, self.dropout = max_positions, dropout
        self.word_embeddings = nn.Embedding(vocab_size + 1, hidden_size)
        self.position_embeddings = nn.Embedding(max_positions, hidden_size)
        self.ffns = nn.ModuleList(FeedForward(hidden_size, ffn_size, dropout) for _ in range(num_layers))
        self.head_transform = nn.Linear(hidden_size, hidden_size)
        self.head_norm = layer_norm(hidden_size)
        self.head_bias = nn.Parameter(torch.zeros(vocab_size + 1))
        init_bert_(self)

    @classmethod
    def for_qformer(cls, qformer: QFormer, vocab_size: int = 30522, max_positions: int = 512) -> "TextBranch":
        """Makes a branch with the sizes of `qformer`."""
        return cls(
            vocab_size, qformer.hidden_size, qformer.num_layers, qformer.ffn_size, max_positions, qformer.dropout
        )

    def decoder_ids(self, ids: Tensor) -> Tensor:
        """Copies ids [n, t] with the first token ([CLS]) replaced by the decoder's start token."""
        return torch.cat([torch.full_like(ids[:, :1], self.decoder_id), ids[:, 1:]], dim=1)

    def encode_text(self, qformer: QFormer, ids: Tensor, mask: Tensor) -> Tensor:
        """Text alone, every token seeing all of its text: BERT's encoder.

        Args:
            qformer: The Q-Former whose self-attention is shared.
            ids: Token ids [n, t].
            mask: [n, t], nonzero at real tokens.

        Returns:
            Hidden states [n, t, h], zero at padding.

        Raises:
            ValueError: If shapes differ or the text is longer than `max_positions`.
        """
        packing, mask = self._packing(ids, mask)
        hidden = self._embed(qformer, ids, packing)
        visible = (mask | ~mask.any(dim=1, keepdim=True))[:, None, None, :]  # an empty text must not divide 0 by 0
        for layer, ffn in zip(qformer.blocks, self.ffns, strict=True):
            hidden = ffn(_attend(layer.self_attention, hidden, packing, visible))
        return packing.pad(hidden)

    def decode_text(self, qformer: QFormer, keys_values: KeysValues, ids: Tensor, mask: Tensor) -> Tensor:
        """Text after the queries: token i sees all queries and tokens 0..i.

        Args:
            qformer: The Q-Former whose self-attention is shared.
            keys_values: `QueryOutput.keys_values` of the texts' items.
            ids: Token ids [n, t], the first being `decoder_id` (see `decoder_ids`).
            mask: [n, t], nonzero at real tokens.

        Returns:
            Hidden states [n, t, h], zero at padding; `logits` of position i predict token i + 1.

        Raises:
            ValueError: If shapes differ or the text is longer than `max_positions`.
        """
        packing, mask = self._packing(ids, mask)
        hidden = self._embed(qformer, ids, packing)
        rows, length = ids.shape
        queries = keys_values[0][0].shape[2]
        if len(keys_values[0][0]) != rows:
            raise ValueError(f"keys_values are of {len(keys_values[0][0])} items, ids of {rows} texts")
        keys = torch.cat([mask.new_ones(rows, queries), mask], dim=1)[:, None, None, :]
        visible = keys & causal_mask(length, queries, ids.device)
        for layer, ffn, prefix in zip(qformer.blocks, self.ffns, keys_values, strict=True):
            hidden = ffn(_attend(layer.self_attention, hidden, packing, visible, prefix))
        return packing.pad(hidden)

    def encode_joint(
        self,
        qformer: QFormer,
        sources: Mapping[str, Tensor],
        ids: Tensor,
        mask: Tensor,
        source_mask: Tensor | None = None,
    ) -> Tensor:
        """Queries and text together, all seeing each other; the queries also see the item.

        Args:
            qformer: The Q-Former.
            sources: The items' vectors [n, d_s] by source name.
            ids: Token ids [n, t], one text an item.
            mask: [n, t], nonzero at real tokens.
            source_mask: As in `QFormer.forward`.

        Returns:
            Query states [n, q, h].

        Raises:
            ValueError: If shapes differ, the text is longer than `max_positions`, or sources do not fit.
        """
        text_packing, mask = self._packing(ids, mask)
        keys = qformer.embed_sources(sources, source_mask)
        rows, count = len(keys.tokens), qformer.num_queries
        if len(ids) != rows:
            raise ValueError(f"sources are of {rows} items, ids of {len(ids)} texts")
        packing = _with_queries(text_packing, count)
        visible = torch.cat([mask.new_ones(rows, count), mask], dim=1)[:, None, None, :]
        hidden = torch.cat([qformer.embed_queries(rows).flatten(0, 1), self._embed(qformer, ids, text_packing)])
        for layer, ffn in zip(qformer.blocks[:-1], self.ffns, strict=False):
            hidden = _attend(layer.self_attention, hidden, packing, visible)
            queries = layer.after_self_attention(hidden[: rows * count].view(rows, count, qformer.hidden_size), keys)
            hidden = torch.cat([queries.flatten(0, 1), ffn(hidden[rows * count :])])
        last = qformer.blocks[-1]  # only its query rows are read
        query, key, value = last.self_attention.split(packing.pad(last.self_attention.qkv(hidden)), 3)
        context = last.self_attention.attend(query[:, :, :count], key, value, visible)
        queries = last.self_attention.finish(context, hidden[: rows * count].view(rows, count, qformer.hidden_size))
        return last.after_self_attention(queries, keys)

    def logits(self, hidden: Tensor) -> Tensor:
        """Language-model head on [..., h]: logits [..., vocab_size + 1], output weights tied to the word embeddings.

        It is the costliest map of phase 1: pass only the positions that have a target.
        """
        transformed = self.head_norm(F.gelu(self.head_transform(hidden)))
        return F.linear(transformed, self.word_embeddings.weight, self.head_bias)

    def _packing(self, ids: Tensor, mask: Tensor) -> tuple[_Packing, Tensor]:
        if ids.ndim != 2 or ids.shape != mask.shape:
            raise ValueError(f"ids {list(ids.shape)} and mask {list(mask.shape)} must both be [n, t]")
        if ids.shape[1] > self.max_positions:
            raise ValueError(f"texts of {ids.shape[1]} tokens, at most {self.max_positions}: truncate them")
        mask = mask.bool()
        return _Packing(ids.shape[0], ids.shape[1], mask.flatten().nonzero().squeeze(1)), mask

    def _embed(self, qformer: QFormer, ids: Tensor, packing: _Packing) -> Tensor:
        if qformer.num_layers != len(self.ffns):
            raise ValueError(f"the text branch has {len(self.ffns)} layers, the Q-Former {qformer.num_layers}")
        words = self.word_embeddings(ids.flatten().index_select(0, packing.index))
        embedded = words + self.position_embeddings(packing.index % packing.length)
        return F.dropout(qformer.embedding_norm(embedded), self.dropout, self.training)


def _with_queries(text: _Packing, queries: int) -> _Packing:
    """Packing of [n * q queries; m text tokens] in rows of queries followed by text."""
    length = queries + text.length
    starts = torch.arange(text.rows, device=text.index.device) * length
    query_index = (starts[:, None] + torch.arange(queries, device=text.index.device)).flatten()
    text_index = starts[text.index // text.length] + queries + text.index % text.length
    return _Packing(text.rows, length, torch.cat([query_index, text_index]))
