"""A stand-in for ``make train`` in the tests of its kills: says what a run says, and goes on as it does.

``python pretended_train.py artifacts=A outputs=O``; ``score=``, ``text=`` and ``weights=`` change the results.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

PAUSE_S = 0.02
STAGES = {"prepare": "", "pretrain": "history.csv", "tune": "history.csv", "generate": "texts.jsonl", "evaluate": ""}
KEY = "0123456789abcdef"
PIECES = 20


def main() -> None:
    """Run all stages, each into its artefact."""
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    artifacts, run = Path(given["artifacts"]), Path(given["outputs"]) / "pretended"
    for stage, file in STAGES.items():
        done = artifacts / stage / KEY
        if done.is_dir():
            say(f"{stage:<9} {KEY} (there already)")
            continue
        say(f"{stage:<9} {KEY}")
        part = done.with_name(f"{KEY}.part")
        scratch = part / "checkpoints"
        (scratch / stage).mkdir(parents=True, exist_ok=True)
        begun = time.monotonic()
        if file == "history.csv":
            written = train(scratch / stage / file, stage)
            (part / f"history-{stage}.csv").write_text(written)
        elif file == "texts.jsonl":
            write(scratch / file)
        else:
            time.sleep(PIECES * PAUSE_S)
        manifest = {"seconds": time.monotonic() - begun, "report": {"texts": 2 * PIECES}}
        (part / "manifest.json").write_text(json.dumps(manifest))
        part.rename(done)
        say(f"{stage:<9} done in 1s")
    finish(run, given, artifacts)


def say(line: str) -> None:
    """As the log does."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def train(path: Path, label: str) -> str:
    """Add steps to a history, from the last that lies there; returns it."""
    before = path.read_text() if path.exists() else "step,seconds,name,value\n"
    first = before.count("\n")
    if first > 1:
        say(f"{label:<9} continues from step {first - 1}")
    path.write_text(before)
    pieces(first, lambda step: path.open("a").write(f"{step},0,loss,1\n"))
    return path.read_text()


def write(path: Path) -> None:
    """Add texts to a journal, two a line."""
    path.touch()
    first = path.read_bytes().count(b"\n") + 1

    def add(number: int) -> None:
        line = json.dumps({f"{number}a": "x", f"{number}b": "y"}).encode()
        with path.open("ab") as stream:
            stream.write(b"%08x %s\n" % (crc32(line), line))

    pieces(first, add)


def pieces(first: int, work: Callable[[int], object]) -> None:
    """Do the numbered pieces that are left."""
    for number in range(first, PIECES + 1):
        work(number)
        time.sleep(PAUSE_S)


def finish(run: Path, given: dict[str, str], artifacts: Path) -> None:
    """Leave results: one figure is a setting, so that two runs can differ."""
    import polars as pl

    from ilm_lightning.engine.artifacts import write_json

    (run / "model").mkdir(parents=True, exist_ok=True)
    (run / "model" / "model.safetensors").write_bytes(given.get("weights", "w").encode())
    pl.DataFrame({"example_id": ["a", "b"], "generated": ["x", given.get("text", "y")]}).write_parquet(
        run / "predictions.parquet"
    )
    write_json(run / "config.yaml", {"artifacts": str(artifacts), "outputs": given["outputs"]})
    write_json(run / "status.json", {"state": "finished", "objective": 1.0})
    names = [f"{stage}/{KEY}" for stage in STAGES]
    texts = names.pop(names.index(f"generate/{KEY}"))
    told = {"artifacts": names, "texts": {"own": texts}, "versions": {}, "at": time.time()}
    write_json(run / "metrics.json", {"all": {"sc": {"own": float(given.get("score", "1"))}}, "run": told})


if __name__ == "__main__":
    main()
