"""Runs the configuration that lies in a run folder: ``python -m ilm_lightning.engine.job outputs/NAME``, for sweeps."""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ilm_lightning.engine.command import USER_ERRORS, check_data, load_run_config, setup_logging
from ilm_lightning.engine.distributed import STARTED_HERE, starter_gone
from ilm_lightning.engine.interruptions import leave, stop_signals
from ilm_lightning.engine.launcher.processes import end_with_starter
from ilm_lightning.engine.validate import validate

log = logging.getLogger("ilm_lightning")


def main(arguments: Sequence[str]) -> int:
    """Entry point; returns the exit status: 0, 1 after an error that was printed, or that of a signal."""
    (folder,) = arguments
    setup_logging()
    # read now: Lightning takes the variable away when a fit ends
    world = os.environ.get("WORLD_SIZE", "")
    end_with_starter((lambda: starter_gone(Path(folder), world)) if STARTED_HERE in os.environ else lambda: None)
    try:
        with stop_signals():
            config = load_run_config(folder, "")
            validate(config)
            check_data(config)
            from ilm_lightning.engine.pipeline import run_pipeline

            run_pipeline(config)
    except USER_ERRORS as error:
        if os.environ.get("ILM_TRACEBACK"):
            raise
        log.error("error: %s", error)
        return 1
    except KeyboardInterrupt as error:
        return leave(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
