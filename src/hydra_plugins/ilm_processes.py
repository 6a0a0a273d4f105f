"""Hydra plugin: sweeps whose every job is a process tree of its own. Scanned by Hydra at each start, so kept light."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class ProcessLauncher(Launcher):
    """Runs the jobs of a sweep as separate processes, some at a time, and skips those that are finished.

    Args:
        jobs: how many run at once.
        rerun: start finished jobs as well; what is there already is found by them.
        grace_s: seconds between Ctrl-C and the end by force.
        report_s: seconds between two lines about the sweep where the screen is not a terminal.
    """

    def __init__(self, jobs: int = 1, rerun: bool = False, grace_s: float = 30.0, report_s: float = 15.0) -> None:
        self.settings = {"at_once": jobs, "rerun": rerun, "grace_s": grace_s, "report_s": report_s}
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self._copy: Any = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what the jobs are composed from; refuse a folder of results that cannot be written."""
        from ilm_lightning.engine.launcher.sweep import check_sweep, move_hydras_copy

        self.hydra_context, self.config = hydra_context, config
        check_sweep(config, self.settings)
        self._copy = move_hydras_copy(config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; see ``ilm_lightning.engine.launcher.sweep.launch``."""
        from ilm_lightning.engine.launcher.sweep import launch

        if self._copy is not None:
            # written by now; a sweep that is killed shall not leave it either
            self._copy.cleanup()
        assert self.hydra_context is not None
        assert self.config is not None
        settings: dict[str, Any] = self.settings
        return launch(self.hydra_context, self.config, job_overrides, initial_job_idx, settings)
