"""Recommend with a trained run: ``python -m ilm_lightning.recommend run=outputs/… user=ID`` or ``history=ID,ID,…``."""

import json
import logging
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from ilm_lightning.data.openp5 import Indexing, Sequences
    from ilm_lightning.data.tables import ItemCatalog
    from ilm_lightning.engine.artifacts import Artifact
    from ilm_lightning.engine.stages.context import Context
    from ilm_lightning.engine.stages.tune import Inputs

USAGE = """usage: python -m ilm_lightning.recommend run=FOLDER user=ID|history=ITEM,ITEM,… [k=10] [task=sequential]

user is an id of the data set: the history is then all that the user met, the items held out for validation and test
among it. history lists item ids or titles, oldest first, separated by commas (or by | where a title holds a comma).
The language model reads the last items of a history, as many as in training (tasks.history); none of it is recommended.
There are fewer than k rows where fewer items can be ranked, which a line below them says."""
KEYS = {"run", "user", "history", "k", "task"}
NEWCOMER = "(you)"
OUTPUTS = Path("outputs")
NEEDED = ("model/config.json", "config.yaml", "metrics.json", "artifacts.json")
"""Files of a finished run that was trained to recommend."""
SHOWN = 5
"""Items of a history that stand above the list."""


class RecommendError(ValueError):
    """Arguments or a run folder that cannot be used, and what to do."""


@dataclass(frozen=True)
class Recommended:
    """One line of the answer: catalogue row, and log-probability in nats, of the item's text or among all items."""

    row: int
    score: float


@dataclass(frozen=True)
class Answer:
    """What was found for one user.

    Attributes:
        items: the best, best first.
        history: catalogue rows of what the user met, oldest first.
        catalog: the items.
        beams: of the search among the items' texts; None where an item head ranked every item.
    """

    items: list[Recommended]
    history: list[int]
    catalog: "ItemCatalog"
    beams: int | None

    def shortage(self, k: int) -> str:
        """Why there are fewer than ``k`` items; empty where there are as many."""
        if len(self.items) >= k:
            return ""
        met = len(set(self.history))
        left = len(self.catalog) - met
        if len(self.items) == left:
            why = f"the catalogue holds {len(self.catalog):,}, and the {met:,} of the history are not recommended"
        else:
            why = f"of the {left:,} outside the history no more could be ranked"
            why += f" with {self.beams:,} beams; a larger k searches with more" if self.beams else ""
        return f"{len(self.items):,} of the {k:,} asked for: {why}"


def parse(arguments: list[str]) -> dict[str, str]:
    """Read ``key=value`` arguments.

    Raises:
        RecommendError: an unknown key, no run, both or neither of user and history, or an empty history.
        RunError: a k that is no number.
    """
    from ilm_lightning.engine.loaded import whole_number

    options = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    unknown = sorted(set(options) - KEYS) + [a for a in arguments if "=" not in a]
    if unknown or "run" not in options:
        raise RecommendError((f"unknown argument {unknown[0]}\n" if unknown else "which run? ") + USAGE)
    if ("user" in options) == ("history" in options):
        raise RecommendError("give either user=ID or history=ITEM,ITEM,…\n" + USAGE)
    if "history" in options and not _written(options["history"]):
        raise RecommendError("history is empty; name at least one item\n" + USAGE)
    whole_number(options, "k", 10)
    if options.get("task", "sequential") not in ("sequential", "straightforward"):
        raise RecommendError(f"task={options['task']} must be sequential or straightforward")
    return options


def _written(history: str) -> list[str]:
    """The ids and titles of a written history."""
    return [part.strip() for part in history.split("|" if "|" in history else ",") if part.strip()]


def find_items(text: str, sequences: "Sequences", catalog: "ItemCatalog") -> list[int]:
    """Catalogue rows of a written history.

    Args:
        text: item ids or titles, separated by ``|`` or else by commas.
        sequences: knows the ids.
        catalog: knows the titles.

    Raises:
        UnknownItemError: an item that the data set does not hold; the nearest ones are named.
    """
    rows = {item: row for row, item in enumerate(sequences.item_ids)}
    return [rows[part] if part in rows else catalog.find(part) for part in _written(text)]


def find_recommender(given: str) -> Path:
    """The folder of a finished run that was trained to recommend.

    Args:
        given: the folder.

    Raises:
        RecommendError: there is no such folder, or its run is not finished or of another kind; says what to do.
    """
    from ilm_lightning.engine.loaded import ITEMS, nearest_name
    from ilm_lightning.engine.runs import CONFIG, read_status

    folder = Path(given)
    if not folder.is_dir():
        own = OUTPUTS / given
        runs = [str(path.parent) for path in sorted(OUTPUTS.glob(f"*/{CONFIG}"))]
        hint = f"; did you mean {own}?" if own.is_dir() else nearest_name(given, runs)
        raise RecommendError(f"run={given}: there is no such folder{hint or f'; give a folder under {OUTPUTS}/'}")
    lacking = next((name for name in NEEDED if not (folder / name).is_file()), None)
    if lacking is None:
        return folder
    if lacking == NEEDED[-1] and (folder / ITEMS).is_dir():
        raise RecommendError(f"{folder} was trained on language tasks: ask it with python -m ilm_lightning.chat")
    state = read_status(folder).get("state", "finished")
    if state != "finished":
        raise RecommendError(
            f"{folder} is not finished ({'still running, or killed' if state == 'running' else state}): the same train "
            f"command continues it, as does python -m ilm_lightning.train resume={folder}"
        )
    raise RecommendError(f"{folder} holds no finished run ({lacking} is missing); give a folder under {OUTPUTS}/")


def with_newcomer(sequences: "Sequences", indexing: "Indexing", rows: list[int]) -> "tuple[Sequences, Indexing]":
    """Add one user with a history to the data; the user's number is the next free one."""
    used = set(indexing.users)
    number = next(str(n) for n in range(len(sequences) + 1, 2 * len(sequences) + 3) if str(n) not in used)
    offsets = np.append(sequences.offsets, sequences.offsets[-1] + len(rows))
    values = np.concatenate([sequences.values, np.array(rows, dtype=np.int32)])
    users = [*sequences.user_ids, NEWCOMER]
    return replace(sequences, user_ids=users, offsets=offsets, values=values), replace(
        indexing, users=[*indexing.users, number]
    )


def recommend_for(options: dict[str, str]) -> Answer:
    """Rank items for a user or a history; what is asked is looked at before a model, or torch, is loaded.

    Args:
        options: from `parse`.

    Raises:
        RecommendError: no such run, or no such user.
        UnknownItemError: no such item.
    """
    from ilm_lightning.engine.artifacts import Store
    from ilm_lightning.engine.runs import stored_config
    from ilm_lightning.engine.stages.context import Context
    from ilm_lightning.engine.stages.data import read_tables
    from ilm_lightning.engine.stages.openp5 import load_sequences
    from ilm_lightning.engine.validate_openp5 import is_trained_on

    folder = find_recommender(options["run"])
    config = stored_config(folder)
    task = options.get("task", "sequential")
    if not is_trained_on(config, task):
        raise RecommendError(
            f"{folder} learned nothing from {task} prompts: they hold no item, and its language model is frozen; leave "
            f"task={task} out, or give a run with tuning=lora or tuning=full"
        )
    if "history" in options and config.tasks.user_vector == "full":
        raise RecommendError(
            f"{folder} knows users by factors that ALS fitted to them (tasks.user_vector=full), which a history "
            "alone does not have; give user=ID, or a run with tasks.user_vector=fold_in"
        )
    context = Context(config, Store(config.artifacts), folder)
    prepared = trained_on(context)
    catalog = read_tables(prepared)[1]
    sequences, indexing = load_sequences(prepared)
    if "history" in options:
        rows = find_items(options["history"], sequences, catalog)
        sequences, indexing = with_newcomer(sequences, indexing, rows)
        user = len(sequences) - 1
    elif options["user"] in sequences.user_ids:
        user = sequences.user_ids.index(options["user"])
    else:
        raise RecommendError(
            f"user={options['user']} is not in {sequences.name}; ids look like {sequences.user_ids[0]}"
        )
    found, beams = _rank(context, vectors_beside(context, prepared), sequences, indexing, user, options)
    return Answer(found, sequences.items(user).tolist(), catalog, beams)


def trained_on(context: "Context") -> "Artifact":
    """The run's own data: its artefact or, where it is gone, the same made again.

    Raises:
        RecommendError: the artefact is gone, and so are the data, or they are not the same any more.
    """
    from ilm_lightning.engine.stages.data import prepare

    folder, path = context.run_folder, Path(context.config.data.path or "")
    prepared = context.store.find(_artifacts(folder)["prepare"])
    if prepared is not None:
        return prepared
    if not path.is_dir():
        raise RecommendError(f"data.path={path}: there is no such folder any more, and {folder} was trained on it")
    from ilm_lightning.engine.stages.recommend_export import counts

    prepared = prepare(context)
    before = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["counts"]
    now = counts(prepared.report)
    changed = [f"{now.get(key, 0):,} {key} for {count:,}" for key, count in before.items() if now.get(key) != count]
    if changed:
        raise RecommendError(
            f"{path} is not what {folder} was trained on ({', '.join(changed)}): give the data as they were, or "
            "train again"
        )
    return prepared


def vectors_beside(context: "Context", prepared: "Artifact") -> "Inputs":
    """The run's data with its own vectors or, where they are gone or the data were made again, vectors made anew."""
    from ilm_lightning.engine.stages.embed import embed
    from ilm_lightning.engine.stages.tune import Inputs

    made = _artifacts(context.run_folder)
    embedded = context.store.find(made["embed"]) if prepared.id == made["prepare"] else None
    return Inputs(prepared, embedded or embed(context, prepared), prepared)


def _artifacts(folder: Path) -> dict[str, str]:
    """The artefacts of a run by stage."""
    made: dict[str, str] = json.loads((folder / "artifacts.json").read_text(encoding="utf-8"))
    return made


def _rank(
    context: "Context",
    inputs: "Inputs",
    sequences: "Sequences",
    indexing: "Indexing",
    user: int,
    options: dict[str, str],
) -> tuple[list[Recommended], int | None]:
    """The best items, and the beams that were searched with."""
    from ilm_lightning.engine.stages.recommend import Bench
    from ilm_lightning.evaluation.trie import build_trie
    from ilm_lightning.lm import ItemLanguageModel
    from ilm_lightning.lm.decoding import recommend
    from ilm_lightning.lm.item_head import catalogue_scores
    from ilm_lightning.tasks.openp5 import Example

    config, k = context.config, int(options.get("k", "10"))
    folder = context.run_folder / "model"
    model = ItemLanguageModel.from_pretrained(folder, lm=context.asset(config.lm.name).path).merge_lora()
    bench = Bench(context, inputs, model.num_queries, (sequences, indexing))
    prompt = bench.prompts.tested(options.get("task", "sequential"), "seen")
    rows = [bench.renderer(Example(user, len(sequences.items(user)), prompt), with_target=False)]
    if model.item_head is not None:
        ((_, scores),) = catalogue_scores(model, rows, bench.collator, sequences.n_items)
        scores[0, sequences.items(user)] = -np.inf
        best = np.argsort(-scores[0], kind="stable")[:k].tolist()
        return [Recommended(row, float(scores[0, row])) for row in best if np.isfinite(scores[0, row])], None
    trie = build_trie([ids.tolist() for ids in bench.renderer.targets(prompt.output)])
    seen = np.zeros((1, sequences.n_items), dtype=np.bool_)
    seen[0, sequences.items(user)] = True
    beams = max(config.evaluation.beams, 3 * k)
    found = recommend(model, rows, bench.collator, trie, k, beams, lambda _: seen)
    ranked = zip(found.items[0].tolist(), found.scores[0].tolist(), strict=True)
    return [Recommended(row, score) for row, score in ranked if row >= 0], beams


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    console = Console(highlight=False, markup=False)
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0] in ("-h", "--help", "help"):
        console.print(USAGE)
        return 0
    try:
        options = parse(given)
        answer = recommend_for(options)
    except (ValueError, RuntimeError, OSError) as error:
        Console(stderr=True, highlight=False, markup=False).print(f"error: {error}", soft_wrap=True)
        return 1
    console.print(f"{_after(answer)}:")
    table = Table("rank", "item", "log-probability")
    for rank, one in enumerate(answer.items, start=1):
        table.add_row(str(rank), _name(answer.catalog, one.row), f"{one.score:.3f}")
    console.print(table)
    if why := answer.shortage(int(options.get("k", "10"))):
        console.print(why, soft_wrap=True)
    return 0


def _after(answer: Answer) -> str:
    """The end of the history, and how much of it that is."""
    count = len(answer.history)
    part = f" (the last {SHOWN} of {count})" if count > SHOWN else ""
    return f"after{part} {', '.join(_name(answer.catalog, row) for row in answer.history[-SHOWN:])}"


def _name(catalog: "ItemCatalog", row: int) -> str:
    item = catalog[row]
    return item.label if item.title else item.item_id


if __name__ == "__main__":
    sys.exit(main())
