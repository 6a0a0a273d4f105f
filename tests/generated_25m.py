"""A hundredth of MovieLens 25M, made up by the generator around invented movies."""

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

GENRES = ("Drama", "Comedy", "Thriller", "Horror", "Romance", "Action", "IMAX", "Sci-Fi")
SCALE = 0.01


def script(name: str) -> ModuleType:
    """A file of benchmarks/, which is no part of the package."""
    path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def write_movies(path: Path, count: int = 700) -> Path:
    """An invented movies.csv."""
    draw = random.Random(0)
    lines = ["movieId,title,genres"]
    for number in range(1, count + 1):
        title = draw.choice((f"Film {number}", f"Story {number}, The", f"Heat, {number}"))
        genres = "|".join(sorted(draw.sample(GENRES, draw.randint(1, 3)))) if number % 50 else "(no genres listed)"
        ending = f" ({draw.randint(1930, 2018)})" if number % 40 else ""
        lines.append(f'{3 * number},"{title}{ending}",{genres}')
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def generated_25m(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the six files; nobody writes into it."""
    folder = tmp_path_factory.mktemp("ml-25m-generated")
    movies = write_movies(tmp_path_factory.mktemp("movies") / "movies.csv")
    script("movielens_25m").generate(movies, folder, scale=SCALE, seed=1)
    return folder
