"""Vectors, soft tokens and texts for an item that a run has never seen, without training: from text, ratings or both.

``python -m ilm_lightning.embed run=outputs/… title="Heat 2 (2025)" genres="Crime|Thriller" tasks=[summary,pitch]``
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ilm_lightning.engine.loaded import (
    LoadedRun,
    RunError,
    find_run,
    nearest_name,
    open_run,
    parse_arguments,
    quiet,
    task_prompts,
    told_words,
    whole_number,
)
from ilm_lightning.engine.new_items import FACTS, NewItems, read_new_items, sources_told, split_list, vectors_of
from ilm_lightning.engine.validate_machine import check_writable
from ilm_lightning.permissions import follow_umask

if TYPE_CHECKING:
    from torch import Tensor

    from ilm_lightning.embeddings.vectors import ItemVectors

KEYS = ("run", *FACTS, "items", "ratings", "users", "tasks", "other", "out", "max_new_tokens", "words")
USAGE = f"""usage: python -m ilm_lightning.embed [run=FOLDER] DESCRIPTION and/or RATINGS [tasks=NAMES] [out=FOLDER]

  DESCRIPTION  {" ".join(f"{name}=" for name in FACTS)}
               (several values parted by | or commas), or items=FILE with one row per item
  RATINGS      ratings=FILE (columns user and, for several items, item) or, for one item, users=ID,ID,...
  tasks=       tasks to answer, as tasks=[summary,pitch] or tasks=all; two-item tasks need other="TITLE (YEAR)"
  out=         folder for vectors.safetensors, soft_tokens.safetensors, items.parquet, answers.parquet, report.json
Without run= the run that was finished last is taken."""


@dataclass(frozen=True)
class Embedded:
    """What is known of new items in the end.

    Attributes:
        items: as they were described.
        vectors: their vectors.
        soft: their soft tokens ``[n, q, d]``.
        report: per item what was given, its neighbours, its soft tokens' nearest words, its answers.
    """

    items: NewItems
    vectors: "ItemVectors"
    soft: "Tensor"
    report: list[dict[str, Any]]


def chosen_tasks(run: LoadedRun, wish: str, other: str | None) -> dict[str, str]:
    """The prompts to answer.

    Args:
        run: the run.
        wish: names of tasks, or ``all``.
        other: the second item of two-item tasks, if one was named.

    Returns:
        Per task the phrasing that the run was scored with.

    Raises:
        RunError: an unknown task, or a two-item task without a second item.
    """
    from ilm_lightning.tasks.elm import PAIR_TASKS

    known = task_prompts(run)
    single = [task for task, prompt in known.items() if task not in PAIR_TASKS and prompt.count("{item}") == 1]
    names = (list(known) if other else single) if wish.strip() == "all" else split_list(wish)
    for name in names:
        if name not in known:
            hint = nearest_name(name, list(known))
            raise RunError(f"tasks={name} is none of this run's tasks ({', '.join(known)}){hint}")
        if name not in single and other is None:
            raise RunError(f'{name} is about two items; name the second one: other="TITLE (YEAR)"')
    return {name: known[name] for name in names}


def embed_items(run: LoadedRun, items: NewItems, tasks: Mapping[str, str], other: int | None, longest: int) -> Embedded:
    """Make vectors, soft tokens and answers.

    Args:
        run: the run; its model is loaded.
        items: the new items.
        tasks: prompts by task.
        other: row of the run's item that two-item tasks compare with.
        longest: most tokens of an answer.

    Returns:
        All that was made.
    """
    import torch

    from ilm_lightning.embeddings.new_items import nearest_items
    from ilm_lightning.evaluation.words import nearest_words
    from ilm_lightning.lm import Collator
    from ilm_lightning.lm.backbone import causal_lm

    vectors = vectors_of(run, items)
    run.load_model()
    known = run.vectors.tensors()
    # new items come first, so that their rows need no counting
    collator = Collator({name: torch.cat([rows, known[name]]) for name, rows in vectors.tensors().items()})
    count = vectors.n_items
    with torch.inference_mode():
        soft = run.model.soft_tokens(collator.slot_sources([(row,) for row in range(count)])).float().cpu()
    embedding = causal_lm(run.model.lm).get_input_embeddings().weight.detach().float()
    near = nearest_items(run.vectors, vectors)
    report = []
    for row, item in enumerate(items.catalog):
        neighbours = {
            name: [(run.catalog[place].label, round(cosine, 4)) for place, cosine in rows[row]]
            for name, rows in near.items()
        }
        words = nearest_words(soft[row], embedding, run.tokenizer.tokenizer, 4)
        # rows of the two items, and what they are called
        pair = [row] if other is None else [row, count + other]
        labels = [item.label] if other is None else [item.label, run.catalog[other].label]
        answers = _answers(run, collator, pair, labels, tasks, longest)
        report.append(
            {
                "item": item.item_id,
                "label": item.label,
                "has_text": bool(vectors.has_text[row]),
                "has_ratings": bool(vectors.has_ratings[row]),
                "sources": sources_told(items, vectors, row),
                "nearest_items": neighbours,
                "nearest_words": [[(word, round(cosine, 4)) for word, cosine in token] for token in words],
                "answers": answers,
            }
        )
    return Embedded(items, vectors, soft, report)


def _answers(
    run: LoadedRun, collator: Any, pair: list[int], labels: list[str], tasks: Mapping[str, str], longest: int
) -> list[dict[str, str]]:
    from ilm_lightning.tasks.elm import PAIR_TASKS

    slots: list[list[list[int]]] = []
    prompts = []
    for task, prompt in tasks.items():
        markers = prompt.count("{item}")
        size = 2 if markers == 2 or task in PAIR_TASKS else 1
        # two items behind one marker stand for the vector between them
        slots.append([pair[:size]] if markers == 1 else [[row] for row in pair[:size]])
        prompts.append(prompt + run.prompt_suffix(labels[:size]))
    if not prompts:
        return []
    texts = run.write(prompts, slots, collator, longest).texts
    made = zip(tasks, prompts, texts, strict=True)
    return [{"task": task, "prompt": prompt, "text": text} for task, prompt, text in made]


def write_out(found: Embedded, run: LoadedRun, folder: Path) -> None:
    """Leave everything in a folder.

    Args:
        found: what was made.
        run: by which run.
        folder: made if missing; files of the same names are replaced.
    """
    import polars as pl
    from safetensors.torch import save_file

    from ilm_lightning.engine.artifacts import code_version, write_json

    found.vectors.save(folder)
    save_file({"soft_tokens": found.soft.contiguous()}, folder / "soft_tokens.safetensors")
    follow_umask(folder)
    found.items.catalog.write(folder / "items.parquet")
    rows = [{"item": one["item"], **answer} for one in found.report for answer in one["answers"]]
    schema = dict.fromkeys(("item", "task", "prompt", "text"), pl.String)
    pl.DataFrame(rows, schema=schema).write_parquet(folder / "answers.parquet")
    write_json(folder / "report.json", {"run": str(run.folder), "versions": code_version(), "items": found.report})


def show(found: Embedded, console: Console, words: int) -> None:
    """Print what was made, one block per item."""
    for one in found.report:
        console.print(one["label"], style="bold", soft_wrap=True)
        for name, told in one["sources"].items():
            console.print(f"  {name:<12} {told}", soft_wrap=True)
            near = ", ".join(f"{label} {cosine:.2f}" for label, cosine in one["nearest_items"][name])
            if near:
                console.print(f"  {'':<12} nearest: {near}", soft_wrap=True)
        console.print(f"  {'soft tokens':<12} {told_words(one['nearest_words'], words)}", soft_wrap=True)
        for answer in one["answers"]:
            console.print(f"  {answer['task']:<12} {answer['text']}", soft_wrap=True)
    for remark in found.items.remarks:
        console.print(f"note: {remark}", soft_wrap=True)


def run_command(options: Mapping[str, str], console: Console) -> None:
    """Do what the arguments ask.

    Args:
        options: by key.
        console: where to print.

    Raises:
        ValueError: something cannot be used; told before the language model is loaded.
    """
    longest, words = whole_number(dict(options), "max_new_tokens", 96), whole_number(dict(options), "words", 3)
    out = Path(options["out"]).expanduser() if "out" in options else None
    if out is not None:
        check_writable("out", str(out))
    run = open_run(find_run(options.get("run")))
    other = run.catalog.find(options["other"]) if "other" in options else None
    tasks = chosen_tasks(run, options.get("tasks", ""), options.get("other"))
    items = read_new_items(run, options)
    found = embed_items(run, items, tasks, other, longest)
    show(found, console, words)
    if out is not None:
        write_out(found, run, out)
        console.print(f"written: {out}", soft_wrap=True)


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    quiet()
    console = Console(highlight=False, markup=False)
    given = sys.argv[1:] if arguments is None else arguments
    if not given or given[0] in ("-h", "--help", "help"):
        console.print(USAGE, soft_wrap=True)
        return 0
    try:
        run_command(parse_arguments(given, KEYS, USAGE), console)
    except (ValueError, RuntimeError, OSError) as error:
        Console(stderr=True, highlight=False, markup=False).print(f"error: {error}", soft_wrap=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
