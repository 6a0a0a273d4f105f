"""Run folders whose truth is planted: what the report has to find is known."""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from ilm_lightning.engine.validate import TASKS

EXPERIMENTS: Mapping[str, Mapping[str, Any]] = {
    "elm": {"kind": "mlp", "init": "random", "queries": 1, "mode": "full", "first": 0.25},
    "ilm_mlp": {"kind": "mlp", "init": "random"},
    "ilm_qformer_random": {"init": "random"},
    "ilm_qformer": {},
    "ilm_qformer_full": {"mode": "full"},
    "ilm_qformer_lora": {"mode": "lora"},
}
BASE: Mapping[str, Any] = {
    "name": "ilm_qformer",
    "seed": 0,
    "run": None,
    "outputs": "outputs",
    "artifacts": "artifacts",
    "data": {"name": "invented", "min_ratings": 5, "split_seed": 0},
    "encoder": {"name": "combined", "text_model": "mini", "als": {"factors": 64}},
    "adapter": {"kind": "qformer", "init": "pretrained", "num_queries": 8, "source_tokens": 1, "bert": "mini"},
    "pretraining": {"losses": ["itc", "itm", "itg", "iic"], "steps": 300, "lr": 1e-4},
    "lm": {"name": "tiny"},
    "tuning": {"mode": "frozen", "steps": 450, "batch_size": 8, "adapter_lr": 1e-3, "lm_lr": 1e-3,
               "adapter_first_share": 0.0, "lora_rank": 16},
    "tasks": {"teacher": "facts"},
    "evaluation": {"movies": 40, "conditions": ["own", "blind"]},
    "trainer": {"precision": "auto", "threads": 0},
    "logger": {"wandb": False},
}  # fmt: skip
HOSTILE = '<script>alert(1)</script> | `x` & "quoted" *bold* [link](javascript:1) $x_1$ \\cmd{}'


def config_of(experiment: str, encoder: str = "combined", seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A configuration as a run stores it; ``changes`` are dotted keys with ``__`` for the dot."""
    config: dict[str, Any] = copy.deepcopy(dict(BASE))
    row = EXPERIMENTS[experiment]
    config |= {"name": experiment, "seed": seed}
    config["encoder"]["name"] = encoder
    config["adapter"] |= {"kind": row.get("kind", "qformer"), "init": row.get("init", "pretrained")}
    config["adapter"]["num_queries"] = row.get("queries", 8)
    config["tuning"] |= {"mode": row.get("mode", "frozen"), "adapter_first_share": row.get("first", 0.0)}
    for key, value in changes.items():
        node = config
        *path, last = key.split("__")
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return config


def predictions_of(
    level: float, seed: int, *, blind: float | None = 40.0, tasks: Sequence[str] = TASKS[:6], movies: int = 40,
    noise: float = 3.0, seed_noise: float = 0.1, second: float | None = None, teacher: str = "facts",
) -> pl.DataFrame:  # fmt: skip
    """Scores of own vectors around ``level``; movies and tasks differ in the same way in every run."""
    shared = np.random.default_rng(123)
    taste = shared.normal(0, 5, (movies, 1)) + shared.normal(0, 4, (1, len(tasks)))
    draw = np.random.default_rng(hash((round(level * 1000), seed)) % 2**32)
    levels = {"own": level + draw.normal(0, seed_noise)} | ({} if blind is None else {"blind": blind})
    places = [(m, task) for m in range(movies) for task in tasks]
    parts = []
    for condition, centre in levels.items():
        values = centre + taste + draw.normal(0, noise if condition == "own" else 0.0, (movies, len(tasks)))
        other = values if second is None else (second if condition == "own" else 10.0) + draw.normal(0, 1, values.shape)
        parts.append(
            pl.DataFrame(
                {
                    "example_id": [f"{task}:{m}" for m, task in places],
                    "task": [task for _, task in places],
                    "movie": [m for m, _ in places],
                    "target": [f"target {teacher} {task} {m}" for m, task in places],
                    # the blind control says one thing of all movies
                    "generated": [
                        f"text of {blind} {task}"
                        if condition == "blind"
                        else f"text of {level} {task} {m}, seed {seed}"
                        for m, task in places
                    ],
                    "sc": values.ravel(),
                    "rouge_l": other.ravel(),
                }
            ).with_columns(condition=pl.lit(condition), prompt=pl.lit("Describe {item}."), cut_off=pl.lit(False))
        )
    return pl.concat(parts)


def write_run(
    folder: Path, config: Mapping[str, Any], frame: pl.DataFrame | None, *, state: str = "finished",
    protocol: Mapping[str, Any] | None = None, run: Mapping[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Leave what the export stage leaves."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    (folder / "status.json").write_text(json.dumps({"state": state}), encoding="utf-8")
    if frame is None:
        return folder
    frame.write_parquet(folder / "predictions.parquet")
    (folder / "metrics.json").write_text(json.dumps(metrics_of(frame, config, protocol, run)), encoding="utf-8")
    return folder


def metrics_of(
    frame: pl.DataFrame, config: Mapping[str, Any], protocol: Mapping[str, Any] | None, run: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Means as the evaluate stage takes them, protocol as it states it."""
    per_task = frame.group_by("task", "condition").agg(pl.col("sc").mean())
    tasks: dict[str, Any] = {}
    for task, condition, mean in per_task.iter_rows():
        tasks.setdefault(task, {"sc": {}})["sc"][condition] = mean
    conditions = frame["condition"].unique().to_list()
    macro = {c: float(np.mean([row["sc"][c] for row in tasks.values()])) for c in conditions}
    return {
        "scorer": "all-MiniLM-L6-v2",
        "n_movies": frame["movie"].n_unique(),
        "n_examples": frame.filter(pl.col("condition") == "own").height,
        "all": {"sc": macro},
        "tasks": tasks,
        "differences": {"sc": {"best_control": {"mean": 5.0, "low": 4.0, "high": 6.0}}},
        "claims": {"best_control": {"verdict": "confirmed"}},
        "controls": {"best_control": ["shuffled", "blind", "constant"]},
        "protocol": {
            "name": config["name"], "seed": config["seed"], "data": "invented", "teacher": "facts", "split": "test",
            "decoding": "greedy, at most 96 new tokens", "language_model": "tiny", "title_in_prompt": False,
            "encoder": config["encoder"]["name"], "tuning": config["tuning"]["mode"], **(protocol or {}),
        },
        "run": {"seconds": {"pretrain": 33.2, "tune": 600.0}, "command": "ilm_lightning.train", **(run or {})},
    }  # fmt: skip


def planted(
    root: Path, levels: Mapping[tuple[str, str], float], seeds: Sequence[int] = (0, 1, 2), **options: Any
) -> Path:
    """Runs of several rows: (experiment, encoder) -> level."""
    for (experiment, encoder), level in levels.items():
        for seed in seeds:
            frame = predictions_of(level, seed, **options)
            write_run(root / f"{experiment}-{encoder}-{seed}", config_of(experiment, encoder, seed), frame)
    return root
