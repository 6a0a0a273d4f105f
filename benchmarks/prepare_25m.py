"""Time the preparation of MovieLens 25M against the same work in pandas, and ALS on its result.

Both ways read the five files, normalise titles, genres, tags and genome, drop rarely rated movies, order the events and
write the same three parquet files; they run in turn, each in a process of its own, and their tables are compared.

    python benchmarks/prepare_25m.py /data/ml-25m-generated --out prepare_25m.json    # three turns
    python benchmarks/prepare_25m.py /data/ml-25m-generated --als implicit own --out both.json    # and ALS

Needs ``pyarrow`` for pandas' parquet. Both are held to --threads processors.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MIN_RATINGS, PER_ITEM, MIN_RELEVANCE = 5, 10, 0.5
TABLES = ("interactions", "items", "genome")


def ours(folder: Path, out: Path) -> None:
    """Prepare with the package."""
    from ilm_lightning.data.load import load_dataset
    from ilm_lightning.data.prepare import prepare

    dataset = prepare(load_dataset("ml_25m", {"ratings": folder}), MIN_RATINGS)
    dataset.interactions.write(out / "interactions.parquet")
    dataset.catalog.write(out / "items.parquet")
    assert dataset.genome is not None
    dataset.genome.write(out / "genome.parquet")


def in_pandas(folder: Path, out: Path) -> None:
    """Prepare with pandas, as one who knows it would: typed columns, no loop over rows, zstd parquet like ours."""
    import numpy as np
    import pandas as pd

    ratings = pd.read_csv(
        folder / "ratings.csv",
        dtype={"userId": np.uint32, "movieId": np.uint32, "rating": np.float32, "timestamp": np.int64},
    )
    items = _pandas_movies(folder)
    row_of = pd.Series(np.arange(len(items), dtype=np.uint32), index=items["item_id"].astype(np.uint32))
    ratings["item"] = ratings["movieId"].map(row_of).astype(np.uint32)
    ratings = ratings.drop(columns="movieId").sort_values(["userId", "timestamp", "item", "rating"])
    ratings = ratings.drop_duplicates(["userId", "item"], keep="last")
    counts = ratings["item"].value_counts()
    items["n_ratings"] = counts.reindex(range(len(items)), fill_value=0).astype(np.int32).to_numpy()
    kept = items[items["n_ratings"] >= MIN_RATINGS]
    new_row = pd.Series(np.arange(len(kept), dtype=np.uint32), index=kept.index.astype(np.uint32))
    ratings["item"] = ratings["item"].map(new_row)
    ratings = ratings.dropna(subset="item").astype({"item": np.uint32})
    user, user_ids = pd.factorize(ratings["userId"])
    events = ratings.assign(user=user.astype(np.uint32))[["user", "item", "rating", "timestamp"]]
    events.attrs["user_ids"] = [str(number) for number in user_ids]
    events.to_parquet(out / "interactions.parquet", compression="zstd", index=False)
    genome = _pandas_genome(folder, row_of)
    best = genome[genome["relevance"] >= MIN_RELEVANCE]
    best = best.sort_values(["item", "relevance", "tag"], ascending=[True, False, True])
    names = _genome_names(folder)
    best = best.assign(name=np.array(names, dtype=object)[best["tag"]]).groupby("item").head(PER_ITEM)
    kept = kept.assign(genome_tags=best.groupby("item")["name"].agg(list))
    kept["genome_tags"] = kept["genome_tags"].map(lambda tags: tags if isinstance(tags, list) else [])
    kept.to_parquet(out / "items.parquet", compression="zstd", index=False)
    genome["item"] = genome["item"].map(new_row)
    genome = genome.dropna(subset="item").astype({"item": np.uint32})
    genome.attrs["tags"] = names
    genome.to_parquet(out / "genome.parquet", compression="zstd", index=False)


def _pandas_movies(folder: Path) -> Any:
    """Titles, genres and user tags; taking a title apart and cleaning a tag are the package's own functions."""
    import pandas as pd

    from ilm_lightning.data.movielens import clean_genres
    from ilm_lightning.data.tags import clean_tag
    from ilm_lightning.data.titles import parse_title, title_group

    movies = pd.read_csv(folder / "movies.csv", dtype=str, keep_default_na=False)
    parsed = [parse_title(title) for title in movies["title"]]
    items = pd.DataFrame({"item_id": movies["movieId"], "title": [p.title for p in parsed]})
    items["year"] = pd.array([p.year for p in parsed], dtype="Int32")
    items["genres"] = [clean_genres(genres.split("|")) for genres in movies["genres"]]
    items["aliases"] = [list(p.aliases) for p in parsed]
    items["group"] = [title_group(p.title, p.year, i) for p, i in zip(parsed, movies["movieId"], strict=True)]
    columns = ["userId", "movieId", "tag"]
    tags = pd.read_csv(folder / "tags.csv", dtype={"tag": str}, keep_default_na=False, usecols=columns)
    tags["tag"] = tags["tag"].map({raw: clean_tag(raw) for raw in tags["tag"].unique()})
    tags = tags[tags["tag"] != ""].drop_duplicates()
    anywhere = tags[["userId", "tag"]].drop_duplicates()["tag"].value_counts().rename("anywhere")
    counted = tags.groupby(["movieId", "tag"]).size().rename("here").reset_index().join(anywhere, on="tag")
    ordered = counted.sort_values(["movieId", "here", "anywhere", "tag"], ascending=[True, False, False, True])
    best = ordered.groupby("movieId").head(PER_ITEM).groupby("movieId")["tag"].agg(list)
    best.index = best.index.astype(str)
    items["tags"] = items["item_id"].map(best)
    items["tags"] = items["tags"].map(lambda tags: tags if isinstance(tags, list) else [])
    return items


def _genome_names(folder: Path) -> list[str]:
    import pandas as pd

    from ilm_lightning.data.tags import clean_tag

    table = pd.read_csv(folder / "genome-tags.csv", dtype={"tag": str}, keep_default_na=False).sort_values("tagId")
    return [clean_tag(tag, longest=None) for tag in table["tag"]]


def _pandas_genome(folder: Path, row_of: Any) -> Any:
    import numpy as np
    import pandas as pd

    dtypes = {"movieId": np.uint32, "tagId": np.uint32, "relevance": np.float32}
    scores = pd.read_csv(folder / "genome-scores.csv", dtype=dtypes)
    tag_ids = pd.read_csv(folder / "genome-tags.csv")["tagId"].sort_values()
    position = pd.Series(np.arange(len(tag_ids), dtype=np.uint16), index=tag_ids.astype(np.uint32))
    scores["item"] = scores["movieId"].map(row_of).astype(np.uint32)
    scores["tag"] = scores["tagId"].map(position).astype(np.uint16)
    return scores[["item", "tag", "relevance"]].sort_values(["item", "tag"])


def als(prepared: Path, engine: str) -> None:
    """Fit the behavioral vectors on prepared tables with the package's defaults (k = 64, 15 iterations)."""
    import logging

    import numpy as np

    from ilm_lightning.data.tables import Interactions
    from ilm_lightning.embeddings.behavioral import fit_als, fit_implicit

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    fit = {"own": fit_als, "implicit": fit_implicit}[engine]
    items, users = fit(Interactions.read(prepared / "interactions.parquet"))
    np.savez(prepared / f"{engine}.npz", items=items, users=users)


def objective(prepared: Path, engine: str) -> float:
    """What every engine minimises, at its factors."""
    import numpy as np
    from als import objective_of

    from ilm_lightning.data.tables import Interactions
    from ilm_lightning.embeddings.behavioral import ALPHA, REGULARIZATION

    found = np.load(prepared / f"{engine}.npz")
    matrix = Interactions.read(prepared / "interactions.parquet").matrix()
    return round(objective_of(matrix, found["users"], found["items"], ALPHA, REGULARIZATION), 1)


def measured(arguments: list[str], threads: int) -> dict[str, float]:
    """Run this file in a process of its own; wall and processor seconds, peak resident memory in GiB."""
    environment = {**os.environ, "POLARS_MAX_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as told:
        # its own word: what the kernel says of a child counts what the parent held when it started it
        peak = Path(told) / "peak"
        start = time.perf_counter()
        command = [sys.executable, __file__, *arguments, "--peak", str(peak)]
        process = os.posix_spawn(sys.executable, command, environment)
        _, status, usage = os.wait4(process, 0)
        wall = time.perf_counter() - start
        if status:
            raise SystemExit(f"{' '.join(arguments)} failed")
        peak_gib = float(peak.read_text())
    return {"wall_s": round(wall, 2), "cpu_s": round(usage.ru_utime + usage.ru_stime, 2), "peak_gib": peak_gib}


def compare(one: Path, two: Path) -> dict[str, bool]:
    """Whether both ways wrote the same tables; columns that the catalogue adds empty are left aside."""
    import polars as pl

    from ilm_lightning.data.genome import GenomeScores
    from ilm_lightning.data.tables import Interactions

    equal = {}
    for name in TABLES:
        mine, theirs = (pl.read_parquet(folder / f"{name}.parquet") for folder in (one, two))
        theirs = theirs.select(pl.col(column).cast(mine[column].dtype) for column in theirs.columns)
        equal[name] = mine.select(theirs.columns).equals(theirs)
    attributes = [json.loads(pl.read_parquet_metadata(two / f"{n}.parquet")["PANDAS_ATTRS"]) for n in TABLES[::2]]
    equal["user_ids"] = Interactions.read(one / "interactions.parquet").user_ids == attributes[0]["user_ids"]
    equal["genome_tags"] = GenomeScores.read(one / "genome.parquet").tags == attributes[1]["tags"]
    return equal


def versions() -> dict[str, str]:
    """What the numbers were made with."""
    from importlib.metadata import version

    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("polars", "pandas", "pyarrow", "implicit")},
    }


def compare_ways(folder: Path, turns: int, threads: int, engines: list[str]) -> dict[str, Any]:
    """Run both ways in turn and report."""
    # here: what it imports would count in the ways, which are processes of this file
    from harness import commit, machine

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for path in folder.iterdir():
        # what is measured is the work, not a cold disk
        path.read_bytes()
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "pandas": []}
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(turns):
            for way in ("ours", "pandas") if turn % 2 == 0 else ("pandas", "ours"):
                out = Path(scratch) / way
                out.mkdir(exist_ok=True)
                runs[way].append(measured(["--way", way, str(folder), "--out", str(out)], threads))
                print(way, runs[way][-1], file=sys.stderr)
        equal = compare(Path(scratch) / "ours", Path(scratch) / "pandas")
        prepared = Path(scratch) / "ours"
        fits = {engine: measured(["--way", "als", str(prepared), "--als", engine], threads) for engine in engines}
        for engine, fit in fits.items():
            fit["objective"] = objective(prepared, engine)
    wall = {way: statistics.median(run["wall_s"] for run in own) for way, own in runs.items()}
    generated = folder / "generated.json"
    return {
        "data": json.loads(generated.read_text()) if generated.is_file() else str(folder.name),
        "commit": commit(),
        "machine": machine(),
        "threads": threads,
        "load_average": os.getloadavg()[0],
        "versions": versions(),
        **runs,
        "wall_s": wall,
        "times_faster": round(wall["pandas"] / wall["ours"], 2),
        "equal": equal,
        "als_k64_15_iterations": fits,
    }


def main() -> None:
    """Read the command line; ``--way`` is for the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="the files of ml-25m, real or generated")
    parser.add_argument("--out", type=Path, help="JSON file of the result")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--als", nargs="+", default=[], choices=("implicit", "own"), help="also fit ALS on the result")
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=("ours", "pandas", "als"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way == "als":
        als(arguments.folder, arguments.als[0])
    elif arguments.way:
        (ours if arguments.way == "ours" else in_pandas)(arguments.folder, arguments.out)
    if arguments.way:
        from ilm_lightning.hardware import peak_memory

        arguments.peak.write_text(str(peak_memory()))
    else:
        result = compare_ways(arguments.folder, arguments.turns, arguments.threads, arguments.als)
        text = json.dumps(result, indent=1)
        print(text)
        if arguments.out:
            arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
