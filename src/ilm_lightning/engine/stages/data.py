"""Stages without training: raw files to tables, tables to vectors, tables to examples."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ilm_lightning.data.errors import DataError
from ilm_lightning.data.tables import Interactions, ItemCatalog
from ilm_lightning.data.tags import TagSettings
from ilm_lightning.engine.artifacts import Artifact, file_hash, source_hash, write_json
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.example_check import check_examples, counts_by_split
from ilm_lightning.engine.stages.figure1 import JUDGED, figure1_examples, judged_settings, task_names, without_judged
from ilm_lightning.engine.stages.own_tasks import own_tasks, with_own_tasks

if TYPE_CHECKING:
    from ilm_lightning.data.genome import GenomeScores
    from ilm_lightning.tasks.elm.build import Draft


def prepare(context: Context) -> Artifact:
    """Raw files to ``interactions`` and ``items`` tables (with a tag genome ``genome`` too) and the split of movies."""
    config = context.config.data
    if config.kind == "openp5":
        from ilm_lightning.engine.stages.openp5 import prepare_openp5

        return prepare_openp5(context)
    paths, inputs = _raw_files(context)
    tags = TagSettings(
        config.tags_per_item, config.genome_tags_per_item, config.genome_min_relevance, config.genome_in_text
    )
    settings = {
        "code": source_hash("data"),
        "kind": config.kind,
        "film_facts": config.film_facts,
        "min_ratings": config.min_ratings,
        "split_seed": config.split_seed,
        "split": config.split,
        "columns": dict(config.columns),
        "tags": asdict(tags),
        "list_separator": config.list_separator,
    }
    if (judged := judged_settings(context.config)) is not None:
        settings["judged"] = judged

    def build(folder: Path) -> dict[str, Any]:
        from ilm_lightning.data.load import load_dataset
        from ilm_lightning.data.prepare import prepare as prepare_dataset
        from ilm_lightning.data.splits import split_items, visible_interactions

        columns = dict(config.columns) if config.kind == "custom" else None
        parts = config.list_separator
        dataset = load_dataset(config.kind, paths, columns=columns, tags=tags, list_separator=parts)
        dataset = prepare_dataset(dataset, config.min_ratings)
        dataset.catalog.write(folder / "items.parquet")
        if dataset.genome is not None:
            dataset.genome.write(folder / "genome.parquet")
        split = split_items(dataset.catalog, config.split_seed, rule=config.split)
        visible = visible_interactions(dataset.interactions, split, config.split)
        if judged is not None:
            visible, apart = without_judged(visible, judged, dataset.name)
            apart.write(folder / JUDGED)
        visible.write(folder / "interactions.parquet")
        write_json(folder / "split.json", split.tolist())
        names, counts = np.unique(split, return_counts=True)
        return {
            **dataset.report,
            "data": dataset.name,
            "split": dict(zip(names.tolist(), counts.tolist(), strict=True)),
            "terms": dataset.terms,
        }

    return context.store.get("prepare", settings, inputs, build)


def _raw_files(context: Context) -> tuple[dict[str, Path], dict[str, str]]:
    config = context.config.data
    paths: dict[str, Path] = {}
    if config.kind == "custom":
        assert config.interactions is not None
        assert config.items is not None
        paths = {"interactions": Path(config.interactions), "items": Path(config.items)}
        inputs = {name: file_hash(path) for name, path in paths.items()}
    elif config.path is not None:
        paths = {"ratings": Path(config.path)}
        inputs = {"ratings": _folder_hash(Path(config.path))}
    else:
        asset = context.asset(config.name)
        paths, inputs = {"ratings": asset.path}, {"ratings": asset.sha256}
    if config.film_facts:
        facts = context.asset("film-facts")
        paths["film_facts"], inputs["film_facts"] = facts.path, facts.sha256
    return paths, inputs


def _folder_hash(path: Path) -> str:
    # readers open the files beside a named one as well
    folder = path.parent if path.is_file() else path
    return ",".join(f"{p.name}:{file_hash(p)}" for p in sorted(folder.iterdir()) if p.is_file())


def examples(context: Context, prepared: Artifact, embedded: Artifact, taught: Artifact | None = None) -> Artifact:
    """The prompts and targets of the language tasks.

    Args:
        context: the run.
        prepared: tables.
        embedded: vectors, for nearest neighbours.
        taught: targets of a language model; None for the ``facts`` teacher.
    """
    tasks = context.config.tasks
    settings: dict[str, Any] = {
        "code": [source_hash("tasks.elm"), source_hash("tasks.figure1")],
        "kind": tasks.kind,
        "teacher": context.config.teacher.kind,
        "names": sorted(tasks.names),
        "neighbour_space": tasks.neighbour_space,
        "interpolation": tasks.interpolation,
    }
    elm, figure1 = task_names(context.config)
    if figure1:
        settings |= {"history": tasks.user_history, "candidates": tasks.candidates}

    own = own_tasks(context.config)
    if own is not None:
        settings["own"] = own.digest

    inputs: dict[str, Artifact | str] = {"prepare": prepared, "embed": embedded}

    def build(folder: Path) -> dict[str, Any]:
        tables = read_tables(prepared)
        labels = _labels(context, tables[1], figure1)
        parts = [_elm_examples(context, prepared, embedded, taught)] if elm or not figure1 else []
        parts += [figure1_examples(context, prepared, tables, figure1, labels)] if figure1 else []
        frame = pl.concat([part for part, _ in parts], how="diagonal_relaxed")
        report = {key: value for _, one in parts for key, value in one.items()}
        report["teacher"] = " and ".join(dict.fromkeys(one["teacher"] for _, one in parts))
        for key in ("examples", "left_out"):
            report[key] = {name: value for _, one in parts for name, value in one[key].items()}
        if own is not None:
            theirs = _labels(context, tables[1], list(own.tasks))
            frame, report = with_own_tasks(context.config, embedded, tables[1:], (frame, report), own, theirs)
        frame.write_parquet(folder / "examples.parquet")
        asked = {} if taught is None else {"taught": taught.report}
        return {**report, **asked, "splits": counts_by_split(frame)}

    made = context.store.get("tasks", settings, inputs if taught is None else {**inputs, "teach": taught}, build)
    check_examples(made, context.config.evaluation.split)
    return made


def _elm_examples(
    context: Context, prepared: Artifact, embedded: Artifact, taught: Artifact | None
) -> tuple[pl.DataFrame, dict[str, Any]]:
    from ilm_lightning.tasks.elm import build_examples

    layout = example_layout(context, prepared, embedded)
    written = {} if taught is None else taught_targets(taught, layout["catalog"])
    return build_examples(**layout, interpolation=context.config.tasks.interpolation, **written)


def example_layout(context: Context, prepared: Artifact, embedded: Artifact) -> dict[str, Any]:
    """What lays out the examples of the 24 tasks before their targets are written: arguments of ``draft_examples``."""
    from ilm_lightning.tasks.elm import NEIGHBOUR_TASKS, nearest_neighbours

    names, _ = task_names(context.config)
    _, catalog, split = read_tables(prepared)
    neighbours = None
    if set(names) & set(NEIGHBOUR_TASKS):
        # brings torch, which preparing data does without
        from ilm_lightning.embeddings.vectors import ItemVectors

        space = ItemVectors.load(embedded.path).sources[context.config.tasks.neighbour_space]
        neighbours = nearest_neighbours(space, split, catalog.frame["group"].to_list())
    labels = _labels(context, catalog, names)
    return {"catalog": catalog, "split": split, "neighbours": neighbours, "seed": 0, "tasks": names, "labels": labels}


def taught_targets(taught: Artifact, catalog: ItemCatalog) -> dict[str, Any]:
    """The targets that a language model gave, and its name, as ``build_examples`` takes them."""
    from ilm_lightning.tasks.elm.grammar import Written
    from ilm_lightning.tasks.teachers.lesson import NOT_ASKED

    table = pl.read_parquet(taught.path / "targets.parquet", columns=["example_id", "target", "reason"])
    known = {name: (target, reason) for name, target, reason in table.iter_rows()}
    items = list(catalog)

    def write(draft: "Draft") -> Written | str:
        target, reason = known.get(draft.example_id(items), (None, NOT_ASKED))
        return str(reason) if target is None else Written(target, frozenset())

    return {"teacher": taught.report["teacher"], "write": write}


def _labels(context: Context, catalog: ItemCatalog, names: Sequence[str]) -> dict[str, np.ndarray[Any, Any]] | None:
    """Each task's own split under the ``paper`` rule; None where the movies' split holds for all tasks."""
    from ilm_lightning.data.splits import split_task

    if context.config.data.split != "paper":
        return None
    return {name: split_task(catalog, name, context.config.data.split_seed) for name in names}


def read_tables(prepared: Artifact) -> tuple[Interactions, ItemCatalog, np.ndarray[Any, np.dtype[np.str_]]]:
    """Read what ``prepare`` wrote.

    Returns:
        Interactions, catalogue, and per item ``train``, ``validation`` or ``test``.
    """
    split = np.array(json.loads((prepared.path / "split.json").read_text(encoding="utf-8")))
    interactions = Interactions.read(prepared.path / "interactions.parquet", checked=True)
    return interactions, ItemCatalog.read(prepared.path / "items.parquet", checked=True), split


def read_genome(prepared: Artifact) -> "GenomeScores":
    """Read the genome scores that ``prepare`` wrote.

    Raises:
        DataError: the data have no tag genome.
    """
    from ilm_lightning.data.genome import GenomeScores

    path = prepared.path / "genome.parquet"
    if not path.is_file():
        raise DataError(f"{prepared.report['data']} has no tag genome; tasks on genome tags need data=ml_25m")
    return GenomeScores.read(path)


def read_examples(made: Artifact) -> pl.DataFrame:
    """Read the examples that ``tasks`` wrote; columns of tasks that are not among them are empty."""
    from ilm_lightning.tasks.figure1 import FIGURE1_SCHEMA

    frame = pl.read_parquet(made.path / "examples.parquet")
    absent = {name: dtype for name, dtype in FIGURE1_SCHEMA.items() if name not in frame.columns}
    return frame.with_columns(pl.lit(None, dtype=dtype).alias(name) for name, dtype in absent.items())


def training_examples(
    frame: pl.DataFrame, catalog: ItemCatalog, split: np.ndarray[Any, np.dtype[np.str_]]
) -> pl.DataFrame:
    """Take the examples to learn from: the one gate to phase 2, constant answers and copied targets.

    Args:
        frame: all examples.
        catalog: the items.
        split: per item its split; under ``data.split=paper`` all items are ``train``, and what is checked is that no
            task trains on a movie that it is scored on.

    Returns:
        The examples of the training split.

    Raises:
        LeakError: text of a held-out movie would enter training.
    """
    from ilm_lightning.data.splits import assert_no_example_leak, assert_no_text_leak

    train = frame.filter(pl.col("split") == "train")
    read = pl.concat([train["items"].explode(), train["reads"].explode()]).drop_nulls()
    assert_no_text_leak(split, read.unique().to_list(), catalog)
    groups = catalog.frame["group"].to_list()
    units = [
        groups[item] if user is None else f"user {user}"
        for user, item in frame.select("user", pl.col("items").list.first()).iter_rows()
    ]
    assert_no_example_leak(frame["task"].to_list(), units, frame["split"].to_list())
    return train
