"""Sizes of adapters, side by side."""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.pretrain import adapter_settings

if TYPE_CHECKING:
    from ilm_lightning.lm import ItemLanguageModel

log = logging.getLogger("ilm_lightning")


def compared_sizes(context: Context, model: "ItemLanguageModel") -> dict[str, int]:
    """Parameters of the adapter beside those that a Q-Former of the same settings runs in phase 2; said on screen."""
    from ilm_lightning.adapters import count_parameters, qformer_phase2_parameters

    adapter = model.adapter
    twin = adapter_settings(replace(context.config.adapter, kind="qformer"), adapter.source_dims, adapter.output_dim)
    sizes = {"adapter": count_parameters(adapter), "qformer_phase2": qformer_phase2_parameters(twin)}
    if adapter.kind == "mlp":
        log.info(
            "%-9s MLP of %s parameters beside %s of a Q-Former in phase 2 (%+.2f %%), %d soft tokens each",
            "tune",
            f"{sizes['adapter']:,}",
            f"{sizes['qformer_phase2']:,}",
            100 * (sizes["adapter"] / sizes["qformer_phase2"] - 1),
            adapter.num_queries,
        )
    return sizes
