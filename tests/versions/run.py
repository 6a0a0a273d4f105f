"""The core of the tests with the oldest and the newest admitted libraries: ``make test-versions``.

Each set of versions is installed into a folder of its own, which is laid over the development environment; torch stays
as it is. The oldest set is the lower bounds of pyproject.toml, so a bound that is too low fails here.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import harness  # noqa: E402

LIBRARIES = ("transformers", "lightning", "peft", "sentence-transformers", "safetensors", "hydra-core", "torchmetrics")
CORE = (
    "tests/lm/test_lm_portable.py",
    "tests/lm/test_lm_model.py",
    "tests/engine/test_training.py",
    "tests/pretraining/test_pretraining_module.py",
    "tests/faults/test_run_faults.py::test_an_export_of_an_earlier_version_loads_and_says_the_same",
    "tests/e2e/test_pipeline.py::test_every_row_runs",
    "tests/e2e/test_pipeline.py::test_interrupted_training_continues_to_the_same_weights",
)
"""Reading and writing models, training and resuming, and a whole run of each kind of tuning."""


def bounds() -> dict[str, str]:
    """The lower bound of each library, as pyproject.toml has it."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    found = {}
    for line in wanted:
        match = re.match(r"([A-Za-z0-9-]+)>=([0-9.]+)", line)
        if match and match[1] in LIBRARIES:
            found[match[1]] = match[2]
    return found


def sets() -> dict[str, list[str]]:
    """What to install, by name of the set."""
    oldest = [f"{name}=={version}" for name, version in bounds().items()]
    return {"oldest": oldest, "newest": list(LIBRARIES)}


def lay(name: str, wanted: list[str], folder: Path) -> Path:
    """Install a set of versions into a folder, without the libraries that torch brings."""
    target = folder / name
    mark = target / "installed.json"
    if mark.is_file() and json.loads(mark.read_text()) == wanted:
        return target
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", str(target)]
    alone = [one for one in wanted if re.match("lightning|peft|torchmetrics|sentence|hydra", one)]
    others = [one for one in wanted if one not in alone]
    # these depend on torch, which would come a second time
    subprocess.run([*pip, "--no-deps", *alone], check=True)
    subprocess.run([*pip, *others], check=True)
    mark.write_text(json.dumps(wanted))
    return target


def test(target: Path, selected: list[str]) -> dict[str, Any]:
    """Run the core with a set of versions; returns the versions, pytest's status and its last line."""
    path = os.pathsep.join([str(target), str(ROOT / "src")])
    names = ", ".join(f"{name!r}" for name in LIBRARIES)
    show = (
        f"import json; from importlib.metadata import version; print(json.dumps({{n: version(n) for n in ({names},)}}))"
    )
    environment = {**os.environ, "PYTHONPATH": path}
    laid = subprocess.run([sys.executable, "-c", show], env=environment, check=True, capture_output=True, text=True)
    sys.stderr.write(laid.stdout)
    command = [sys.executable, "-m", "pytest", "-q", *selected]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        line = ""
        for line in tests.stdout:
            sys.stdout.write(line)
    return {"versions": json.loads(laid.stdout), "status": tests.returncode, "said": line.strip().strip("= ")}


def main() -> int:
    """Entry point: 1 where a set fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sets", nargs="*", default=[], help=f"of {', '.join(sets())}; all without")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "versions")
    parser.add_argument("--tests", nargs="*", default=list(CORE))
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    given = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    for name in given.sets or sets():
        sys.stderr.write(f"{name}: {' '.join(sets()[name])}\n")
        found[name] = test(lay(name, sets()[name], given.folder), given.tests)
        sys.stderr.write(f"{name}: {found[name]}\n")
    if given.out is not None:
        whole = {
            "command": "make test-versions",
            "commit": harness.commit(),
            "machine": harness.machine(),
            "sets": found,
        }
        given.out.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return int(any(one["status"] for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
