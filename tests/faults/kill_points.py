"""Where a run can be killed: its stages, the calls they make, the writes among these, and their time."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

KINDS = ("call", "write", "time")
WRITES = frozenset(
    (
        *("open", "write", "writelines", "flush", "close", "fsync", "truncate", "sendfile", "copyfile"),
        *("replace", "rename", "link", "unlink", "remove", "rmdir", "mkdir", "execute", "executemany"),
        *("serialize_file", "save_file", "write_parquet", "sink_parquet", "write_file", "write_record"),
    )
)
"""Names of C functions that change what is on disk, or stand at the edge of such a change."""


@dataclass(frozen=True)
class Plan:
    """Where to kill.

    Attributes:
        stage: which stage.
        kind: ``call`` counts every call of a function, Python's or C's; ``write`` only those of `WRITES`, before and
            after; ``time`` counts microseconds, so that it falls into the middle of native code too.
        at: the count at which it happens, from 1.
    """

    stage: str
    kind: str
    at: int


@dataclass
class Counter:
    """Counts a run's work by stage; with a plan it ends the process, as ``kill -9`` does.

    Attributes:
        counts: per stage and kind.
        order: artefacts in the order in which they were begun, as ``(stage, folder)``.
    """

    plan: Plan | None = None
    say: Callable[[str], None] = lambda line: None
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    order: list[tuple[str, str]] = field(default_factory=list)
    _stage: str = ""
    _begun: float = 0.0

    def begin(self, stage: str, folder: str = "") -> None:
        """Enter a stage."""
        self.order.append((stage, folder))
        self._stage, self._begun = stage, time.monotonic()
        self.counts.setdefault(stage, dict.fromkeys(KINDS, 0))
        self.say(f"begin {stage}")
        if self.plan is None or (self.plan.stage == stage and self.plan.kind != "time"):
            threading.setprofile(self._profile)
            sys.setprofile(self._profile)

    def end(self) -> None:
        """Leave it."""
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
        self.counts[self._stage]["time"] += int(1e6 * (time.monotonic() - self._begun))
        self.say(f"end {self._stage}")

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        seen = self.counts[self._stage]
        if event in ("call", "c_call"):
            seen["call"] += 1
            if self.plan is not None and self.plan.kind == "call" and seen["call"] == self.plan.at:
                os.kill(os.getpid(), signal.SIGKILL)
        if event in ("c_call", "c_return") and getattr(argument, "__name__", "") in WRITES:
            seen["write"] += 1
            if self.plan is not None and self.plan.kind == "write" and seen["write"] == self.plan.at:
                os.kill(os.getpid(), signal.SIGKILL)


def install(counter: Counter) -> None:
    """Put a counter around every stage of this process; a stage within a stage belongs to the outer one."""
    from ilm_lightning.engine import artifacts
    from ilm_lightning.engine.stages import export, recommend_export

    build = artifacts.Store._build
    depth = [0]

    def counted(store: Any, recipe: Mapping[str, Any], folder: Path, *rest: Any) -> Any:
        stage = folder.parent.name
        return within(stage, f"{stage}/{folder.name}", lambda: build(store, recipe, folder, *rest))

    def within(stage: str, folder: str, work: Callable[[], Any]) -> Any:
        depth[0] += 1
        if depth[0] == 1:
            counter.begin(stage, folder)
        try:
            return work()
        finally:
            depth[0] -= 1
            if depth[0] == 0:
                counter.end()

    artifacts.Store._build = counted  # type: ignore[method-assign,assignment]
    for module in (export, recommend_export):
        original = module.export

        def exporting(*given: Any, original: Callable[..., float] = original) -> Any:
            return within("export", "", lambda: original(*given))

        module.export = exporting  # type: ignore[assignment]


def tabulate(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table by stage, in Markdown.

    Args:
        rows: what `kills.py` has written.
    """
    lines = [
        "| run | stage | kills | by call / write / time | completed | damaged | different |",
        "|---|---|---|---|---|---|---|",
    ]
    for run, stage in dict.fromkeys((row["run"], row["stage"]) for row in rows):
        part = [row for row in rows if (row["run"], row["stage"]) == (run, stage) and row["killed"]]
        kinds = " / ".join(str(sum(row["kind"] == kind for row in part)) for kind in KINDS)
        done = sum(row["completed"] for row in part)
        damaged = sum(bool(row.get("damaged")) for row in part)
        different = sum(bool(row.get("different")) for row in part)
        lines.append(f"| {run} | {stage} | {len(part)} | {kinds} | {done} | {damaged} | {different} |")
    return "\n".join(lines)
