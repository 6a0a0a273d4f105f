"""The chain of stages: prepare, embed, tasks, pretrain, tune, evaluate, export."""

import contextlib
import logging
import os

from ilm_lightning.engine.artifacts import Crew, Store
from ilm_lightning.engine.config import Config
from ilm_lightning.engine.distributed import is_first, processes
from ilm_lightning.engine.input_files import asset_settings, input_digests
from ilm_lightning.engine.interruptions import state_of
from ilm_lightning.engine.models import check_models
from ilm_lightning.engine.runs import run_folder, run_id, store_config, write_status
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.data import examples, prepare
from ilm_lightning.engine.stages.embed import embed
from ilm_lightning.engine.stages.pretrain import pretrain
from ilm_lightning.engine.stages.teach import check_teacher, teach
from ilm_lightning.engine.stages.tune import Inputs
from ilm_lightning.engine.storage import storage_advice
from ilm_lightning.engine.validate_openp5 import validate_tasks

log = logging.getLogger("ilm_lightning")
__all__ = ["check_assets", "open_context", "run_id", "run_pipeline", "set_threads", "train_variant"]


def set_threads(config: Config) -> None:
    """Use the configured number of CPU threads, by default this job's share of the cores, or all of them."""
    import torch

    from ilm_lightning.engine.launcher.resources import THREADS
    from ilm_lightning.hardware import usable_cores

    cores = int(os.environ.get(THREADS, "0")) or usable_cores()
    # processes on CPUs share the cores; with GPUs each has little to do there
    torch.set_num_threads(config.trainer.threads or max(1, cores // config.trainer.devices))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def open_context(config: Config) -> Context:
    """Make the run folder and write the configuration into it."""
    return Context(config, Store(config.artifacts), store_config(config))


def check_assets(context: Context) -> None:
    """Fetch all that the run will need before anything is computed, and look whether the models are of the right kind.

    Raises:
        AssetError: something cannot be had; every source that was tried is named.
        ConfigError: a model that cannot do what it is named for.
    """
    config = context.config
    names = asset_settings(config)
    for name in names.values():
        context.asset(name)
    starts_there = config.adapter.init == "bert" or config.pretraining.init == "bert"
    bert = [name for setting, name in names.items() if setting == "adapter.bert"]
    check_models(context, bert if config.adapter.kind == "qformer" and starts_there else [])
    check_teacher(context)


def train_variant(context: Context) -> Inputs:
    """Run every stage before phase 2."""
    prepared = prepare(context)
    embedded = embed(context, prepared)
    made = examples(context, prepared, embedded, teach(context, prepared, embedded))
    pretrained = None
    if context.config.adapter.init == "pretrained":
        pretrained = pretrain(context, prepared, embedded)
    return Inputs(prepared, embedded, made, pretrained)


def run_language_tasks(context: Context) -> float:
    """Phase 2 on the language tasks, scored by semantic consistency."""
    from ilm_lightning.engine.stages.evaluate import evaluate
    from ilm_lightning.engine.stages.export import export
    from ilm_lightning.engine.stages.phase2 import phase2
    from ilm_lightning.ranks import is_main

    inputs = train_variant(context)
    tuned = phase2(context, inputs)
    evaluated = evaluate(context, inputs, tuned)
    return export(context, inputs, tuned, evaluated) if is_main() else float("nan")


def run_recommendation(context: Context) -> float:
    """Phase 2 on OpenP5's tasks, measured by HR and NDCG."""
    from ilm_lightning.engine.stages import recommend
    from ilm_lightning.engine.stages.baselines import rank_baselines
    from ilm_lightning.engine.stages.openp5 import check_prepared
    from ilm_lightning.engine.stages.recommend_export import export
    from ilm_lightning.ranks import is_main

    prepared = prepare(context)
    check_prepared(context, prepared)
    embedded = embed(context, prepared)
    pretrained = pretrain(context, prepared, embedded) if context.config.adapter.init == "pretrained" else None
    inputs = Inputs(prepared, embedded, prepared, pretrained)
    tuned = recommend.tune(context, inputs)
    ranked = recommend.evaluate(context, inputs, tuned)
    baselines = rank_baselines(context, prepared, embedded)
    return export(context, inputs, tuned, ranked, baselines) if is_main() else float("nan")


def run_pipeline(config: Config) -> float:
    """Run everything and leave the results in the run folder.

    Args:
        config: the validated configuration.

    Returns:
        What sweepers maximise: semantic consistency over all tasks with the items' own vectors (0-100), or HR@10.
    """
    validate_tasks(config)
    set_threads(config)
    main = is_first()
    folder = store_config(config) if main else run_folder(config)
    log.info("run       %s", folder)
    if main:
        write_status(folder, "running")
    inputs: dict[str, str] = {}
    try:
        if main:
            # before anything is read: what changes meanwhile makes the run one to do again
            inputs = input_digests(config)
        with processes(config.trainer, folder) as crew, storage_advice(folder, "outputs"):
            objective = _stages(Context(config, Store(config.artifacts, crew), folder), crew)
    except BaseException as error:
        if main:
            # on a full disk the error itself says more than that this could not be written
            with contextlib.suppress(OSError):
                write_status(folder, state_of(error), error=f"{type(error).__name__}: {error}")
        raise
    if main:
        write_status(folder, "finished", objective=objective, inputs=inputs)
    return objective


def _stages(context: Context, crew: Crew | None) -> float:
    """All stages, on every process of the run; the store says who builds."""
    if crew is None or crew.is_main():
        context.store.prune()
        check_assets(context)
    if crew is not None:
        # what the first has fetched, the others find
        crew.from_main(None)
    work = run_recommendation if context.config.tasks.kind == "openp5" else run_language_tasks
    return work(context)
