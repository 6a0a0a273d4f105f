"""Context distillation: the same language model, reading an item's text, teaches it to read the item's soft tokens."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ilm_lightning.lm.backbone import Tuning, causal_lm
from ilm_lightning.lm.batch import IGNORE_INDEX, ContextBatch, PromptBatch
from ilm_lightning.lm.collate import Collator, empty_batch
from ilm_lightning.lm.model import ItemLanguageModel, LMOutput, weighted_mean
from ilm_lightning.lm.prompts import TokenisedExample, split_slots
from ilm_lightning.lm.seq2seq import is_encoder_decoder, target_states
from ilm_lightning.lm.vocabulary import head_divergences


def context_prompt(prompt: str, slots: Sequence[Sequence[int]], texts: Mapping[int, str | None]) -> str | None:
    """Put items' texts where their soft tokens would stand.

    Args:
        prompt: with one ``{item}`` or ``{user}`` per slot.
        slots: rows of each slot; of two rows, the vector between two items, both texts are given.
        texts: text by row; users have none.

    Returns:
        The prompt, or None where a slot has no text.

    Example:
        >>> context_prompt("Compare {item} with {item}.", [[0], [1, 2]], {0: "A.", 1: "B.", 2: "C."})
        'Compare [A.] with [B. | C.].'
    """
    pieces = split_slots(prompt)
    parts = [pieces[0]]
    for slot, piece in zip(slots, pieces[1:], strict=True):
        described = [text for row in slot if (text := texts.get(row))]
        if len(described) < len(slot):
            return None
        parts += ["[", " | ".join(described), "]", piece]
    return "".join(parts)


class ContextCollator:
    """Batches with the teacher's prompts beside.

    Args:
        collator: makes the batch itself.
        prompts: token ids of the prompt with texts, by example id; examples that are not there have no teacher.
    """

    def __init__(self, collator: Collator, prompts: Mapping[str, NDArray[np.int32]]) -> None:
        self.collator, self.prompts = collator, prompts

    def __call__(self, examples: Sequence[TokenisedExample]) -> PromptBatch:
        """Collate; ``context`` is None where no example has a teacher."""
        batch = self.collator(examples)
        rows = [row for row, example in enumerate(examples) if example.example_id in self.prompts]
        if not rows:
            return batch
        given = [(self.prompts[examples[row].example_id], examples[row].target_ids) for row in rows]
        ids, mask, labels = empty_batch(len(rows), max(len(prompt) + len(target) for prompt, target in given))
        for place, (prompt, target) in enumerate(given):
            start, end = len(prompt), len(prompt) + len(target)
            ids[place, :start] = torch.from_numpy(prompt)
            ids[place, start:end] = labels[place, start:end] = torch.from_numpy(target).long()
            mask[place, :end] = 1
        return replace(batch, context=ContextBatch(torch.tensor(rows), ids, mask, labels))


@dataclass(frozen=True)
class Taught:
    """What the teacher says of a batch.

    Attributes:
        hidden: ``[n, d]``; its hidden states at the target tokens of the examples that it can read.
        head: its vocabulary head.
    """

    hidden: Tensor
    head: nn.Module


def _states(lm: nn.Module, context: ContextBatch) -> Tensor:
    """The teacher's hidden states ``[n, d]`` at the target tokens."""
    words = causal_lm(lm).get_input_embeddings()(context.input_ids)
    if is_encoder_decoder(lm):
        return target_states(lm, words, context)
    decoder = causal_lm(lm).get_decoder()
    hidden: Tensor = decoder(
        inputs_embeds=words, attention_mask=context.attention_mask, use_cache=False
    ).last_hidden_state
    return hidden[:, :-1][context.labels[:, 1:] != IGNORE_INDEX]


class ContextTeacher:
    """The language model as it was before phase 2.

    Args:
        weight: of the divergence beside the cross-entropy.
        lm: an untrained copy; needed where all weights are trained, otherwise the student's own serves, its LoRA
            updates switched off.

    Raises:
        ValueError: if the weight is not above 0.
    """

    def __init__(self, weight: float, lm: nn.Module | None = None) -> None:
        if weight <= 0:
            raise ValueError(f"the weight of context distillation is {weight}; it must be above 0")
        self.weight, self.lm = weight, lm

    @torch.no_grad()
    def read(self, model: ItemLanguageModel, batch: PromptBatch) -> Taught | None:
        """Run the teacher; call it before the student's forward pass.

        Args:
            model: the student.
            batch: with ``context``.

        Returns:
            Its hidden states, or None where the batch has no context.

        Raises:
            ValueError: if all weights are trained and no untrained copy was given.
        """
        context = batch.context
        if context is None:
            return None
        with self._untrained(model) as lm, model.lm_precision():
            hidden = _states(lm, context)
            head = causal_lm(lm).get_output_embeddings()
        return Taught(hidden, head.get_base_layer() if hasattr(head, "get_base_layer") else head)

    def loss(self, model: ItemLanguageModel, batch: PromptBatch, output: LMOutput, taught: Taught) -> Tensor:
        """Mean divergence of the student from the teacher over the target tokens that both predict.

        Args:
            model: the student.
            batch: as given to ``read``.
            output: the student's output on it.
            taught: what ``read`` returned.

        Returns:
            Scalar in nats, not yet times ``weight``; token weights apply as they do to the cross-entropy.
        """
        assert batch.context is not None
        chosen = torch.isin(output.target_rows, batch.context.rows)
        lm = causal_lm(model.lm)
        with model.lm_precision():
            divergences = head_divergences(
                lm.get_output_embeddings(), output.hidden[chosen], taught.head, taught.hidden, lm.config
            )
        return weighted_mean(divergences, None if output.weights is None else output.weights[chosen])

    @contextmanager
    def _untrained(self, model: ItemLanguageModel) -> Iterator[nn.Module]:
        if self.lm is not None:
            yield self.lm.to(model.device)
        elif model.tuning is Tuning.FULL:
            raise ValueError("with all weights trained, context distillation needs an untrained copy as its teacher")
        elif model.tuning is Tuning.LORA:
            # peft marks its updates as trained when it switches them on again, whatever they were before
            trained = [(parameter, parameter.requires_grad) for parameter in model.lm.parameters()]
            with model.lm.disable_adapter():  # type: ignore[operator]
                yield model.lm
            for parameter, flag in trained:
                parameter.requires_grad_(flag)
        else:
            yield model.lm
