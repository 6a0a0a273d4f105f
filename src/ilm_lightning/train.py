"""The main job: ``python -m ilm_lightning.train experiment=ilm_qformer``."""

import logging
import sys

from ilm_lightning.engine.command import hydra_command
from ilm_lightning.engine.config import Config


def run(config: Config) -> float:
    """Run the whole chain and return the objective of sweepers.

    Args:
        config: the composed configuration.

    Returns:
        Semantic consistency over all tasks, own vectors (0-100).
    """
    from ilm_lightning.engine.validate_openp5 import validate_tasks

    # before the heavy imports of the pipeline
    validate_tasks(config)
    logging.getLogger("ilm_lightning").info("loading torch and the models' libraries")
    from ilm_lightning.engine.pipeline import run_pipeline

    return run_pipeline(config)


def main() -> None:
    """Entry point."""
    sys.exit(hydra_command("train", run))


if __name__ == "__main__":
    main()
