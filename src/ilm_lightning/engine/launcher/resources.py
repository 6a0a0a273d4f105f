"""Cores and GPUs shared out between jobs that run at once."""

import os
from collections.abc import Mapping

from ilm_lightning.engine.config_trainer import TrainerConfig
from ilm_lightning.hardware import usable_cores, visible_gpus

THREADS = "ILM_THREADS"
"""Cores that a job may use where its configuration does not say."""


class Resources:
    """What there is and who has it.

    Args:
        at_once: jobs that may run together.
        gpus: names of the GPUs as CUDA_VISIBLE_DEVICES has them; None where they cannot be told without CUDA, or empty:
            then jobs are not kept apart.
        cores: CPU cores.
    """

    def __init__(self, at_once: int, gpus: tuple[str, ...] | None, cores: int) -> None:
        self.at_once = at_once
        self._gpus = list(gpus or ())
        self._has_gpus = bool(gpus)
        self._cores = cores
        self._held: dict[int, list[str]] = {}

    @classmethod
    def of_this_machine(cls, at_once: int) -> "Resources":
        """What this process sees."""
        return cls(at_once, visible_gpus(), usable_cores())

    def take(self, job: int, trainer: TrainerConfig) -> dict[str, str] | None:
        """Take what a job needs.

        Args:
            job: its number.
            trainer: how many devices, of which sort.

        Returns:
            Environment variables for the job, or None where it has to wait for others to end.
        """
        if len(self._held) >= self.at_once:
            return None
        environment = {THREADS: str(max(1, self._cores // self.at_once))} if self.at_once > 1 else {}
        wanted = trainer.devices if self._has_gpus and trainer.accelerator != "cpu" else 0
        if wanted > len(self._gpus):
            return None
        self._held[job], self._gpus = self._gpus[:wanted], self._gpus[wanted:]
        if wanted:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self._held[job])
        return environment

    def give_back(self, job: int) -> None:
        """Free what a job had."""
        self._gpus += self._held.pop(job)


def job_environment(extra: Mapping[str, str], command: str) -> dict[str, str]:
    """Environment of a job: this process's, its share, and the command that its results name."""
    # a rank's place in a group of processes is not the job's
    inherited = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK")}
    return {**inherited, "PYTHONUNBUFFERED": "1", "ILM_COMMAND": command, **extra}
