"""Raw files to tables, and what is counted in them: ``python -m ilm_lightning.prepare data=openp5_beauty``."""

import sys
from typing import Any

from ilm_lightning.engine.command import hydra_command
from ilm_lightning.engine.config import Config

LABELS = {
    "item_item_pairs": "phase 1: item-item pairs (before the 90/10 draw)",
    "user_item_pairs": "phase 1: user-item pairs (before the 90/10 draw)",
    "texts": "phase 1: item-text pairs",
    "phase2_train": "phase 2: training examples",
    "phase2_test": "phase 2: test examples of each prompt set",
    "users_tied_at_end": "users whose last two items have the same time",
    "reconstructed": "ties in time broken differently from OpenP5",
}


def run(config: Config) -> float:
    """Prepare the data and show its statistics.

    Args:
        config: the composed configuration.

    Returns:
        Number of items.
    """
    from ilm_lightning.engine.artifacts import Store
    from ilm_lightning.engine.runs import run_folder
    from ilm_lightning.engine.screen import show_pairs
    from ilm_lightning.engine.stages.context import Context
    from ilm_lightning.engine.stages.data import prepare

    # no run begins here, so no run folder is made
    made = prepare(Context(config, Store(config.artifacts), run_folder(config)))
    show_pairs(f"{config.data.name} ({made.path})", [(LABELS.get(k, k), text_of(v)) for k, v in made.report.items()])
    return float(made.report["items"])


def text_of(value: Any) -> str:
    """Write a count with separators.

    >>> text_of(19629820), text_of({"train": 3}), text_of(True)
    ('19,629,820', 'train 3', 'yes')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {text_of(one)}" for name, one in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)


def main() -> None:
    """Entry point."""
    sys.exit(hydra_command("train", run, in_turn=True))


if __name__ == "__main__":
    main()
