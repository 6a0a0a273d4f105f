"""Runs the configuration that lies in a run folder: ``python -m ilm_lightning.engine.job outputs/NAME``, for sweeps."""

import logging
import os
import sys
from collections.abc import Sequence

from ilm_lightning.engine.command import USER_ERRORS, check_data, load_run_config, setup_logging
from ilm_lightning.engine.interruptions import leave, stop_signals
from ilm_lightning.engine.launcher.processes import end_with_starter
from ilm_lightning.engine.validate import validate

log = logging.getLogger("ilm_lightning")


def main(arguments: Sequence[str]) -> int:
    """Entry point; returns the exit status: 0, 1 after an error that was printed, or that of a signal."""
    end_with_starter()
    setup_logging()
    (folder,) = arguments
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
