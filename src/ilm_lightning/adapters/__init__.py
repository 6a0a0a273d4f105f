"""Adapters: from an item's vectors to soft tokens of a language model, behind one contract. Needs torch only."""

from ilm_lightning.adapters.base import Adapter, adapter_class, build_adapter, check_sources, count_parameters
from ilm_lightning.adapters.constant import ConstantAdapter
from ilm_lightning.adapters.mlp import CoLLMAdapter, MLPAdapter, match_hidden_width
from ilm_lightning.adapters.perceiver import PerceiverAdapter
from ilm_lightning.adapters.qformer import QFormer, QFormerAdapter, QueryOutput, qformer_phase2_parameters
from ilm_lightning.adapters.qformer_init import init_from_bert
from ilm_lightning.adapters.qformer_text import TextBranch

__all__ = [
    "Adapter",
    "CoLLMAdapter",
    "ConstantAdapter",
    "MLPAdapter",
    "PerceiverAdapter",
    "QFormer",
    "QFormerAdapter",
    "QueryOutput",
    "TextBranch",
    "adapter_class",
    "build_adapter",
    "check_sources",
    "count_parameters",
    "init_from_bert",
    "match_hidden_width",
    "qformer_phase2_parameters",
]
