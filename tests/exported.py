"""A run exported by an earlier version of this program, with its tiny language model."""

import shutil
from pathlib import Path

FIXTURE = Path(__file__).parent / "fixtures" / "export_v1"


def exported(folder: Path) -> Path:
    """Copy the run; what it says of places is made to fit the copy.

    Args:
        folder: where the copy goes.

    Returns:
        The run folder.
    """
    shutil.copytree(FIXTURE, folder, dirs_exist_ok=True)
    for path in (p for p in folder.rglob("*") if p.suffix in (".json", ".yaml", ".md")):
        path.write_text(path.read_text(encoding="utf-8").replace("@HERE@", str(folder)), encoding="utf-8")
    return folder / "run"
