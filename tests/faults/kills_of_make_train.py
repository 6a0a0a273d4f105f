"""``kill -9`` to the real ``make train``: five kills over one run, which must end like the run that nobody killed.

In a clone that has its ``.venv`` (``make doctor`` makes it), with the folder of a whole run of the same command::

    make train                                      # the whole run, where there is none yet; the folder it names is RUN
    .venv/bin/python tests/faults/kills_of_make_train.py RUN --work FOLDER

starts ``make train`` with artefacts and outputs in FOLDER, kills its whole process group at a drawn point, starts the
same command again, and so on. The points are a function of ``--seed``: one in phase 1, two in phase 2, one while texts
are written, and one in a stage drawn from the others; where in the stage is drawn uniformly over its work: steps of a
training, texts of a generation, seconds of any other. After the last kill the command runs to its end: metrics (all but
times, memory and compute), predictions, exported weights and status must equal RUN's to the last digit.

What happened goes to ``FOLDER/kills_of_make_train.json`` after every kill. The same command goes on from there, so this
script can be killed too; the run it left behind is killed then, which the file tells. ``--args budget=tiny`` stands for
``make train ARGS=budget=tiny``; RUN must have been made with the same.
"""

import argparse
import contextlib
import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks"), str(HERE.parent)]

import harness  # noqa: E402
import yaml  # noqa: E402

from faults.run_results import unequal  # noqa: E402
from ilm_lightning.engine.artifacts import MANIFEST, SCRATCH, write_json  # noqa: E402

RESULTS = "kills_of_make_train.json"
PHASES = ("pretrain", "tune", "tune", "generate")
"""Stages that are always killed; one of the others is drawn."""
BEGINS = re.compile(r"^(\S+)\s+([0-9a-f]{16})$")
"""What the store says when a stage begins."""
ENDS = re.compile(r"^(\S+)\s+(?:done in |[0-9a-f]{16} \(there already\))")
"""What it says when one is done, or need not be."""
RESUMED = re.compile(r"there already|continues from|are dropped|is damaged|waiting for it")
"""What a start says of what it found."""
POLL_S = 0.05


@dataclass(frozen=True)
class Point:
    """Where to kill: at this share of a stage's work."""

    stage: str
    share: float


@dataclass(frozen=True)
class Whole:
    """The run that nobody killed.

    Attributes:
        folder: of the run.
        artifacts: its artefacts by stage, in the order of the run.
        commit: of the code that made it.
    """

    folder: Path
    artifacts: dict[str, Path]
    commit: str

    @classmethod
    def read(cls, folder: Path) -> "Whole":
        """Read where a run's artefacts lie."""
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        # both are named as seen from where the command was started
        root = (folder.parent / os.path.relpath(config["artifacts"], config["outputs"])).resolve()
        run = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["run"]
        names = list(run["artifacts"])
        # texts are written before they are scored
        names[-1:-1] = list(run.get("texts", {}).values())[:1]
        artifacts = {name.split("/")[0]: root / name for name in names}
        return cls(folder, artifacts, str(run["versions"].get("commit", "unknown")))

    def manifest(self, stage: str) -> dict[str, Any]:
        """What is written of a stage's artefact."""
        found: dict[str, Any] = json.loads((self.artifacts[stage] / MANIFEST).read_text(encoding="utf-8"))
        return found

    def work(self, stage: str) -> tuple[str, float]:
        """The unit of a stage's work, and how much it has."""
        steps = sum(last_step(path) for path in self.artifacts[stage].glob("history-*.csv"))
        if steps:
            return "steps", steps
        manifest = self.manifest(stage)
        if stage == "generate":
            return "texts", manifest["report"]["texts"]
        return "seconds", manifest["seconds"]


def drawn(seed: int, whole: Whole, stages: Sequence[str] = ()) -> list[Point]:
    """The points at which a run is killed, in its order: a function of the seed.

    Args:
        seed: any number.
        whole: its stages are drawn from.
        stages: those to kill, in place of `PHASES` and one other.
    """
    chance = random.Random(f"make train {seed}")
    others = sorted(set(whole.artifacts) - set(PHASES))
    chosen = list(stages) or [*PHASES, chance.choice(others)]
    order = list(whole.artifacts)
    points = [Point(stage, round(chance.random(), 4)) for stage in chosen]
    return sorted(points, key=lambda point: (order.index(point.stage), point.share))


def last_step(path: Path) -> int:
    """The last step that a history holds; 0 where it holds none."""
    with contextlib.suppress(OSError), path.open(newline="", encoding="utf-8") as stream:
        return max((int(row[0]) for row in csv.reader(stream) if row and row[0].isdigit()), default=0)
    return 0


def texts(path: Path) -> int:
    """How many texts a journal holds, without a line that is being written."""
    count = 0
    with contextlib.suppress(OSError):
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                count += len(json.loads(line.partition(b" ")[2]))
    return count


@dataclass
class Seen:
    """What a start has said and done so far.

    Attributes:
        log: what it says on screen.
        artifacts: where it builds.
        begun: stages that it is in, the inner ones last, each with its artefact's name and since when.
        ended: stages that are done, or were there.
        reports: by stage, when how much of its work was seen to be done.
    """

    log: Path
    artifacts: Path
    begun: dict[str, tuple[str, float]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    reports: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    _read: int = 0

    def look(self) -> None:
        """Read what was said since the last look."""
        with self.log.open("rb") as stream:
            stream.seek(self._read)
            new = stream.read()
        lines = new[: new.rfind(b"\n") + 1]
        self._read += len(lines)
        for line in lines.decode(errors="replace").splitlines():
            if begins := BEGINS.match(line):
                self.begun[begins[1]] = begins[2], time.monotonic()
            elif ends := ENDS.match(line):
                self.begun.pop(ends[1], None)
                self.ended.add(ends[1])

    def done(self, stage: str, unit: str) -> float:
        """How much of a stage's work is done: as last seen, and as much as its pace adds since then."""
        key, begun = self.begun[stage]
        now = time.monotonic()
        if unit == "seconds":
            return now - begun
        amount = on_disk(self.artifacts / stage / f"{key}.part", unit)
        reports = self.reports.setdefault(stage, [])
        if not reports or amount < reports[-1][1]:
            # what an earlier start had done after its last checkpoint is taken back
            reports[:] = [(now, amount)]
        elif amount > reports[-1][1]:
            reports.append((now, amount))
        if len(reports) == 1:
            return amount
        (before, less), (then, more) = reports[-2:]
        return more + min(1.0, (now - then) / (then - before)) * (more - less)


def on_disk(part: Path, unit: str) -> float:
    """The steps or texts that an unfinished artefact holds; 0 of a stage that counts neither."""
    if unit == "steps":
        return sum(last_step(path) for path in part.glob(f"{SCRATCH}/*/history.csv"))
    return texts(part / SCRATCH / "texts.jsonl") if unit == "texts" else 0


def start(clone: Path, work: Path, number: int, arguments: str) -> tuple["subprocess.Popen[bytes]", Path]:
    """Start ``make train`` in a process group of its own; returns it and the file of what it says."""
    places = f"artifacts={work / 'artifacts'} outputs={work / 'outputs'}"
    log = work / f"start-{number}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["make", "train", f"ARGS={arguments} {places}"],
            cwd=clone, stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    return process, log


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """``kill -9`` to a command and all that it has started, and wait until none is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.killpg(process.pid, 0)
            time.sleep(POLL_S)


def kill_orphan(group: int, work: Path) -> bool:
    """Kill the run that a killed call of this script has left behind; returns whether there was one."""
    try:
        command = Path(f"/proc/{group}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False
    if str(work) not in command:
        return False
    os.killpg(group, signal.SIGKILL)
    return True


def kill_at(point: Point, seen: Seen, process: "subprocess.Popen[bytes]", whole: Whole) -> dict[str, Any]:
    """Wait for a point and kill there; a stage that ended before it is killed behind its end.

    Returns:
        What was reached; without ``killed`` where the run ended first.
    """
    unit, most = whole.work(point.stage)
    row: dict[str, Any] = {"stage": point.stage, "share": point.share, "unit": unit, "of": most}
    while process.poll() is None:
        time.sleep(POLL_S)
        seen.look()
        there = point.stage in seen.begun
        if there and seen.done(point.stage, unit) < point.share * most:
            continue
        if there or point.stage in seen.ended:
            kill_group(process)
            seen.look()
            stage = point.stage if point.stage in seen.begun else next(reversed(seen.begun), "")
            row |= {"killed": True, "in": stage}
            if stage == point.stage:
                key, begun = seen.begun[stage]
                row["seconds_into_it"] = round(time.monotonic() - begun, 1)
                row["on_disk"] = on_disk(seen.artifacts / stage / f"{key}.part", unit)
            row["half_done"] = sorted(str(p.relative_to(seen.artifacts)) for p in seen.artifacts.glob("*/*.part"))
            return row
    return row


def said(log: Path) -> list[str]:
    """What a start said of what it found."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [" ".join(line.split()) for line in lines if RESUMED.search(line)]


@dataclass
class Kills:
    """The experiment, as it lies on disk.

    Attributes:
        place: its file.
        found: what it holds.
    """

    place: Path
    found: dict[str, Any]

    def save(self) -> None:
        """Write it."""
        write_json(self.place, self.found)

    def one_start(self, clone: Path, work: Path, whole: Whole, point: Point | None) -> int | None:
        """Start once and kill at a point, or let it end without one; returns the exit status, None after a kill."""
        number = self.found["starts"] = self.found["starts"] + 1
        process, log = start(clone, work, number, self.found["args"])
        self.found["group"] = process.pid
        self.save()
        begun = time.monotonic()
        try:
            row = kill_at(point, Seen(log, work / "artifacts"), process, whole) if point else {}
            status = process.wait()
        except BaseException:
            kill_group(process)
            raise
        kills = self.found["kills"]
        if kills and "next_start_said" not in kills[-1]:
            kills[-1]["next_start_said"] = said(log)
        self.found["seconds"].append(round(time.monotonic() - begun, 1))
        del self.found["group"]
        if row.get("killed"):
            kills.append(row)
        self.save()
        return None if row.get("killed") else status


def main() -> int:
    """Entry point; the status is 1 where the run did not end, or not as the one that nobody killed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("whole", type=Path, metavar="RUN", help="folder of a whole run of the same command")
    parser.add_argument("--args", default="", help="make train's ARGS, those that RUN was made with")
    parser.add_argument("--work", type=Path, default=Path("kills-of-make-train"), help="artefacts, outputs, results")
    parser.add_argument("--clone", type=Path, default=ROOT, help="checkout in which make train runs")
    parser.add_argument("--seed", type=int, default=0, help="of the points")
    parser.add_argument("--stages", nargs="+", default=[], help="stages to kill; by default phases and one other")
    parser.add_argument("--plan", action="store_true", help="say the points and stop")
    given = parser.parse_args()
    whole, work = Whole.read(given.whole.resolve()), given.work.resolve()
    points = drawn(given.seed, whole, given.stages)
    for point in points:
        if not (manifest := whole.artifacts[point.stage] / MANIFEST).is_file():
            parser.error(f"{manifest} is missing: the artefacts of the whole run must be there, where it left them")
    if given.plan:
        for point in points:
            unit, most = whole.work(point.stage)
            sys.stdout.write(f"{point.stage}: at {point.share * most:.1f} of {most:g} {unit}\n")
        return 0
    work.mkdir(parents=True, exist_ok=True)
    here = {
        "args": given.args, "seed": given.seed,
        "points": [{"stage": point.stage, "share": point.share} for point in points],
        "commit": harness.commit(), "whole": {"folder": whole.folder.name, "commit": whole.commit},
    }  # fmt: skip
    place = work / RESULTS
    fresh = {**here, "machine": harness.machine(), "starts": 0, "seconds": [], "kills": [], "lost": 0}
    kills = Kills(place, json.loads(place.read_text(encoding="utf-8")) if place.is_file() else fresh)
    if other := [key for key in here if kills.found[key] != here[key]]:
        parser.error(f"{place} holds another experiment ({', '.join(other)} differ): move {work} away")
    if (group := kills.found.pop("group", 0)) and kill_orphan(group, work):
        kills.found["lost"] += 1
    while True:
        number = len(kills.found["kills"])
        status = kills.one_start(given.clone, work, whole, points[number] if number < len(points) else None)
        if status is not None:
            break
        sys.stderr.write(f"{kills.found['kills'][-1]}\n")
    ended = [path.parent for path in (work / "outputs").glob("*/metrics.json")]
    kills.found["status"] = status
    kills.found["different"] = unequal(whole.folder, ended[0]) if status == 0 and len(ended) == 1 else None
    kills.found["equal"] = kills.found["different"] == []
    kills.save()
    sys.stderr.write(json.dumps(kills.found, indent=1) + "\n")
    return 0 if kills.found["equal"] and len(kills.found["kills"]) == len(points) else 1


if __name__ == "__main__":
    sys.exit(main())
