"""Phase 2: prompts with item slots, the language model behind them, training and generation."""

from ilm_lightning.lm.backbone import (
    Backbone,
    LMReference,
    LoRASettings,
    Tuning,
    apply_tuning,
    load_backbone,
    resolve_dtype,
)
from ilm_lightning.lm.batch import IGNORE_INDEX, PLACEHOLDER_ID, PromptBatch
from ilm_lightning.lm.collate import Collator, LengthGroupedSampler, interpolate, own_share, sorted_batches
from ilm_lightning.lm.distillation import ContextCollator, ContextTeacher, context_prompt
from ilm_lightning.lm.generate import Generation, SoftTokenBank, TargetLosses, generate, target_losses
from ilm_lightning.lm.journal import Journal, SharedJournal
from ilm_lightning.lm.model import ItemLanguageModel, LMOutput
from ilm_lightning.lm.prompts import PromptTokenizer, TokenisedExample, chat_template
from ilm_lightning.lm.report import ParameterRow, parameter_report
from ilm_lightning.lm.residuals import residual_weights
from ilm_lightning.lm.splice import splice

__all__ = [
    "IGNORE_INDEX",
    "PLACEHOLDER_ID",
    "Backbone",
    "Collator",
    "ContextCollator",
    "ContextTeacher",
    "Generation",
    "ItemLanguageModel",
    "Journal",
    "SharedJournal",
    "LMOutput",
    "LMReference",
    "LengthGroupedSampler",
    "LoRASettings",
    "ParameterRow",
    "PromptBatch",
    "PromptTokenizer",
    "SoftTokenBank",
    "TargetLosses",
    "TokenisedExample",
    "Tuning",
    "apply_tuning",
    "chat_template",
    "context_prompt",
    "generate",
    "interpolate",
    "load_backbone",
    "own_share",
    "parameter_report",
    "residual_weights",
    "resolve_dtype",
    "sorted_batches",
    "splice",
    "target_losses",
]
