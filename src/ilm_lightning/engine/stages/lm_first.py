"""The language model is trained alone before phase 2, on prompts that hold nothing of any item's vector."""

from collections.abc import Callable
from dataclasses import replace

from ilm_lightning.engine.artifacts import Artifact
from ilm_lightning.engine.config import Config
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.tune import Inputs, control

FIRST_QUERIES = 8
"""Language tasks: soft tokens an item that the language model sees meanwhile, whatever the variant's number."""

OWN_ORDER = 1_000_000
"""Added to the seed: with the run's own, phase 2 would begin with the very batches that were read here."""


def with_lm_first(context: Context, inputs: Inputs, phase2: Callable[[Context, Inputs], Artifact]) -> Inputs:
    """Train the language model first, where ``tuning.lm_first_steps`` asks for it.

    Args:
        context: the run.
        inputs: artefacts before phase 2.
        phase2: trains as a configuration says, on the run's kind of tasks.

    Returns:
        The inputs; their ``first`` is the trained model, whose updates phase 2 takes as part of the language model. One
        training serves every variant.
    """
    if not context.config.tuning.lm_first_steps:
        return inputs
    first = phase2(replace(context, config=lm_first_config(context.config)), replace(inputs, pretrained=None))
    return replace(inputs, first=first)


def lm_first_config(config: Config) -> Config:
    """The run that trains the language model alone: the blind control with LoRA.

    On language tasks free soft tokens, shared by all items, stand in the items' places. On recommendation the prompts
    hold text ids alone, as in CoLLM's first step.
    """
    tasks, queries = config.tasks, FIRST_QUERIES
    if tasks.kind == "openp5":
        tasks, queries = replace(tasks, soft_tokens=False, user_vector="none", head="text", head_sample=0), 1
    blind = control(replace(config, adapter=replace(config.adapter, num_queries=queries)), "lm_first")
    tuning = replace(
        blind.tuning,
        mode="lora",
        steps=config.tuning.lm_first_steps,
        adapter_lr=config.tuning.lm_first_lr,
        lm_lr=config.tuning.lm_first_lr,
        adapter_first_share=0.0,
        lr_trials=[],
        lm_first_steps=0,
        lm_first_seed=None,
    )
    seed = config.seed if config.tuning.lm_first_seed is None else config.tuning.lm_first_seed
    return replace(blind, tasks=tasks, tuning=tuning, seed=(seed + OWN_ORDER) % 2**32)
