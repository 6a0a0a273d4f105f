"""Checks of the settings of recommendation."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ilm_lightning.engine.checks import ConfigError, one_of, positive
from ilm_lightning.engine.config import Config, DataConfig
from ilm_lightning.engine.config_baselines import SasrecConfig
from ilm_lightning.engine.validate_custom import SMALL_BYTES

if TYPE_CHECKING:
    from ilm_lightning.tasks.openp5 import PromptSets

HISTORIES = ("expanded", "shared", "blocks")
LIST_LENGTH = 10
"""Longest K of HR@K and NDCG@K."""
BASELINES = ("markov", "popularity", "item_knn", "als", "sasrec")


def validate_tasks(config: Config) -> None:
    """Check that data and tasks belong together, and the settings of recommendation.

    Raises:
        ConfigError: names the key, its value and what to set instead.
    """
    tasks = config.tasks
    if (tasks.kind == "openp5") != (config.data.kind == "openp5"):
        raise ConfigError(
            f"tasks.kind={tasks.kind} with data.kind={config.data.kind}: recommendation needs data in OpenP5's format; "
            "give data=openp5_… and tasks=openp5 together"
        )
    one_of("tuning.history", config.tuning.history, HISTORIES)
    if tasks.kind != "openp5":
        _check_language_tasks(config)
        return
    for key, value in (("names", f"[{','.join(tasks.names)}]" if tasks.names else None), ("file", tasks.file)):
        if value is not None:
            raise ConfigError(
                f"tasks.{key}={value}: recommendation's tasks are those of its prompt file; set tasks.prompts to one "
                f"that holds only the lines you want, and leave tasks.{key} out"
            )
    if config.tuning.history == "blocks" and not 1 <= config.tuning.history_block <= tasks.history:
        raise ConfigError(
            f"tuning.history_block={config.tuning.history_block} must lie between 1 and tasks.history={tasks.history}, "
            "or windows would be empty"
        )
    if not tasks.prompts or not Path(tasks.prompts).is_file():
        raise ConfigError(f"tasks.prompts={tasks.prompts}: there is no such file; give OpenP5's prompt.txt or your own")
    check_ranking(config)
    one_of("tasks.user_vector", tasks.user_vector, ("none", "fold_in", "full", "history"))
    if (tasks.user_vector == "history") and config.adapter.kind != "perceiver":
        raise ConfigError(
            f"tasks.user_vector=history gives a user as many vectors as items, which adapter={config.adapter.kind} "
            "cannot read; set adapter=perceiver, or tasks.user_vector=fold_in for one vector"
        )
    positive(tasks__history=tasks.history)
    prompts = _check_lists(config)
    _check_head(config)
    if not any(can_learn(config, prompt.task) for prompt in prompts.training):
        raise ConfigError(_nothing_to_train(config))
    for name in config.evaluation.prompt_sets:
        if not any(is_trained_on(config, task) for task in prompts.tasks(name)):
            raise ConfigError(
                f"evaluation.prompt_sets holds {name}, whose prompts teach a frozen language model nothing: set "
                "tuning=lora or tuning=full, or give prompts with {history}"
            )
    if config.encoder.name != "behavioral" and config.data.items is None:
        raise ConfigError(f"encoder={config.encoder.name} needs item texts, and data.items is null: encoder=behavioral")


def _check_language_tasks(config: Config) -> None:
    """What only recommendation has is off."""
    if config.tasks.head != "text":
        raise ConfigError(f"tasks.head={config.tasks.head}: only recommendation ranks items; give tasks=openp5 too")
    if config.tuning.history != HISTORIES[0]:
        raise ConfigError(
            f"tuning.history={config.tuning.history}: only recommendation's prompts hold histories; "
            "leave it out, or give tasks=openp5"
        )


def can_learn(config: Config, task: str) -> bool:
    """Whether phase 2 can learn from a task's prompts; with a frozen language model soft tokens or an item head do."""
    tasks = config.tasks
    items = tasks.soft_tokens and task == "sequential"
    return config.tuning.mode != "frozen" or items or tasks.user_vector != "none" or tasks.head == "item"


def is_trained_on(config: Config, task: str) -> bool:
    """Whether a run learned from a task's prompts, in phase 2 or while the language model read them without vectors."""
    return can_learn(config, task) or config.tuning.lm_first_steps > 0


def _nothing_to_train(config: Config) -> str:
    if not config.tasks.soft_tokens:
        what = "tasks.soft_tokens=false with a frozen language model leaves nothing to train"
    else:
        what = f"tasks.prompts={config.tasks.prompts}: straightforward prompts alone hold no item, so with a frozen "
        what += "language model there is nothing to train"
    return f"{what}: set tuning=lora or tuning=full, or tasks.user_vector=fold_in"


def _check_lists(config: Config) -> "PromptSets":
    """For which prompts lists are made, how, and how long they are; returns the prompts."""
    tasks, evaluation = config.tasks, config.evaluation
    assert tasks.prompts is not None
    one_of("evaluation.decoding", evaluation.decoding, ("trie", "free"))
    if not evaluation.prompt_sets:
        raise ConfigError("evaluation.prompt_sets is empty: nothing would be ranked; give seen, unseen or both")
    for name in evaluation.prompt_sets:
        one_of("evaluation.prompt_sets", name, ("seen", "unseen"))
    prompts = _check_prompts(Path(tasks.prompts), evaluation.prompt_sets)
    positive(evaluation__beams=evaluation.beams, evaluation__top_k=evaluation.top_k)
    if evaluation.top_k < LIST_LENGTH:
        raise ConfigError(
            f"evaluation.top_k={evaluation.top_k}: HR@{LIST_LENGTH} and NDCG@{LIST_LENGTH} need lists of {LIST_LENGTH} "
            "items; raise it"
        )
    if evaluation.beams < evaluation.top_k:
        raise ConfigError(
            f"evaluation.beams={evaluation.beams} cannot fill lists of evaluation.top_k={evaluation.top_k}; raise it"
        )
    if evaluation.decoding == "free" and evaluation.filter_seen:
        raise ConfigError("evaluation.filter_seen needs evaluation.decoding=trie: free beams write what they like")
    return prompts


def _check_prompts(path: Path, names: Sequence[str]) -> "PromptSets":
    from ilm_lightning.tasks.openp5 import read_prompts

    prompts = read_prompts(path)
    if "unseen" in names and not prompts.tasks("unseen"):
        raise ConfigError(
            f"evaluation.prompt_sets holds unseen, and tasks.prompts={path} has no unseen prompt for a task that is "
            "trained on: set evaluation.prompt_sets=[seen], or add a line for it"
        )
    return prompts


def _check_head(config: Config) -> None:
    tasks = config.tasks
    one_of("tasks.head", tasks.head, ("text", "item"))
    if tasks.head_sample < 0:
        raise ConfigError(f"tasks.head_sample={tasks.head_sample} must be 0 (all items) or more")
    if tasks.head == "text":
        return
    if config.evaluation.decoding == "free":
        raise ConfigError("tasks.head=item writes no text: leave evaluation.decoding=free to tasks.head=text")
    if config.trainer.strategy == "fsdp":
        raise ConfigError(
            "trainer.strategy=fsdp shares out models that write text; with tasks.head=item take trainer=ddp"
        )
    if config.adapter.kind == "constant":
        raise ConfigError(
            "tasks.head=item compares items by their soft tokens, and adapter=constant gives all the same; take another"
        )


def check_ranking(config: Config) -> None:
    """Check what concerns every ranking, with or without a language model.

    Raises:
        ConfigError: as in `validate_tasks`.
    """
    for name in config.evaluation.baselines:
        one_of("evaluation.baselines", name, BASELINES)
    if "sasrec" in config.evaluation.baselines:
        _check_sasrec(config.evaluation.sasrec)
    positive(evaluation__knn_neighbours=config.evaluation.knn_neighbours)
    if config.evaluation.users < 0:
        raise ConfigError(f"evaluation.users={config.evaluation.users} must be 0 (all) or more")


def _check_sasrec(sasrec: SasrecConfig) -> None:
    numbers = {key: value for key, value in asdict(sasrec).items() if key != "dropout"}
    positive(**{f"evaluation__sasrec__{key}": value for key, value in numbers.items()})
    if not 0.0 <= sasrec.dropout < 1.0:
        raise ConfigError(f"evaluation.sasrec.dropout={sasrec.dropout} must be at least 0 and below 1")
    if sasrec.width % sasrec.heads:
        raise ConfigError(
            f"evaluation.sasrec.width={sasrec.width} must be a multiple of evaluation.sasrec.heads={sasrec.heads}"
        )
    if find_spec("replay") is None:
        raise ConfigError(
            "evaluation.baselines: sasrec needs RePlay: pip install 'ilm-lightning[sasrec]', or leave sasrec out"
        )


def check_raw_folder(config: Config) -> None:
    """See that ILM_DATA names a folder where the configuration reads from it.

    Raises:
        ConfigError: it does not; told before any single file of it is missed.
    """
    root = os.environ.get("ILM_DATA")
    if not root or Path(root).is_dir():
        return
    read = {"data.path": config.data.path, "data.items": config.data.items, "tasks.prompts": config.tasks.prompts}
    below = [f"{key}={path}" for key, path in read.items() if path and Path(path).is_relative_to(root)]
    if below:
        raise ConfigError(
            f"ILM_DATA={root}: there is no such folder, and {below[0]} is read from it; set ILM_DATA to the folder of "
            "the raw data, or give data.path=FOLDER, data.items=TEXTS (or null) and, with tasks=openp5, "
            "tasks.prompts=FILE"
        )


def check_openp5_files(data: DataConfig) -> None:
    """Check where recommendation's data are read from.

    Raises:
        ConfigError: as in `validate_tasks`.
    """
    one_of("data.indexing", data.indexing, ("random", "sequential", "collaborative"))
    if data.path is None:
        raise ConfigError(f"data.kind=openp5 needs data.path=FOLDER with {data.name}'s user_sequence.txt")
    if data.items is not None and not Path(data.items).exists():
        raise ConfigError(f"data.items={data.items}: there is no such file or folder; null leaves items without text")
    if data.clusters < 2 or data.token_size < data.clusters:
        raise ConfigError(
            f"data.clusters={data.clusters}, data.token_size={data.token_size}: needs clusters >= 2, and token_size "
            "not below it"
        )


def check_openp5_rows(config: Config) -> None:
    """Look at the sequences and, where they are small, at every line and its index; large ones are checked when read.

    Raises:
        DataError: a missing file; whatever reading small files would say.
    """
    from ilm_lightning.data.openp5 import open_sequences, read_indexing, source_file

    data = config.data
    assert data.path is not None
    folder = Path(data.path)
    if source_file(folder).stat().st_size > SMALL_BYTES:
        return
    sequences = open_sequences(folder, data.name)
    read_indexing(folder, data.indexing, sequences)
    if config.tasks.kind == "openp5":
        sequences.check_trainable()
