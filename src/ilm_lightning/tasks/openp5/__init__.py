"""OpenP5's tasks: sequential and straightforward recommendation as prompts that hold items' ids and soft tokens."""

from ilm_lightning.tasks.openp5.examples import Example, TrainingIndex, held_out_examples
from ilm_lightning.tasks.openp5.prompts import Prompt, PromptSets, read_prompts

__all__ = ["Example", "Prompt", "PromptSets", "TrainingIndex", "held_out_examples", "read_prompts"]
