"""The speed ladder: every rung against the way people use today, each in a process of its own.

    python benchmarks/ladder.py                       # all rungs (about half an hour on two cores), printed
    python benchmarks/ladder.py --only collate als    # some of them
    python benchmarks/ladder.py --write docs/speed.md # and the table in the document renewed

Results lie under ``outputs/ladder`` as soon as a rung is done, so that an interrupted ladder loses one rung;
``--again`` measures those anew that are there already. Rungs on OpenP5's data need ILM_DATA, the folder that holds
``openp5``.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import commit, machine

HERE = Path(__file__).parent
BEGIN, END = "<!-- ladder -->", "<!-- /ladder -->"
Row = dict[str, Any]


@dataclass(frozen=True)
class Script:
    """A benchmark, how it is called, and how its answer is read.

    Attributes:
        file: beside this one.
        arguments: ``{data}`` becomes ILM_DATA.
        threads: 1, or 0 for all that the libraries take.
        read: its JSON to rows; the harness' own form if None.
    """

    file: str
    arguments: tuple[str, ...] = ()
    threads: int = 1
    read: Callable[[Any], list[Row]] | None = None

    @property
    def needs_data(self) -> bool:
        """Whether OpenP5's data must be there."""
        return any("{data}" in argument for argument in self.arguments)


def read_decoding(found: Any) -> list[Row]:
    """Rows of ``decoding.py``; the bar of the exact top 10 is for the cheapest way that gave it to every user."""
    speed = found["speed"]
    peer, users, exact = "transformers, 10 beams", speed["users"], speed["exact_lists"]
    # its figures are users a second
    ways = {
        way: {"cpu_s": 1 / rate, "wall_s": None, "peak_bytes": None} for way, rate in speed["users_per_second"].items()
    }
    ratios = {peer: 1.0} | {way: round(one["ratio"], 2) for way, one in speed["against_transformers"].items()}
    sure = max((way for way in ratios if way != peer and exact[way] == users), key=ratios.__getitem__)
    rows = []
    for way in ratios:
        if way == peer:
            continue
        bar = 7.0 if way == "trie, 10 beams" else 3.5 if way == sure else None
        same = way != "trie, 10 beams" or speed["same_ranking_10_beams"] == users
        told = f"the top 10 of all items for {exact[way]} of {users} users"
        if way == "trie, 10 beams":
            told = f"the peer's list for {speed['same_ranking_10_beams']} of {users} users; {told}"
        rows.append(
            {
                "name": f"{way.replace('trie', 'trie decoding')}, {found['items']:,} items",
                "peer": peer,
                "ours": way,
                "bar": bar,
                "ways": ways,
                "ratios": ratios,
                "same": same,
                "met": same and (bar is None or ratios[way] >= bar),
                "measure": "cpu_s",
                "setting": {"users": users, "mean tokens": round(found["mean_prompt_tokens"]), "threads": 1},
                "exact": told,
                "cannot": "",
            }
        )
    return rows


OPENP5_PROMPTS = ("--prompts", "{data}/openp5/prompt.txt")
SCRIPTS = {
    "phase1": Script("phase1_step.py"),
    "phase1_facts": Script("phase1_step.py", ("--texts", "facts", "--rounds", "3")),
    "phase2": Script("phase2_step.py", ("--data", "{data}")),
    "shared_history": Script("shared_history.py", ("--data", "{data}")),
    "decoding": Script(
        "decoding.py",
        ("--data", "{data}/openp5/ML1M", "--prompts", "{data}/openp5/prompt.txt", "--users", "8", "--exact", "0"),
        read=read_decoding,
    ),
    "collate": Script("collate.py"),
    "als": Script("als.py", threads=0),
    "encode": Script("encode.py"),
}


def measure(script: Script) -> list[Row]:
    """Run a benchmark; its own words go to the screen.

    Raises:
        RuntimeError: it failed.
    """
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        environment.pop(name, None)
        if script.threads:
            environment[name] = str(script.threads)
    data = os.environ.get("ILM_DATA", "")
    command = [sys.executable, str(HERE / script.file), *(part.replace("{data}", data) for part in script.arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{script.file} ended with {done.returncode}")
    found = json.loads(done.stdout)
    return script.read(found) if script.read else found


def lines(rows: list[Row]) -> Iterator[str]:
    """The table."""
    yield "| rung | peer → ours | CPU s | wall s | memory of a run, MB | times faster | at least | the same result |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        peer, ours = (row["ways"][row[key]] for key in ("peer", "ours"))
        bar = "" if row["bar"] is None else f"{row['bar']:g}"
        slow = row["bar"] is not None and row["ratios"][row["ours"]] < row["bar"]
        bar += "" if not slow else " (missed)" if not row["cannot"] else f" ({row['cannot']})"
        exact = row["exact"] or "as above"
        ratio = f"**{row['ratios'][row['ours']]:.2f}**" + (" (wall)" if row["measure"] == "wall_s" else "")
        parts = (
            row["name"],
            f"{row['peer']} → {row['ours']}",
            *(f"{_shown(peer[key])} → {_shown(ours[key])}" for key in ("cpu_s", "wall_s")),
            f"{_megabytes(peer['peak_bytes'])} → {_megabytes(ours['peak_bytes'])}",
            ratio,
            bar,
            exact if row.get("same", True) else f"**no**: {exact}",
        )
        yield "| " + " | ".join(parts) + " |"


def _shown(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.3g}"


def _megabytes(size: int | None) -> str:
    return "–" if size is None else f"{size / 2**20:,.0f}"


def document(path: Path, rows: list[Row], settings: list[str]) -> None:
    """Renew the table between the marks of a document."""
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    host = machine()
    about = (
        f"Commit {commit()}; {host['cpu']}, {host['cores']} cores, {'with' if host['bf16'] else 'without'} bf16, "
        f"load {host['load']} at the end; Python {host['python']}, torch {host['torch']}, "
        f"transformers {host['transformers']}."
    )
    middle = "\n\n".join([BEGIN, about, "\n".join(lines(rows)), "Settings: " + "; ".join(settings) + ".", END])
    path.write_text(before + middle + after, encoding="utf-8")


def main() -> None:
    """Run the rungs and print the ladder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SCRIPTS), default=list(SCRIPTS))
    parser.add_argument("--out", type=Path, default=Path("outputs/ladder"))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    failed = []
    for name in options.only:
        script, file = SCRIPTS[name], options.out / f"{name}.json"
        if not (HERE / script.file).is_file():
            continue
        if script.needs_data and "ILM_DATA" not in os.environ:
            print(f"{name}: left out, ILM_DATA names no folder", file=sys.stderr)
            continue
        if options.again or not file.is_file():
            print(f"{name} …", file=sys.stderr, flush=True)
            try:
                file.write_text(json.dumps(measure(script), indent=1), encoding="utf-8")
            except RuntimeError as error:
                print(f"{name}: {error}", file=sys.stderr)
                failed.append(name)
                continue
        rows += json.loads(file.read_text(encoding="utf-8"))
    print("\n".join(lines(rows)))
    if options.write is not None:
        document(options.write, rows, [f"{r['name']}: {_setting(r['setting'])}" for r in rows])
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
    if other := [row["name"] for row in rows if not row.get("same", True)]:
        sys.exit(f"not the same as the peer: {', '.join(other)}")


def _setting(setting: Row) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in setting.items())


if __name__ == "__main__":
    main()
