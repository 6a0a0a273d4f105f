"""Time the report over 200 runs of 2,000 predictions each; the bar is 10 s.

python benchmarks/report_200_runs.py [--runs 200] [--keep FOLDER]

Invented runs: the rows of Tables 3, 9 and 10, LoRA, and Figure 3's sweep, five seeds each; 2,016 texts of own vectors
(24 tasks, 84 movies) and as many of the blind control, texts of ordinary length. Making them is not counted.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import islice, product
from pathlib import Path

import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "reporting"))
from synthetic import EXPERIMENTS, config_of, predictions_of, write_run

from ilm_lightning.engine.validate import TASKS

SENTENCE = "A wry and tender drama of the 1990s in which a family of three learns to live with what it has lost. "
MOVIES = 84


def make(root: Path, runs: int) -> None:
    """Leave so many run folders."""
    rows = [(name, {"encoder": encoder}) for name in EXPERIMENTS for encoder in ("combined", "semantic", "behavioral")]
    for name, q, s in product(("ilm_qformer_random", "ilm_mlp"), (1, 2, 4, 16, 32), (1, 4)):
        rows.append((name, {"adapter__num_queries": q, "adapter__source_tokens": s}))
    rows += [("ilm_qformer", {"pretraining__losses": losses}) for losses in (["vg"], ["itc", "itm", "itg"])]
    for place, ((name, changes), seed) in enumerate(islice(product(rows, range(5)), runs)):
        level = 50.0 + place // 5 * 0.3
        frame = predictions_of(level, seed, tasks=TASKS, movies=MOVIES, seed_noise=0.3)
        frame = frame.with_columns(generated=pl.lit(SENTENCE * 3), target=pl.col("target") + pl.lit(SENTENCE * 3))
        write_run(root / f"{name}-{place}", config_of(name, seed=seed, **changes), frame)


def main() -> None:
    """Make the runs, report on them, print what it took."""
    options = argparse.ArgumentParser()
    options.add_argument("--runs", type=int, default=200)
    options.add_argument("--keep")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(given.keep or temporary)
        if not (root / "runs").exists():
            make(root / "runs", given.runs)
        command = [
            sys.executable,
            "-m",
            "ilm_lightning.report",
            str(root / "runs"),
            "--claims",
            "--out",
            str(root / "out"),
        ]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(done.stderr[-300:])
        result = {
            "runs": given.runs,
            "predictions_each": 2 * 24 * MOVIES,
            "seconds": round(seconds, 2),
            "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
            "peak_mib": round(used.ru_maxrss / 1024),
            "exit": done.returncode,
        }
        print(json.dumps(result))


if __name__ == "__main__":
    main()
