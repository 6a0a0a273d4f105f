"""How likely each of a few given answers is under a prompt; the prompt is read once for all of them."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ilm_lightning.lm.backbone import causal_lm
from ilm_lightning.lm.batch import PromptBatch
from ilm_lightning.lm.collate import Collator, sorted_batches
from ilm_lightning.lm.generate import SoftTokenBank
from ilm_lightning.lm.model import ItemLanguageModel
from ilm_lightning.lm.prompts import TokenisedExample
from ilm_lightning.lm.reading import begin
from ilm_lightning.lm.vocabulary import head_losses
from ilm_lightning.progress import track

ANSWERS_AT_ONCE = 96
"""Answers that run together; each holds a copy of its prompt's keys and values."""

Ids = NDArray[np.int32]


@torch.inference_mode()
def candidate_bits(
    model: ItemLanguageModel,
    examples: Sequence[TokenisedExample],
    candidates: Sequence[Sequence[Ids]],
    collator: Collator,
    label: str = "choosing",
    bank: SoftTokenBank | None = None,
) -> list[NDArray[np.float64]]:
    """Measure what each candidate answer costs, end token included.

    Args:
        model: the model; its mode is restored afterwards.
        examples: the prompts; their targets are not read.
        candidates: per example the ids of its answers (``PromptTokenizer.target_ids``), at least one, none empty.
        collator: holds the vectors.
        label: what the progress bar says.
        bank: soft tokens of the examples, where they are known.

    Returns:
        Per example ``[k]`` bits: ``-log2`` of the answer's probability. The least is the model's choice.

    Raises:
        ValueError: an example without candidates, or an empty answer.
    """
    if len(candidates) != len(examples) or not all(len(own) and all(map(len, own)) for own in candidates):
        raise ValueError("every example needs at least one candidate answer, and no answer may be empty")
    found: list[NDArray[np.float64]] = [np.empty(0)] * len(examples)
    if not examples:
        return found
    training = model.training
    model.eval()
    bank = SoftTokenBank(model, examples, collator) if bank is None else bank
    size = max(1, ANSWERS_AT_ONCE // max(len(own) for own in candidates))
    batches = sorted_batches([len(example.prompt_ids) for example in examples], size)
    for indices in track(batches, len(batches), label):
        chosen = [examples[index] for index in indices]
        answers = [candidates[index] for index in indices]
        batch = collator.prompts(chosen).to(model.device)
        bits = torch.split(_batch_bits(model, batch, answers, bank.soft(chosen)), [len(own) for own in answers])
        for index, own in zip(indices, bits, strict=True):
            found[index] = own.double().cpu().numpy()
    model.train(training)
    return found


def _batch_bits(
    model: ItemLanguageModel, batch: PromptBatch, answers: Sequence[Sequence[Ids]], soft: Tensor | None
) -> Tensor:
    """Bits of every answer of a batch ``[n]``, example by example."""
    device, lm = batch.input_ids.device, causal_lm(model.lm)
    flat = [ids for own in answers for ids in own]
    owner = torch.tensor([row for row, own in enumerate(answers) for _ in own], device=device)
    width = max(map(len, flat))
    ids, valid = torch.zeros(len(flat), width, dtype=torch.long), torch.zeros(len(flat), width, dtype=torch.bool)
    for row, answer in enumerate(flat):
        ids[row, : len(answer)] = torch.from_numpy(answer).long()
        valid[row, : len(answer)] = True
    ids, valid = ids.to(device), valid.to(device)
    with model.lm_precision():
        start = begin(model, batch, soft)
        mask, positions, cache = start.mask, start.positions, start.cache
        hidden = model.run_lm(start.embeddings, mask, positions, cache).last_hidden_state[:, -1]
        states = hidden[owner][:, None]
        if width > 1:
            cache.batch_select_indices(owner)
            longer = torch.cat([mask[owner], valid[:, :-1].to(mask.dtype)], dim=1)
            places = positions[owner, -1:] + 1 + torch.arange(width - 1, device=device)
            words = lm.get_input_embeddings()(ids[:, :-1])
            more = model.run_lm(words, longer, places, cache).last_hidden_state
            states = torch.cat([states, more], dim=1)
        losses = head_losses(lm.get_output_embeddings(), states[valid], ids[valid], lm.config).float()
    rows = valid.nonzero()[:, 0]
    nats: Tensor = losses.new_zeros(len(flat)).index_add(0, rows, losses)
    return nats / math.log(2)
