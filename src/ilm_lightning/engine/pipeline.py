"""The chain of stages: prepare, embed, tasks, pretrain, tune, evaluate, export."""

import logging
import os
from dataclasses import asdict
from pathlib import Path

from ilm_lightning.engine.artifacts import Store, fingerprint, write_json
from ilm_lightning.engine.config import Config
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.data import embed, examples, prepare
from ilm_lightning.engine.stages.pretrain import pretrain
from ilm_lightning.engine.stages.tune import Inputs, tune

log = logging.getLogger("ilm_lightning")

PLACE = ("run", "resume", "outputs", "artifacts", "assets", "logger")
"""Keys that say where and how to report, not what is computed."""


def run_id(config: Config) -> str:
    """Name of the run folder: the given one, or the row's name and the hash of what is computed."""
    if config.run:
        return config.run
    computed = {key: value for key, value in asdict(config).items() if key not in PLACE}
    return f"{config.name}-{fingerprint(computed)[:8]}"


def set_threads(config: Config) -> None:
    """Use the configured number of CPU threads, by default all usable cores."""
    import torch

    from ilm_lightning.hardware import usable_cores

    torch.set_num_threads(config.trainer.threads or usable_cores())
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def check_data(config: Config) -> None:
    """Look at the headers of the user's own files, so that a missing column is told in the first second."""
    from ilm_lightning.data.load import check_files

    data = config.data
    if data.kind == "custom" and data.interactions and data.items:
        paths = {"interactions": Path(data.interactions), "items": Path(data.items)}
        check_files(data.kind, paths, data.columns)
    elif data.path:
        check_files(data.kind, {"ratings": Path(data.path)})


def open_context(config: Config) -> Context:
    """Make the run folder and write the configuration into it."""
    from omegaconf import OmegaConf

    folder = Path(config.outputs) / run_id(config)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".config.yaml.{os.getpid()}"
    OmegaConf.save(OmegaConf.structured(config), temporary)
    temporary.replace(folder / "config.yaml")
    return Context(config, Store(config.artifacts), folder)


def train_variant(context: Context) -> Inputs:
    """Run every stage before phase 2."""
    prepared = prepare(context)
    embedded = embed(context, prepared)
    made = examples(context, prepared, embedded)
    pretrained = None
    if context.config.adapter.init == "pretrained":
        pretrained = pretrain(context, prepared, embedded)
    return Inputs(prepared, embedded, made, pretrained)


def run_pipeline(config: Config) -> float:
    """Run everything and leave the results in the run folder.

    Args:
        config: the validated configuration.

    Returns:
        Semantic consistency over all tasks with the items' own vectors, 0-100.
    """
    from ilm_lightning.engine.stages.evaluate import evaluate
    from ilm_lightning.engine.stages.export import export

    check_data(config)
    set_threads(config)
    context = open_context(config)
    log.info("run       %s", context.run_folder)
    write_json(context.run_folder / "status.json", {"state": "running"})
    try:
        inputs = train_variant(context)
        tuned = tune(context, inputs)
        evaluated = evaluate(context, inputs, tuned)
        objective = export(context, inputs, tuned, evaluated)
    except BaseException as error:
        state = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        write_json(context.run_folder / "status.json", {"state": state, "error": f"{type(error).__name__}: {error}"})
        raise
    write_json(context.run_folder / "status.json", {"state": "finished", "objective": objective})
    return objective
