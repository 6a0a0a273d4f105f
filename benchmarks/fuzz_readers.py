"""Coverage-guided fuzzing of every reader: ``python benchmarks/fuzz_readers.py --minutes 30 --out findings``.

Needs ``pip install atheris``. Each reader gets its share of the time in a process of its own, which is told which bytes
reach new code; whatever a reader raises that is not documented is kept in ``findings/`` with the bytes that did it.
Readers that ``findings/results.json`` holds were fuzzed before and are passed over.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

import harness  # noqa: E402


def fuzz(name: str, seconds: int, out: Path) -> None:
    """Fuzz one reader in this process, until the time is over or a finding ends it."""
    import atheris

    # what is imported here reports which of its branches were taken
    with atheris.instrument_imports(include=["ilm_lightning.data", "ilm_lightning.assets", "ilm_lightning.tasks"]):
        from properties.readers import DOCUMENTED, READERS

    reader = READERS[name]
    runs = [0]
    corpus = out / "corpus" / name.replace(" ", "-").replace(",", "")
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / "whole").write_bytes(reader.whole)
    with tempfile.TemporaryDirectory() as folder:

        def one(data: bytes) -> None:
            runs[0] += 1
            try:
                reader(Path(folder), data)
            except DOCUMENTED:
                return
            except BaseException as error:
                place = out / f"{corpus.name}-{type(error).__name__}"
                place.write_bytes(data)
                raise

        prefix = f"-artifact_prefix={out}/{corpus.name}-"
        atheris.Setup(
            [
                "fuzz",
                f"-max_total_time={seconds}",
                "-max_len=4096",
                "-timeout=20",
                "-rss_limit_mb=4096",
                prefix,
                str(corpus),
            ],
            one,
        )
        atheris.Fuzz()


def told(said: str) -> dict[str, Any]:
    """What libFuzzer says at its end: how often the reader was called, and how much of the code that was led to.

    Args:
        said: all of it.

    Returns:
        ``executions``, ``coverage`` (edges of the control flow that were taken), ``features`` (the same with how often)
        and ``corpus`` (files that are kept, since each reached something new); what it said at last where it broke off.
    """
    reports = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", said)
    runs = re.findall(r"Done (\d+) runs", said) or re.findall(r"^#(\d+)\t", said, re.MULTILINE)
    if not reports or not runs:
        return {"said": said[-400:]}
    coverage, features, corpus = map(int, reports[-1])
    return {"executions": int(runs[-1]), "coverage": coverage, "features": features, "corpus": corpus}


def main() -> int:
    """Entry point: 1 where a reader failed otherwise than documented."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="for all readers together")
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"), help="findings and corpora")
    parser.add_argument("--only", help="one reader, in this process")
    parser.add_argument("--seconds", type=int, default=60, help="with --only")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.only:
        fuzz(given.only, given.seconds, given.out.resolve())
        return 0
    from properties.readers import READERS

    share = max(1, int(60 * given.minutes / len(READERS)))
    place = given.out / "results.json"
    found = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {"rows": []}
    rows = found["rows"]
    before = {row["reader"] for row in rows}
    this = f"python benchmarks/fuzz_readers.py --minutes {given.minutes:g}"
    said = this if found.get("command", this) == this else f"{found['command']}, then {this}"
    for name in [name for name in READERS if name not in before]:
        begin = time.monotonic()
        command = [sys.executable, __file__, "--only", name, "--seconds", str(share), "--out", str(given.out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = round(time.monotonic() - begin)
        sound = done.returncode == 0
        rows.append({
            "reader": name, "seconds": seconds, "sound": sound, "commit": harness.commit(), **told(done.stderr)
        })  # fmt: skip
        sys.stdout.write(json.dumps(rows[-1]) + "\n")
        sys.stdout.flush()
        if not sound:
            (given.out / f"{name.replace(' ', '-')}.log").write_text(done.stdout + done.stderr)
        order = sorted(rows, key=lambda row: list(READERS).index(row["reader"]))
        found = {"command": said, "machine": harness.machine(), "rows": order}
        place.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row["sound"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
