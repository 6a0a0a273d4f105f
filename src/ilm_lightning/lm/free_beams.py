"""Beams of any text: how the paper decodes recommendations."""

from collections.abc import Sequence

import torch

from ilm_lightning.lm.backbone import causal_lm
from ilm_lightning.lm.collate import Collator, sorted_batches
from ilm_lightning.lm.generate import stop_ids
from ilm_lightning.lm.model import ItemLanguageModel
from ilm_lightning.lm.prompts import PromptTokenizer, TokenisedExample
from ilm_lightning.progress import track


@torch.inference_mode()
def free_beams(
    model: ItemLanguageModel,
    examples: Sequence[TokenisedExample],
    collator: Collator,
    tokenizer: PromptTokenizer,
    beams: int = 10,
    batch_size: int = 8,
    max_new_tokens: int = 30,
    label: str = "recommending",
) -> list[list[str]]:
    """Beams of any text (the paper's protocol), by transformers' beam search.

    Args:
        model: the model; its mode is restored afterwards.
        examples: prompts; their targets are not read.
        collator: holds the item vectors.
        tokenizer: turns ids into text.
        beams: beams of each prompt, all of which are returned.
        batch_size: prompts that run together.
        max_new_tokens: the most tokens of a text.
        label: what the progress bar says.

    Returns:
        Per example its texts, best first, in the order of ``examples``.
    """
    texts: list[list[str]] = [[] for _ in examples]
    training = model.training
    model.eval()
    lm, ends = causal_lm(model.lm), sorted(stop_ids(model, tokenizer.eos_id))
    batches = sorted_batches([len(example.prompt_ids) for example in examples], batch_size)
    for places in track(batches, len(batches), label):
        batch = collator.prompts([examples[place] for place in places]).to(model.device)
        with model.lm_precision():
            rows = lm.generate(
                inputs_embeds=model.embed(batch),
                attention_mask=batch.attention_mask,
                num_beams=beams,
                num_return_sequences=beams,
                do_sample=False,
                max_new_tokens=max_new_tokens,
                length_penalty=0.0,
                eos_token_id=ends,
                pad_token_id=tokenizer.eos_id,
            )
        decoded = [tokenizer.decode(ids) for ids in rows.tolist()]
        for row, place in enumerate(places):
            texts[place] = decoded[row * beams : (row + 1) * beams]
    model.train(training)
    return texts
