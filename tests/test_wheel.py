"""The built wheel carries the configuration and runs from any folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


def test_wheel_holds_every_config_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {f"ilm_lightning/conf/{p.relative_to(ROOT / 'conf')}" for p in (ROOT / "conf").rglob("*.yaml")}
    assert configs <= names
    assert "ilm_lightning/py.typed" in names
    assert {"ilm_lightning/reporting/paper_tables.json", "ilm_lightning/reporting/page.css"} <= names
    assert not [name for name in names if name.startswith("tests")]


def test_installed_wheel_composes_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(site)}
    code = "import ilm_lightning, ilm_lightning.engine.command as c; print(ilm_lightning.__file__, c.conf_dir())"
    where = subprocess.run(
        [sys.executable, "-c", code], cwd=elsewhere, env=environment, capture_output=True, text=True, check=True
    )
    assert where.stdout.split() == [
        str(site / "ilm_lightning" / "__init__.py"),
        str(site / "ilm_lightning" / "conf"),
    ]
    command = [sys.executable, "-m", "ilm_lightning.train", "--cfg", "job", "experiment=ilm_qformer_vg_lora"]
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "name: ilm_qformer_vg_lora" in done.stdout
    assert list(elsewhere.iterdir()) == []
    code = "import hydra_plugins.ilm_processes as p; print(p.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", code], cwd=elsewhere, env=environment, capture_output=True, text=True, check=True
    )
    assert where.stdout.strip() == str(site / "hydra_plugins" / "ilm_processes.py")
    # Hydra finds the launcher of sweeps there
    command = [sys.executable, "-m", "ilm_lightning.train", "-m", "sweep=table3", "adapter.num_queries=0"]
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "error: all 5 jobs: adapter.num_queries=0 must be above 0" in done.stderr
