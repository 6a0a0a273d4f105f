"""Commands in processes of their own that begin with Hydra imported: without the second that this takes each."""

import multiprocessing
import os
import runpy
import sys
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from tempfile import TemporaryDirectory

IMPORTED = ("ilm_lightning.engine.command", "hydra._internal.utils", "hydra._internal.hydra")
"""What every command imports before it reads its settings: nothing heavy, and no threads, so that it can be forked."""

HEAVY = ("torch", "lightning", "transformers", "polars", "pandas")
"""A refusal comes at once, on any machine and beside any other work, where none of these is loaded."""


@dataclass(frozen=True)
class Done:
    """What a command left: exit status, what it wrote, and which of ``HEAVY`` it loaded."""

    returncode: int
    stdout: str
    stderr: str
    heavy: frozenset[str]


def run_command(module: str, *arguments: str, cwd: Path, **environment: str) -> Done:
    """``python -m module arguments``, in a process forked from one that has imported Hydra.

    Args:
        module: dotted name.
        arguments: of the command.
        cwd: the folder it runs in.
        environment: variables laid over this process's; the interpreter's own (``PYTHON…``) have no effect.
    """
    with TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("out", "err", "heavy")]
        environment = {**os.environ, **environment}
        process = _context().Process(target=_run, args=(module, arguments, cwd, environment, *files))
        process.start()
        process.join()
        assert process.exitcode is not None
        out, err, heavy = (path.read_text(encoding="utf-8") for path in files)
        return Done(process.exitcode, out, err, frozenset(heavy.split()))


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    return context


def _run(
    module: str, arguments: tuple[str, ...], cwd: Path, environment: dict[str, str], out: Path, err: Path, heavy: Path
) -> None:
    assert not set(HEAVY) & set(sys.modules), "the process that this one was forked from has loaded too much"
    for path, number in ((out, 1), (err, 2)):
        # the streams of those that it starts, too
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path.insert(0, str(cwd))
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        heavy.write_text(" ".join(set(HEAVY) & set(sys.modules)), encoding="utf-8")
