"""What every stage needs: configuration, artefact store, and assets by name."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ilm_lightning.engine.artifacts import Store
from ilm_lightning.engine.config import Config

if TYPE_CHECKING:
    from ilm_lightning.assets import ResolvedAsset
    from ilm_lightning.engine.tracking import Tracker


def lm_dtype(config: Config) -> str:
    """What the LLM of a run computes in, ``bfloat16`` or ``float32``; weights that are trained stay in float32."""
    from ilm_lightning.engine.training import precision_of

    if config.lm.dtype != "auto":
        return config.lm.dtype
    return "bfloat16" if precision_of(config.trainer) == "bf16-mixed" else "float32"


@dataclass
class Context:
    """One run.

    Attributes:
        config: the validated configuration.
        store: where artefacts are.
        run_folder: where this run leaves its results.
        assets: those resolved so far.
    """

    config: Config
    store: Store
    run_folder: Path
    assets: "dict[str, ResolvedAsset]" = field(default_factory=dict)

    def asset(self, name: str) -> "ResolvedAsset":
        """Resolve an asset once a run.

        Args:
            name: name in the registry, or a path.

        Returns:
            Path, source, hash and licence.
        """
        from ilm_lightning.assets import resolve

        if name not in self.assets:
            self.assets[name] = resolve(name, overrides=self.config.assets)
        return self.assets[name]

    @property
    def lm_dtype(self) -> str:
        """What the LLM computes in; see `lm_dtype`."""
        return lm_dtype(self.config)

    @property
    def arithmetic(self) -> dict[str, str]:
        """What phase 2 trains in, for keys of artefacts: the LLM's arithmetic, and the precision they do not imply."""
        from ilm_lightning.engine.training import precision_of

        dtype, precision = self.lm_dtype, precision_of(self.config.trainer)
        implied = precision == ("bf16-mixed" if dtype == "bfloat16" else "32-true")
        return {"dtype": dtype} if implied else {"dtype": dtype, "precision": precision}

    def tracker(self, phase: str) -> "Tracker":
        """The loggers of a training phase; CSV files are always written."""
        from ilm_lightning.engine.tracking import Tracker

        return Tracker(self.config, self.run_folder, self.store.root, phase)
