"""What a run leaves behind: metrics, predictions, the portable model with its card, and the vectors that chat needs."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import polars as pl

from ilm_lightning.data.tables import Interactions
from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.engine.account import spent
from ilm_lightning.engine.artifacts import MANIFEST, Artifact, code_version, write_json
from ilm_lightning.engine.card import model_card
from ilm_lightning.engine.loaded import ITEMS, OWN_TASKS, SPLIT, USERS
from ilm_lightning.engine.results import log_results
from ilm_lightning.engine.screen import show_results
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.data import read_tables
from ilm_lightning.engine.stages.evaluate import protocol
from ilm_lightning.engine.stages.tune import MODEL, Inputs
from ilm_lightning.evaluation.answers import ERRORS
from ilm_lightning.hardware import peak_memory
from ilm_lightning.reporting.text import redact


def export(context: Context, inputs: Inputs, tuned: Artifact, evaluated: Artifact) -> float:
    """Fill the run folder and print the results.

    Args:
        context: the run.
        inputs: artefacts before phase 2.
        tuned: phase 2.
        evaluated: scores.

    Returns:
        Semantic consistency over all tasks, own vectors; see `objective` for runs without it.
    """
    folder = context.run_folder
    metrics = json.loads((evaluated.path / "metrics.json").read_text(encoding="utf-8"))
    metrics["protocol"] = protocol(context, inputs, tuned)
    metrics["run"] = run_facts(context, inputs, tuned, evaluated)
    write_json(folder / "metrics.json", metrics)
    copy_file(evaluated.path / "predictions.parquet", folder / "predictions.parquet")
    copy_traces(inputs, tuned, folder)
    log_results(context, metrics)
    copy_folder(tuned.path / MODEL, folder / MODEL)
    (folder / MODEL / "README.md").write_text(model_card(context, inputs, metrics), encoding="utf-8")
    _items(context, inputs, folder / ITEMS)
    _, catalog, _ = read_tables(inputs.prepared)
    words = json.loads((evaluated.path / "words.json").read_text(encoding="utf-8"))
    show_results(metrics, pl.read_parquet(folder / "predictions.parquet"), words, catalog, folder)
    return objective(metrics)


def copy_traces(inputs: Inputs, tuned: Artifact, folder: Path) -> None:
    """Keep losses and samples with the numbers, for when the artefacts are cleared."""
    for made in filter(None, (inputs.pretrained, tuned)):
        for path in sorted((*made.path.glob("history*.csv"), *made.path.glob("samples*.csv"))):
            copy_file(path, folder / path.name)


def objective(metrics: dict[str, Any]) -> float:
    """The one number of a run: semantic consistency, or without prose the first task's main measure, errors below 0."""
    if "sc" in metrics["all"]:
        return float(metrics["all"]["sc"]["own"])
    first = next(iter(metrics["figure1"].values()))
    value = float(first["measures"][first["main"]]["own"])
    return -value if first["main"] in ERRORS else value


def run_facts(context: Context, inputs: Inputs, tuned: Artifact, evaluated: Artifact) -> dict[str, Any]:
    """Where a number came from: artefacts, seconds of each stage, versions, hardware.

    A repeat that found every artefact computed nothing: the facts of the run that did are kept.
    """
    from ilm_lightning.engine.hardware_report import hardware_report
    from ilm_lightning.engine.training import precision_of

    stages = [inputs.prepared, inputs.embedded, inputs.examples, inputs.pretrained, tuned, evaluated]
    # recommendation has no stage of examples: there `prepare` stands in for it
    made = list({artifact.id: artifact for artifact in stages if artifact is not None}.values())
    inputs_of = evaluated.manifest["inputs"]
    facts = {
        "artifacts": [artifact.id for artifact in made],
        "texts": {name.removeprefix("texts_"): value for name, value in inputs_of.items() if name.startswith("texts_")},
        "taught": inputs.examples.report.get("taught"),
        "seconds": {artifact.stage: artifact.manifest["seconds"] for artifact in made}
        | inputs.embedded.report["seconds"]
        | _writing(context, evaluated),
        "built_with": {artifact.stage: artifact.manifest["versions"].get("commit") for artifact in made},
        "versions": code_version(),
        "compute": spent(context.store.root, tuned),
        "phase1_nothing_learned": [] if inputs.pretrained is None else inputs.pretrained.report["nothing_learned"],
        # and what `auto` made of it
        "hardware": hardware_report() | {"precision": precision_of(context.config.trainer)},
        # of this process: less than training took where its artefacts were there
        "peak_memory_gib": peak_memory(),
        **gpu_memory(),
        # a job of a sweep is known by the single command that gives the same run
        "command": redact(os.environ.get("ILM_COMMAND") or " ".join(["python -m ilm_lightning.train", *sys.argv[1:]])),
    }
    earlier = _earlier_facts(context.run_folder)
    kept = earlier.keys() == facts.keys() and all(earlier[key] == facts[key] for key in ("artifacts", "texts"))
    # a file of an earlier version names fewer stages
    told = earlier.get("seconds")
    return earlier if kept and isinstance(told, dict) and told.items() <= facts["seconds"].items() else facts


def _writing(context: Context, evaluated: Artifact) -> dict[str, float]:
    """Seconds of writing the texts, those of the controls too, which evaluation has as artefacts of their own."""
    names = {value for key, value in evaluated.manifest["inputs"].items() if key.startswith("texts_")}
    paths = [context.store.root / name / MANIFEST for name in sorted(names)]
    took = [json.loads(path.read_text(encoding="utf-8"))["seconds"] for path in paths if path.is_file()]
    return {"generate": round(sum(took), 2)} if took else {}


def _earlier_facts(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["run"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def gpu_memory() -> dict[str, float]:
    """Peak of this process's GPU memory in GiB; nothing where it used none."""
    import torch

    if not torch.cuda.is_available():
        return {}
    used = torch.cuda.max_memory_allocated() / 2**30
    return {"peak_gpu_memory_gib": round(used, 2)} if used else {}


def copy_file(source: Path, target: Path) -> None:
    """Copy a file so that a reader sees the old or the new one, never a part."""
    temporary = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, temporary)
    temporary.replace(target)


def copy_folder(source: Path, target: Path) -> None:
    """Put a copy of a folder in the place of another; none is there for a moment, never a part."""
    temporary = target.with_name(f".{target.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source, temporary)
    shutil.rmtree(target, ignore_errors=True)
    temporary.replace(target)


def _items(context: Context, inputs: Inputs, folder: Path) -> None:
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    vectors = ItemVectors.load(inputs.embedded.path).select(context.config.encoder.name)
    vectors.save(temporary)
    copy_file(inputs.prepared.path / "items.parquet", temporary / "items.parquet")
    copy_file(inputs.prepared.path / SPLIT, temporary / SPLIT)
    if context.config.tasks.file is not None:
        copy_file(Path(context.config.tasks.file), temporary / OWN_TASKS)
    # whose rows the users' vectors are: a new item is folded in by its raters' ids
    users = Interactions.read_user_ids(inputs.prepared.path / "interactions.parquet")
    pl.DataFrame({"user": users}, schema={"user": pl.String}).write_parquet(temporary / USERS)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)
