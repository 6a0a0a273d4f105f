"""The direction of imports, and what may not stand in the source."""

import ast
from pathlib import Path

import pytest

import ilm_lightning

ROOT = Path(ilm_lightning.__file__).parent
LEAVES = {"progress", "hardware", "older", "optimiser", "permissions", "ranks", "sentences", "__init__"}
# room -> rooms it may import, beside itself and the leaf modules
ALLOWED = {
    "assets": set(),
    "data": set(),
    "adapters": set(),
    "embeddings": {"data"},
    "tasks": {"data"},
    "evaluation": {"data"},
    "pretraining": {"adapters", "data", "embeddings", "tasks", "evaluation"},
    "lm": {"assets", "adapters", "data", "embeddings", "tasks", "evaluation"},
    "reporting": {"evaluation", "data"},
}
FILES = sorted(ROOT.rglob("*.py"))


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module] if node.module != "ilm_lightning" else [f"ilm_lightning.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("ilm_lightning.")}
    return rooms


def room_of(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def test_rooms_are_known() -> None:
    rooms = {room_of(path) for path in FILES if len(path.relative_to(ROOT).parts) > 1}
    assert rooms <= set(ALLOWED) | {"engine"}
    assert {"assets", "data", "adapters", "embeddings", "tasks", "pretraining", "lm", "evaluation"} <= rooms


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_imports_follow_the_direction(room: str) -> None:
    files = [path for path in FILES if room_of(path) == room]
    wrong = {str(p.relative_to(ROOT)): imported_rooms(p) - ALLOWED[room] - {room} - LEAVES for p in files}
    assert {name: rooms for name, rooms in wrong.items() if rooms} == {}


@pytest.mark.parametrize("room", ["data", "evaluation", "adapters", "assets", "embeddings", "tasks"])
def test_no_lightning_below_the_modules(room: str) -> None:
    for path in FILES:
        if room_of(path) == room:
            text = path.read_text(encoding="utf-8")
            assert "import lightning" not in text, path
            assert "from lightning" not in text, path


def test_files_and_functions_stay_small() -> None:
    long_files = {str(p): n for p in FILES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 350}
    long_functions = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > 80:
                long_functions[f"{path}:{node.name}"] = (node.end_lineno or 0) - node.lineno + 1
    assert long_files == {}
    assert long_functions == {}
