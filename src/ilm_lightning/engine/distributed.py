"""The processes of one run: started here or found started by srun or torchrun, joined to a group, ended together."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ilm_lightning.engine.config_trainer import TrainerConfig
from ilm_lightning.engine.interruptions import SIGNALS, StoppedError, active_signals, exit_status, leave, state_of
from ilm_lightning.engine.launcher.jobs import last_line
from ilm_lightning.engine.launcher.processes import ProcessTree, stop
from ilm_lightning.engine.runs import read_status, write_status
from ilm_lightning.engine.validate import ConfigError

log = logging.getLogger("ilm_lightning")
STARTED_HERE = "ILM_RANK_OF"
"""Set for processes that a run started itself."""
GRACE_S = 15.0
SIGNALLED_GRACE_S = 2.0
"""Where a signal has ended another process, and this one, which had it too, waits where Python handles none."""
LEFT_BY_SIGNAL = {exit_status(number): number for number in SIGNALS}
"""Exit status of a process that left by itself after a signal -> the signal."""


class RankError(RuntimeError):
    """Another process of the run failed."""


@dataclass(frozen=True)
class Place:
    """This process among those of a run.

    Attributes:
        rank: its number.
        local_rank: its number on this machine.
        world: how many there are.
        address: where rank 0 listens.
        port: the port.
    """

    rank: int
    local_rank: int
    world: int
    address: str
    port: int


def found_place(environment: Mapping[str, str] = os.environ) -> Place | None:
    """This process's place where something else started it: torchrun or srun; None where it runs by itself.

    Args:
        environment: the environment variables.
    """
    if {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= set(environment):
        rank, local_rank, world = (int(environment[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
        return Place(rank, local_rank, world, environment["MASTER_ADDR"], int(environment["MASTER_PORT"]))
    if int(environment.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in environment:
        from lightning.fabric.plugins.environments import SLURMEnvironment

        nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_NODELIST", "127.0.0.1")
        return Place(
            int(environment["SLURM_PROCID"]),
            int(environment["SLURM_LOCALID"]),
            int(environment["SLURM_NTASKS"]),
            environment.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(nodes),
            # every process must find the same one, two jobs of a user not
            int(environment.get("MASTER_PORT") or 15000 + int(environment["SLURM_JOB_ID"]) % 10000),
        )
    return None


def is_first() -> bool:
    """Whether this process writes the run's files; known before the processes are joined."""
    place = found_place()
    return place is None or place.rank == 0


def starter_gone(folder: Path, world: str) -> None:
    """Say that rank 0, which started this process, is gone without a word.

    Args:
        folder: the run folder.
        world: how many processes there were.
    """
    story = f"rank 0 of {world} is gone without a word: killed, or out of memory"
    log.error("error: %s", story)
    if read_status(folder).get("state") == "running":
        write_status(folder, "failed", error=story)


def check_place(trainer: TrainerConfig, place: Place | None) -> None:
    """Compare the processes there are with those the configuration asks for.

    Raises:
        ConfigError: they differ; it says how to start them.
    """
    wanted = trainer.devices * trainer.nodes
    if place is not None and place.world != wanted:
        raise ConfigError(
            f"{place.world} processes were started, but trainer.devices={trainer.devices} on trainer.nodes="
            f"{trainer.nodes} are {wanted}: start as many, or set both keys"
        )
    if place is None and trainer.nodes > 1:
        raise ConfigError(
            f"trainer.nodes={trainer.nodes}: start the processes with srun, with hydra/launcher=slurm, or with\n"
            f"  torchrun --nnodes={trainer.nodes} --nproc-per-node={trainer.devices} --rdzv-backend=c10d "
            "--rdzv-endpoint=HOST:PORT -m ilm_lightning.train …\non each machine"
        )


@contextmanager
def processes(trainer: TrainerConfig, folder: Path) -> Iterator[Any]:
    """Join the processes of a run for the duration of a ``with`` block; with one process nothing happens.

    Args:
        trainer: how many.
        folder: the run folder, whose configuration the processes that are started here read.

    Yields:
        What an artefact store needs to know of them, or None with one process.

    Raises:
        ConfigError: the processes there are do not fit the configuration.
        RankError: another process failed.
    """
    place = found_place()
    check_place(trainer, place)
    if trainer.devices * trainer.nodes == 1:
        yield None
        return
    from ilm_lightning import ranks

    if place is not None:
        try:
            with _group(trainer, place, None):
                yield ranks
        except (RuntimeError, OSError) as error:
            if not broken_connection(error) or STARTED_HERE in os.environ:
                raise
            story = f"another of the {place.world} processes is gone; what started them (torchrun, srun) says which"
            raise RankError(story) from error
    else:
        with _Others(trainer, folder) as others, _group(trainer, others.place, others.store):
            yield ranks


@contextmanager
def _group(trainer: TrainerConfig, place: Place, store: Any) -> Iterator[None]:
    """Set the group up, and what Lightning reads from the environment to find it."""
    import torch
    import torch.distributed as dist

    from ilm_lightning import ranks

    values = {
        "RANK": place.rank,
        # Lightning starts no processes where this is set
        "LOCAL_RANK": place.local_rank,
        "NODE_RANK": place.rank // trainer.devices,
        "WORLD_SIZE": place.world,
        "MASTER_ADDR": place.address,
        "MASTER_PORT": place.port,
    }
    before = {name: os.environ.get(name) for name in values}
    os.environ.update({name: str(value) for name, value in values.items()})
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and trainer.accelerator != "cpu" else "gloo"
    if "nccl" in backend:
        torch.cuda.set_device(place.local_rank)
    if place.rank > 0:
        log.setLevel(logging.ERROR)
    if store is None and STARTED_HERE in os.environ:
        store = dist.TCPStore(  # type: ignore[attr-defined]
            place.address, place.port, place.world, is_master=False
        )
    joined: dict[str, Any] = (
        {"store": store, "rank": place.rank, "world_size": place.world} if store is not None else {}
    )
    try:
        dist.init_process_group(backend, **joined)
        ranks.open_talk()
        yield
        # nobody leaves before all are through: rank 0 holds the store
        ranks.from_main(None)
    finally:
        ranks.close_talk()
        if dist.is_initialized():
            dist.destroy_process_group()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def broken_connection(error: BaseException) -> bool:
    """Whether an error only says that another process is gone."""
    words = ("gloo", "nccl", "tcpstore", "connection reset", "connection closed", "broken pipe")
    return isinstance(error, RuntimeError | OSError) and any(word in str(error).lower() for word in words)


class _Others:
    """The other processes of a run on one machine; they end with this one, and this one with them.

    Attributes:
        place: this process's place.
        store: where all meet.
    """

    def __init__(self, trainer: TrainerConfig, folder: Path) -> None:
        import torch.distributed as dist

        world = trainer.devices
        # the port is chosen by listening on it, so no other process can take it in between
        self.store = dist.TCPStore(  # type: ignore[attr-defined]
            "127.0.0.1", 0, world, is_master=True, wait_for_workers=False
        )
        self.place = Place(0, 0, world, "127.0.0.1", self.store.port)
        self._folder = folder
        self._trees: dict[int, ProcessTree] = {}
        self._failed: tuple[int, int] | None = None
        self._done = threading.Event()

    def __enter__(self) -> "_Others":
        """Start them."""
        command = [sys.executable, "-m", "ilm_lightning.engine.job", str(self._folder)]
        for rank in range(1, self.place.world):
            place = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(self.place.world),
                "MASTER_ADDR": self.place.address,
                "MASTER_PORT": str(self.place.port),
                STARTED_HERE: str(os.getpid()),
            }
            log_file = self._log(rank)
            log_file.unlink(missing_ok=True)
            self._trees[rank] = ProcessTree(command, log_file, {**os.environ, **place}, own_session=False)
        threading.Thread(target=self._watch, name="ranks", daemon=True).start()
        return self

    def _log(self, rank: int) -> Path:
        return self._folder / f"rank{rank}.log"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> None:
        """End them; where one failed first, this process's own error only says that it is gone."""
        self._done.set()
        if error is None:
            end = time.monotonic() + GRACE_S
            while any(tree.poll() is None for tree in self._trees.values()) and time.monotonic() < end:
                time.sleep(0.05)
        elif isinstance(error, KeyboardInterrupt):
            stop(self._trees.values(), GRACE_S)
        elif broken_connection(error):
            # somebody else is the cause, and may take a while to go
            end = time.monotonic() + GRACE_S
            while self._failed is None and time.monotonic() < end:
                time.sleep(0.05)
                self._look()
        for tree in self._trees.values():
            tree.kill()
        if self._failed is not None and error is not None and broken_connection(error):
            number = LEFT_BY_SIGNAL.get(self._failed[1])
            raise (RankError(self._story()) if number is None else StoppedError(number)) from error

    def _look(self) -> None:
        for rank, tree in self._trees.items():
            if self._failed is None and (status := tree.poll()):
                self._failed = (rank, status)

    def _story(self) -> str:
        assert self._failed is not None
        rank, status = self._failed
        if status < 0:
            how = f"ended by {signal.Signals(-status).name}"
        else:
            how = last_line(self._log(rank)).removeprefix("error: ") or f"ended with status {status}"
        return f"rank {rank} of {self.place.world}: {how} (see {self._log(rank)})"

    def _watch(self) -> None:
        """End this process when another has failed and this one waits for it in vain."""
        while not self._done.wait(0.2):
            self._look()
            if self._failed is None:
                continue
            number = LEFT_BY_SIGNAL.get(self._failed[1])
            stuck = number is not None and active_signals().idle
            # most often the broken connection raises here by itself
            if not self._done.wait(SIGNALLED_GRACE_S if stuck else GRACE_S):
                # the main thread waits where no exception reaches it
                os._exit(self._leave(number))
            return

    def _leave(self, number: int | None) -> int:
        """Say how the run ends without this process's main thread; gives the exit status."""
        error = RankError(self._story()) if number is None else StoppedError(number)
        write_status(self._folder, state_of(error), error=self._story())
        for tree in self._trees.values():
            tree.kill()
        if isinstance(error, StoppedError):
            return leave(error)
        log.error("error: %s", error)
        return 1
