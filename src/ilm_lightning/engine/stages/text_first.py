"""The language model learns a recommendation task from text ids alone before any soft token is trained (CoLLM)."""

from dataclasses import replace

from ilm_lightning.engine.artifacts import Artifact
from ilm_lightning.engine.config import AdapterConfig
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.tune import Inputs


def with_text_first(context: Context, inputs: Inputs) -> Inputs:
    """Train LoRA on prompts without soft tokens, where ``tuning.text_first_steps`` asks for it.

    Args:
        context: the run.
        inputs: artefacts before phase 2.

    Returns:
        The inputs; their ``first`` is the trained model, whose updates phase 2 takes as part of the language model. One
        training serves every adapter.
    """
    from ilm_lightning.engine.stages.recommend import tune

    tuning = context.config.tuning
    if not tuning.text_first_steps:
        return inputs
    text_only = replace(
        context.config,
        name="text_first",
        adapter=AdapterConfig(kind="constant", num_queries=1),
        tasks=replace(context.config.tasks, soft_tokens=False, user_vector="none", head="text", head_sample=0),
        tuning=replace(
            tuning,
            mode="lora",
            steps=tuning.text_first_steps,
            adapter_lr=tuning.text_first_lr,
            lm_lr=tuning.text_first_lr,
            text_first_steps=0,
        ),
    )
    other = Context(text_only, context.store, context.run_folder, context.assets)
    first: Artifact = tune(other, replace(inputs, pretrained=None))
    return replace(inputs, first=first)
