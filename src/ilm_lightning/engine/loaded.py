"""A finished run opened again: its items, its vectors, its model; what the commands that use a run share."""

import difflib
import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilm_lightning.engine.config import Config
from ilm_lightning.engine.runs import stored_config

if TYPE_CHECKING:
    from ilm_lightning.assets import ResolvedAsset
    from ilm_lightning.data.tables import ItemCatalog
    from ilm_lightning.embeddings.vectors import ItemVectors
    from ilm_lightning.lm import Generation

ITEMS, MODEL, SPLIT, USERS, OWN_TASKS = "items", "model", "split.json", "users.parquet", "tasks.yaml"
"""Where a run folder keeps its catalogue and vectors, its model, and beside the items their split and the users."""
NEEDED = (f"{MODEL}/config.json", f"{ITEMS}/items.parquet", "config.yaml")
"""Files of a finished run that was trained on language tasks."""


class RunError(ValueError):
    """A run folder, a question or an argument that cannot be used, and what to do."""


def quiet() -> None:
    """Keep the libraries' remarks off the screen of a command that answers in a few lines."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def find_run(given: str | None, outputs: str = "outputs") -> Path:
    """The folder of a finished run.

    Args:
        given: the folder, or the run's name under ``outputs``; None takes the run that was finished last.
        outputs: folder of runs.

    Returns:
        The folder, which holds a model, items and a configuration.

    Raises:
        RunError: there is no such run, or it was not finished; those that were are named.
    """
    finished = [path for path in Path(outputs).glob("*") if not _lacking(path)]
    finished.sort(key=lambda path: (path / MODEL / "config.json").stat().st_mtime)
    if given is None:
        if not finished:
            raise RunError(f"no finished run under {outputs}/; give run=FOLDER, or train one: make train")
        return finished[-1]
    for folder in (Path(given), Path(outputs) / given):
        if folder.is_dir():
            lacking = _lacking(folder)
            if lacking == NEEDED[1] and (folder / "artifacts.json").is_file():
                raise RunError(
                    f"{folder} was trained to recommend: ask it with python -m ilm_lightning.recommend run={folder}"
                )
            if lacking:
                raise RunError(f"{folder} holds no finished run ({lacking} is missing); {_named(finished)}")
            return folder
    raise RunError(f"{given} holds no finished run: there is no such folder; {_named(finished)}")


def _named(finished: Sequence[Path]) -> str:
    shown = ", ".join(str(path) for path in finished[-3:])
    return f"finished are {shown}" if shown else "give a folder under outputs/"


def _lacking(folder: Path) -> str:
    return next((name for name in NEEDED if not (folder / name).is_file()), "")


@dataclass
class LoadedRun:
    """A run's data, and its model once ``load_model`` was called.

    Attributes:
        folder: the run folder.
        config: what it was trained with.
        catalog: the items.
        split: per item ``train``, ``validation`` or ``test``; empty where the run does not say.
        model: the item-language model.
        tokenizer: its prompt tokenizer.
    """

    folder: Path
    config: Config
    catalog: "ItemCatalog"
    split: list[str]
    model: Any = None
    tokenizer: Any = None

    @cached_property
    def vectors(self) -> "ItemVectors":
        """The vectors of the run's encoder, read when they are first asked for.

        Raises:
            ValueError: a damaged file, or vectors of other items.
        """
        from ilm_lightning.embeddings.vectors import ItemVectors

        vectors = ItemVectors.load(self.folder / ITEMS)
        wanted = len(self.catalog)
        if vectors.n_items != wanted:
            raise RunError(
                f"{self.folder}: {vectors.n_items} vectors for {wanted} items; run the training command again"
            )
        return vectors

    def prompt_suffix(self, labels: Sequence[str]) -> str:
        """What follows every prompt where the run was trained with titles in the prompt."""
        return " " + " ".join(labels) if self.config.tasks.title_in_prompt else ""

    def language_model(self) -> "ResolvedAsset":
        """The very language model that the run was trained on: of a hub's branch, the commit of that day."""
        from ilm_lightning.assets import resolve
        from ilm_lightning.assets.hub import hub_name

        name = self.config.lm.name
        from ilm_lightning.lm.portable import read_config

        trained_on = read_config(self.folder / MODEL)["lm"]["name"]
        exact = hub_name(trained_on) is not None and not Path(name).expanduser().exists()
        return resolve(trained_on if exact else name, overrides=self.config.assets)

    def load_model(self) -> None:
        """Load the language model with the run's weights; the first call takes seconds, the others nothing."""
        if self.model is not None:
            return
        # libraries and weights take half a minute on a slow machine
        sys.stderr.write(f"loading the language model and the weights of {self.folder}\n")
        from ilm_lightning.engine.stages.context import lm_dtype
        from ilm_lightning.lm import ItemLanguageModel, load_backbone
        from ilm_lightning.lm.prompts import read_tokenizer

        asset = self.language_model()
        # in the arithmetic of the run's own texts: another one writes other words
        backbone = load_backbone(asset.path, "frozen", lm_dtype(self.config), name=asset.name)
        model = ItemLanguageModel.from_pretrained(self.folder / MODEL, backbone).merge_lora()
        reads, held = dict(model.adapter.source_dims), self.vectors.dims
        if reads != held:
            raise RunError(
                f"{self.folder}: the model reads {reads}, the items hold {held}; run the training command again"
            )
        self.model = model
        self.tokenizer = read_tokenizer(asset.path, model.num_queries)

    def write(
        self, prompts: Sequence[str], slots: Sequence[Sequence[Sequence[int]]], collator: Any, longest: int = 96
    ) -> "Generation":
        """Answer prompts greedily.

        Args:
            prompts: texts with ``{item}`` markers.
            slots: per prompt and marker the rows of the collator's vectors.
            collator: holds the item vectors.
            longest: the most tokens of an answer.

        Returns:
            One text a prompt.
        """
        from ilm_lightning.lm import generate

        rows = [
            {"example_id": str(place), "prompt": prompt, "slots": slot}
            for place, (prompt, slot) in enumerate(zip(prompts, slots, strict=True))
        ]
        examples = self.tokenizer.encode(rows)
        return generate(self.model, examples, collator, self.tokenizer, longest, 16, "answering")


def open_run(folder: Path) -> LoadedRun:
    """Read a run's configuration and catalogue, which takes no time; vectors and model wait until they are needed.

    Args:
        folder: from ``find_run``.

    Returns:
        The run.

    Raises:
        ValueError: a damaged file.
    """
    from ilm_lightning.data.tables import ItemCatalog

    config = stored_config(folder)
    catalog = ItemCatalog.read(folder / ITEMS / "items.parquet")
    path = folder / ITEMS / SPLIT
    try:
        split = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}); the run's training command writes it anew") from error
    return LoadedRun(folder, config, catalog, split)


def task_prompts(run: LoadedRun) -> dict[str, str]:
    """The tasks that a run was trained on, the user's own ones included.

    Args:
        run: the run.

    Returns:
        Per task the phrasing that was scored.
    """
    from ilm_lightning.engine.stages.figure1 import task_names
    from ilm_lightning.tasks.elm import INTERPOLATION, PROMPTS, phrasings
    from ilm_lightning.tasks.elm.own import read_own_tasks

    tasks = run.config.tasks
    # tasks with histories or users in their prompts cannot be asked about one item
    known = {task: PROMPTS[task][0] for task in task_names(run.config)[0]}
    if tasks.interpolation == "two_items" and INTERPOLATION in known:
        known[INTERPOLATION] = phrasings(INTERPOLATION, 2)[0]
    path = run.folder / ITEMS / OWN_TASKS
    if path.is_file():
        own = read_own_tasks(path, check_targets=False)
        known |= {name: task.phrasings[0] for name, task in own.tasks.items()}
    return {task: prompt for task, prompt in known.items() if not tasks.names or task in tasks.names}


def told_words(tokens: Sequence[Sequence[tuple[str, float]]], count: int = 3) -> str:
    """Soft tokens as their nearest words, equal neighbours told once.

    Args:
        tokens: per soft token its words with their cosines.
        count: words a token.

    Returns:
        One line.

    >>> told_words([[("war", 0.2), ("film", 0.1)], [("war", 0.3), ("film", 0.2)], [("love", 0.1)]])
    'war film (x2) | love'
    """
    texts = (" ".join(word for word, _ in token[:count]) for token in tokens)
    runs = [(text, len(list(group))) for text, group in groupby(texts)]
    return " | ".join(text if size == 1 else f"{text} (x{size})" for text, size in runs)


def nearest_name(name: str, known: Sequence[str]) -> str:
    """A hint at the name that was probably meant, empty where none is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def parse_arguments(arguments: Sequence[str], known: Sequence[str], usage: str, first: str = "run") -> dict[str, str]:
    """Read ``key=value`` arguments; one without a key in front is the run.

    Args:
        arguments: of the command line.
        known: keys that the command takes.
        usage: printed below an error.
        first: the key that a leading bare argument stands for.

    Returns:
        The values by key.

    Raises:
        RunError: an unknown or repeated key.
    """
    options: dict[str, str] = {}
    for place, argument in enumerate(arguments):
        key, sign, value = argument.partition("=")
        if not sign and place == 0:
            key, value = first, argument
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]}=?" if near and sign else ""
            raise RunError(f"unknown argument {argument}{hint}\n{usage}")
        if key in options:
            raise RunError(f"{key}= is given twice")
        options[key] = value
    return options


def whole_number(options: dict[str, str], key: str, otherwise: int) -> int:
    """An argument that must be a whole number above 0.

    Raises:
        RunError: it is none.
    """
    text = options.get(key, str(otherwise))
    # isdigit() is true of ² too; more digits than nine fit no tensor
    if not (text.isdecimal() and len(text) <= 9) or int(text) < 1:
        raise RunError(f"{key}={text} is no number above 0 of at most nine digits")
    return int(text)
