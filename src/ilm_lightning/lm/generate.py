"""Texts from soft tokens (greedy), and the losses of given targets, for whole sets of examples."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ilm_lightning.lm.backbone import causal_lm
from ilm_lightning.lm.batch import PromptBatch
from ilm_lightning.lm.cache import roomy_cache
from ilm_lightning.lm.collate import Collator, sorted_batches, unique_slots
from ilm_lightning.lm.journal import Journal
from ilm_lightning.lm.model import ItemLanguageModel
from ilm_lightning.lm.prompts import PromptTokenizer, TokenisedExample
from ilm_lightning.lm.reading import begin
from ilm_lightning.progress import track

log = logging.getLogger(__name__)
ADAPTER_CHUNK = 256
"""Slots that the adapter maps at once in evaluation."""


@dataclass(frozen=True)
class Generation:
    """Generated texts, in the order of the examples.

    Attributes:
        example_ids: the examples' ids.
        texts: the generated texts, without the end token.
        token_ids: their ids, without the end token.
        cut_off: True where ``max_new_tokens`` ended the text before an end token did.
    """

    example_ids: list[str]
    texts: list[str]
    token_ids: list[list[int]]
    cut_off: list[bool]

    @property
    def cut_off_share(self) -> float:
        """Share of texts that were cut off, from 0 to 1."""
        return sum(self.cut_off) / len(self.cut_off) if self.cut_off else 0.0


@dataclass(frozen=True)
class TargetLosses:
    """Losses of the examples' own targets in nats, in the order of the examples.

    Attributes:
        example_ids: the examples' ids.
        token_losses: per example float32 ``[t]``, one loss per target token, end token included.
    """

    example_ids: list[str]
    token_losses: list[NDArray[np.float32]]

    @property
    def mean(self) -> float:
        """Mean over all target tokens, in nats."""
        return float(np.concatenate(self.token_losses).mean())

    @property
    def bits(self) -> NDArray[np.float64]:
        """Bits that each whole target costs ``[n]``."""
        return np.array([losses.astype(np.float64).sum() / np.log(2) for losses in self.token_losses])


class SoftTokenBank:
    """Soft tokens of all slots of a set of examples, computed once.

    Args:
        model: the model, on its device and in evaluation mode.
        examples: the examples.
        collator: holds the item vectors.
    """

    @torch.no_grad()
    def __init__(self, model: ItemLanguageModel, examples: Sequence[TokenisedExample], collator: Collator) -> None:
        slots, _ = unique_slots(examples)
        self._place = {slot: place for place, slot in enumerate(slots)}
        self.collator = collator
        parts = []
        for start in range(0, len(slots), ADAPTER_CHUNK):
            sources = collator.slot_sources(slots[start : start + ADAPTER_CHUNK])
            parts.append(model.soft_tokens({name: rows.to(model.device) for name, rows in sources.items()}))
        self._soft = torch.cat(parts) if parts else None

    def soft(self, examples: Sequence[TokenisedExample]) -> Tensor | None:
        """Return the soft tokens of a batch's distinct slots ``[u, q, d]``, as its ``slot_index`` counts them."""
        slots, _ = unique_slots(examples)
        if self._soft is None or not slots:
            return None
        return self._soft[torch.tensor([self._place[slot] for slot in slots], device=self._soft.device)]


@torch.inference_mode()
def generate(
    model: ItemLanguageModel,
    examples: Sequence[TokenisedExample],
    collator: Collator,
    tokenizer: PromptTokenizer,
    max_new_tokens: int = 96,
    batch_size: int = 48,
    label: str = "generating",
    journal: Journal | None = None,
    bank: SoftTokenBank | None = None,
) -> Generation:
    """Write a text for each example, greedily.

    Args:
        model: the model; its mode is restored afterwards.
        examples: the examples; their targets are not read.
        collator: holds the item vectors.
        tokenizer: turns ids into text and knows the end token.
        max_new_tokens: the most tokens a text may have.
        batch_size: prompts that run together.
        label: what the progress bar says.
        journal: keeps each finished batch; examples that it holds are not written again.
        bank: soft tokens of the examples, where they were computed before.

    Returns:
        The texts in the order of ``examples``; the order changes no text beyond numeric noise.
    """
    stops = stop_ids(model, tokenizer.eos_id)
    rows: list[list[int]] = [[] for _ in examples]
    training = model.training
    model.eval()
    bank = bank or SoftTokenBank(model, examples, collator)
    batches = sorted_batches([len(example.prompt_ids) for example in examples], batch_size)
    for number, indices in enumerate(_left(batches, examples, journal, label)):
        chosen = [examples[index] for index in indices]
        batch = collator.prompts(chosen).to(model.device)
        # a first batch may take a minute, and until it ends nothing tells the time left
        counted = f"{label}, first batch: tokens" if number == 0 else None
        texts = greedy(model, batch, stops, max_new_tokens, bank.soft(chosen), counted)
        if journal is not None:
            journal.add({example.example_id: ids for example, ids in zip(chosen, texts, strict=True)})
        for index, ids in zip(indices, texts, strict=True):
            rows[index] = ids
    model.train(training)
    if journal is not None:
        journal.finish()
        rows = [journal.rows[example.example_id] for example in examples]
    ended = [bool(ids) and ids[-1] in stops for ids in rows]
    kept = [ids[:-1] if end else ids for ids, end in zip(rows, ended, strict=True)]
    names = [example.example_id for example in examples]
    return Generation(names, [tokenizer.decode(ids) for ids in kept], kept, [not end for end in ended])


def _left(
    batches: Sequence[list[int]], examples: Sequence[TokenisedExample], journal: Journal | None, label: str
) -> Iterator[list[int]]:
    """Batches that the journal does not hold, under a progress bar that counts these alone."""
    if journal is not None:
        names = {example.example_id for example in examples}
        assert len(names) == len(examples), "a journal tells examples apart by their ids"
        own = [batch for number, batch in enumerate(batches) if journal.mine(number)]
        # a batch runs whole or not at all: what runs beside a text changes its last bits
        left = [batch for batch in own if not all(examples[index].example_id in journal for index in batch)]
        if len(left) < len(own):
            log.info("%s: %d of %d batches are there already", label, len(own) - len(left), len(own))
        batches = left
    yield from track(batches, len(batches), label)


def stop_ids(model: ItemLanguageModel, eos_id: int) -> set[int]:
    """Return the ids that end a text: the tokenizer's end token and those of the model's generation settings."""
    settings = getattr(causal_lm(model.lm), "generation_config", None)
    ids = getattr(settings, "eos_token_id", None)
    more = [] if ids is None else ids if isinstance(ids, list) else [ids]
    return {eos_id, *more}


@torch.inference_mode()
def greedy(
    model: ItemLanguageModel,
    batch: PromptBatch,
    stops: set[int],
    max_new_tokens: int,
    soft: Tensor | None = None,
    label: str | None = None,
) -> list[list[int]]:
    """Continue the prompts of one batch with the likeliest token each time.

    Rows that have ended leave the batch, so that the longest text does not hold up the others.

    Args:
        model: the model, in evaluation mode.
        batch: prompts padded on the left.
        stops: ids that end a text.
        max_new_tokens: the most tokens a text may have.
        soft: soft tokens of the batch's distinct slots ``[u, q, d]``; computed if None.
        label: what a progress bar over the tokens says; none without it.

    Returns:
        The new ids of each prompt, the end token included.
    """
    texts: list[list[int]] = [[] for _ in range(len(batch))]
    alive = list(range(len(batch)))
    embedding = causal_lm(model.lm).get_input_embeddings()
    with model.lm_precision():
        start = begin(model, batch, soft, roomy_cache)
        embeddings, mask, positions, cache = start.embeddings, start.mask, start.positions, start.cache
        places = range(max_new_tokens)
        for _ in places if label is None else track(places, max_new_tokens, label):
            hidden = model.run_lm(embeddings, mask, positions, cache).last_hidden_state[:, -1]
            chosen = model.logits(hidden).argmax(-1)
            for row, token in zip(alive, chosen.tolist(), strict=True):
                texts[row].append(token)
            keep = [place for place, row in enumerate(alive) if texts[row][-1] not in stops]
            if not keep:
                break
            positions = positions[:, -1:] + 1
            if len(keep) < len(alive):
                index = torch.tensor(keep, device=mask.device)
                cache.batch_select_indices(index)
                chosen, mask, positions = chosen[index], mask[index], positions[index]
                alive = [alive[place] for place in keep]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            embeddings = embedding(chosen)[:, None]
    return texts


@torch.inference_mode()
def target_losses(
    model: ItemLanguageModel,
    examples: Sequence[TokenisedExample],
    collator: Collator,
    batch_size: int = 32,
    label: str = "scoring",
    journal: Journal | None = None,
    bank: SoftTokenBank | None = None,
) -> TargetLosses:
    """Compute the loss of every target token of every example.

    Args:
        model: the model; its mode is restored afterwards.
        examples: examples with targets.
        collator: holds the item vectors.
        batch_size: examples that run together.
        label: what the progress bar says.
        journal: keeps each finished batch; examples that it holds are not scored again.
        bank: soft tokens of the examples, where they were computed before.

    Returns:
        The losses in the order of ``examples``.
    """
    rows: list[NDArray[np.float32]] = [np.empty(0, np.float32) for _ in examples]
    training = model.training
    model.eval()
    bank = bank or SoftTokenBank(model, examples, collator)
    batches = sorted_batches([len(example) for example in examples], batch_size)
    for indices in _left(batches, examples, journal, label):
        chosen = [examples[index] for index in indices]
        output = model(collator(chosen).to(model.device), bank.soft(chosen))
        sizes = torch.bincount(output.target_rows, minlength=len(indices)).tolist()
        found = [losses.numpy() for losses in output.token_losses.float().cpu().split(sizes)]
        if journal is not None:
            # a float32 survives its way through decimal digits unchanged
            journal.add({example.example_id: losses.tolist() for example, losses in zip(chosen, found, strict=True)})
        for index, losses in zip(indices, found, strict=True):
            rows[index] = losses
    model.train(training)
    if journal is not None:
        journal.finish()
        rows = [np.array(journal.rows[example.example_id], np.float32) for example in examples]
    return TargetLosses([example.example_id for example in examples], rows)
