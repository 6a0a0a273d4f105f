"""Phase 2 on OpenP5's tasks as stages: training, ranking of held-out items, and what a run leaves behind."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ilm_lightning.data.openp5 import Indexing, Sequences
from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.engine.artifacts import Artifact, file_hash, source_hash, write_json
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.embed import als_settings
from ilm_lightning.engine.stages.fitting import fit_settings, optimiser_settings
from ilm_lightning.engine.stages.generate import load_model
from ilm_lightning.engine.stages.item_head import head_settings, rank_all, rank_batch, step_flops
from ilm_lightning.engine.stages.lm_first import with_lm_first
from ilm_lightning.engine.stages.openp5 import load_sequences
from ilm_lightning.engine.stages.panels import list_panel
from ilm_lightning.engine.stages.pretrain import adapter_key
from ilm_lightning.engine.stages.recommend_batches import prompt_table, training_batches, tuning_that_matters
from ilm_lightning.engine.stages.tune import MODEL, Inputs, new_model
from ilm_lightning.engine.stages.users_before import UsersBefore
from ilm_lightning.engine.validate_openp5 import can_learn, is_trained_on
from ilm_lightning.tasks.openp5 import Example, held_out_examples, read_prompts
from ilm_lightning.tasks.openp5.examples import chosen_users
from ilm_lightning.tasks.openp5.prompts import TASKS

if TYPE_CHECKING:
    from ilm_lightning.lm import ItemLanguageModel
    from ilm_lightning.lm.collate import Collator

log = logging.getLogger("ilm_lightning")
CODE = 2
RANK_CODE = 5


class Bench:
    """All that turns users into batches: data, prompts, tokenizer, vectors.

    Args:
        context: the run.
        inputs: artefacts before phase 2.
        num_queries: soft tokens of an item.
        data: sequences and indexing in the place of the prepared ones.
    """

    def __init__(
        self, context: Context, inputs: Inputs, num_queries: int, data: tuple[Sequences, Indexing] | None = None
    ) -> None:
        from ilm_lightning.lm.prompts import read_tokenizer
        from ilm_lightning.lm.recommendation import Renderer, RenderSettings, UserCollator

        config = context.config
        self.sequences, self.indexing = load_sequences(inputs.prepared) if data is None else data
        assert config.tasks.prompts is not None
        self.prompts = read_prompts(Path(config.tasks.prompts))
        self.trained = [prompt for prompt in self.prompts.training if can_learn(config, prompt.task)]
        self.tokenizer = read_tokenizer(context.asset(config.lm.name).path, num_queries)
        user = config.tasks.user_vector
        settings = RenderSettings(config.tasks.history, config.tasks.soft_tokens, user != "none", user == "fold_in")
        table = None if data is not None else prompt_table(context, inputs, self)
        self.renderer: Renderer = Renderer(self.tokenizer, self.sequences, self.indexing, settings, table)
        vectors = ItemVectors.load(inputs.embedded.path).select(config.encoder.name)
        users = UsersBefore(self.sequences, vectors, context)
        self.collator: Collator = UserCollator(vectors.tensors(), self.sequences, users)
        self.head = config.tasks.head

    def batch(self, examples: Sequence[Example], shared: bool = False) -> Any:
        """Collate what the head trains on, written answers or target items; of shared examples this process's part."""
        from ilm_lightning.lm import own_share

        if self.head == "item":
            return rank_batch(self, examples, shared)
        rows = [self.renderer(example) for example in examples]
        return self.collator(own_share(rows) if shared else rows)


def tune(context: Context, inputs: Inputs) -> Artifact:
    """Train on sequential and straightforward recommendation and leave the model with the best validation weights."""
    config = context.config
    assert config.tasks.prompts is not None
    inputs = with_lm_first(context, inputs, tune)
    settings = {
        "code": CODE,
        "adapter": adapter_key(config.adapter),
        "tuning": tuning_that_matters(config.tuning),
        "encoder": config.encoder.name,
        "als": als_settings(config.encoder.als),
        "history": config.tasks.history,
        "soft_tokens": config.tasks.soft_tokens,
        "user_vector": config.tasks.user_vector,
        **head_settings(config),
        **context.arithmetic,
        "seed": config.seed,
    }
    artifacts: dict[str, Artifact | str] = {
        "prepare": inputs.prepared,
        "embed": inputs.embedded,
        "prompts": file_hash(Path(config.tasks.prompts)),
        "lm": context.asset(config.lm.name).sha256,
    }
    if config.adapter.init == "pretrained":
        assert inputs.pretrained is not None
        artifacts["pretrain"] = inputs.pretrained
    elif config.adapter.init == "bert":
        artifacts["bert"] = context.asset(config.adapter.bert).sha256
    if inputs.first is not None:
        artifacts["first"] = inputs.first
    return context.store.get(
        "recommend", settings, artifacts, lambda folder: _build(context, inputs, folder), together=True
    )


def _build(context: Context, inputs: Inputs, folder: Path) -> dict[str, Any]:
    import lightning as lt

    from ilm_lightning.engine.screen import show_parameters
    from ilm_lightning.lm import parameter_report
    from ilm_lightning.ranks import is_main

    config = context.config
    lt.seed_everything(config.seed, verbose=False)
    model, origins = new_model(context, inputs)
    show_parameters(parameter_report(model, origins))
    write_json(folder / "origin.json", origins)
    bench = Bench(context, inputs, model.num_queries)
    report = _fit(context, bench, model, folder)
    if is_main():
        model.save_pretrained(folder / MODEL, extra={"prompt": "chat template", "seed": config.seed})
    return {"parameters": [asdict(row) for row in parameter_report(model, origins)], **report}


def _fit(context: Context, bench: Bench, model: "ItemLanguageModel", folder: Path) -> dict[str, Any]:
    from ilm_lightning.engine.datamodule import StreamDataModule
    from ilm_lightning.engine.forecast import phase2_forecast
    from ilm_lightning.engine.training import fit, training_device
    from ilm_lightning.lm import sorted_batches
    from ilm_lightning.lm.item_head_module import ItemHeadModule
    from ilm_lightning.lm.module import ItemLanguageModule

    config, tuning = context.config, context.config.tuning
    left_out = {prompt.task for prompt in bench.prompts.training} - {prompt.task for prompt in bench.trained}
    if left_out:
        log.info("%-9s %s prompts are not trained on: nothing in them can be learned", "tune", ", ".join(left_out))
    batches = training_batches(context, bench, model)
    checked = validation_examples(bench, tuning.val_examples)
    sizes = [len(bench.renderer(example)) for example in checked]
    checks = [bench.batch([checked[i] for i in part]) for part in sorted_batches(sizes, 16)]
    tokens = int(batches.tokens_read * tuning.batch_size)
    more = step_flops(model, config, bench.sequences.n_items) if bench.head == "item" else 0.0
    device = training_device(config.trainer)
    checkpointed = config.trainer.activation_checkpointing
    forecast = phase2_forecast(model, tokens, tuning.steps, device, False, more, batches.largest, checkpointed)
    log.info("%-9s %s examples; %s", "tune", f"{batches.examples:,}", forecast)
    settings = optimiser_settings(tuning, tuning.steps)
    data = StreamDataModule(batches.batch, checks)
    module = ItemLanguageModule(model, settings)
    if bench.head == "item":
        module = ItemHeadModule(model, settings, bench.collator.vectors, config.tasks.head_sample)
    panel = list_panel(context, bench, model)
    fitting = fit_settings(config, "tune", tuning.steps)
    done = fit(module, data, fitting, config.trainer, folder, context.tracker("tune"), panel)
    return {**batches.report(tuning.steps), "tune": done}


def validation_examples(bench: Bench, count: int) -> list[Example]:
    """Validation examples of a fixed sample of users, the tasks that are trained on in equal parts."""
    users = chosen_users(len(bench.sequences), max(1, count // len({prompt.task for prompt in bench.trained})))
    return [
        example
        for task in TASKS
        if any(prompt.task == task for prompt in bench.trained)
        for example in held_out_examples(bench.sequences, bench.prompts.tested(task, "seen"), "validation", users)
    ]


def evaluate(context: Context, inputs: Inputs, tuned: Artifact) -> Artifact:
    """Rank held-out items: the model on every task and prompt set."""
    config = context.config
    assert config.tasks.prompts is not None
    prompts = read_prompts(Path(config.tasks.prompts))
    for name in config.evaluation.prompt_sets:
        if missing := set(prompts.tasks("seen")) - set(prompts.tasks(name)):
            log.info("%-9s no %s prompt for %s in the file: not tested", "rank", name, ", ".join(sorted(missing)))
    keys = ("users", "prompt_sets", "decoding", "beams", "top_k", "filter_seen", "split")
    settings = {
        "code": RANK_CODE,
        "sources": source_hash("evaluation"),
        "evaluation": {key: getattr(config.evaluation, key) for key in keys},
    }
    artifacts: dict[str, Artifact | str] = {
        "prepare": inputs.prepared,
        "embed": inputs.embedded,
        "tune": tuned,
        "prompts": file_hash(Path(config.tasks.prompts)),
    }
    return context.store.get("rank", settings, artifacts, lambda folder: _rank(context, inputs, tuned, folder))


def _rank(context: Context, inputs: Inputs, tuned: Artifact, folder: Path) -> dict[str, Any]:
    from ilm_lightning.evaluation.ranking import (
        compact,
        ranking_from_ranks,
        ranking_of_lists,
        ranking_of_users,
        ranks_in_lists,
    )

    evaluation = context.config.evaluation
    model = load_model(context, tuned)
    bench = Bench(context, inputs, model.num_queries)
    users = chosen_users(len(bench.sequences), evaluation.users)
    targets = bench.sequences.targets(evaluation.split)[users].astype(np.int64)
    tied = bench.sequences.tied_at(evaluation.split, users)
    tables: list[pl.DataFrame] = []
    found: dict[str, dict[str, Any]] = {}
    for name in evaluation.prompt_sets:
        for task in bench.prompts.tasks(name):
            if not is_trained_on(context.config, task):
                log.info("%-9s %s prompts are not tested: nothing was learned from them", "rank", task)
                continue
            prompt = bench.prompts.tested(task, name)
            examples = held_out_examples(bench.sequences, prompt, evaluation.split, users)
            if bench.head == "item":
                lists, ranks = rank_all(context, bench, model, examples, targets, f"{task}, {name}")
                ranking = ranking_from_ranks(ranks)
            else:
                lists = ranked_lists(context, bench, model, examples, f"{task}, {name}")
                ranking = ranking_of_lists(lists, targets)
                # outputs not of an item's form are taken out, here as in the measures
                lists = compact(lists)
                ranks = ranks_in_lists(lists, targets)
            found.setdefault(name, {})[task] = ranking_of_users(ranks, tied, ranking)
            tables.append(_table(bench, examples, lists, ranks, targets, task, name))
    pl.concat(tables).write_parquet(folder / "predictions.parquet")
    metrics = {"ranking": found}
    write_json(folder / "metrics.json", metrics)
    return {"objective": objective(metrics)}


def objective(metrics: dict[str, Any]) -> float:
    """HR@10 (or the longest list's) of the first prompt set, mean over its tasks."""
    rows = next(iter(metrics["ranking"].values())).values()
    return float(np.mean([max(row["hr"].items(), key=lambda pair: int(pair[0]))[1] for row in rows]))


def ranked_lists(
    context: Context, bench: Bench, model: "ItemLanguageModel", examples: Sequence[Example], label: str
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Ranked catalogue rows ``[U, top_k]`` of examples."""
    from ilm_lightning.evaluation.trie import build_trie
    from ilm_lightning.lm.decoding import recommend
    from ilm_lightning.lm.free_beams import free_beams
    from ilm_lightning.lm.recommendation import item_finder, prompts_of, shared_output

    settings = context.config.evaluation
    output = shared_output([example.prompt for example in examples])
    rows = list(prompts_of(bench.renderer, examples))
    size = max(1, settings.batch_size // 3)
    if settings.decoding == "free":
        finder = item_finder(bench.indexing)
        texts = free_beams(model, rows, bench.collator, bench.tokenizer, settings.top_k, size, label=label)
        return np.array([[finder(text) for text in beams] for beams in texts], dtype=np.int64)
    trie = build_trie([ids.tolist() for ids in bench.renderer.targets(output)])
    seen = bench.sequences.seen(settings.split) if settings.filter_seen else None
    users = np.array([example.user for example in examples])

    def hidden(places: Sequence[int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        assert seen is not None
        return np.asarray(seen[users[list(places)]].toarray(), dtype=np.bool_)

    chosen = None if seen is None else hidden
    return recommend(model, rows, bench.collator, trie, settings.top_k, settings.beams, chosen, size, label=label).items


def _table(
    bench: Bench, examples: Sequence[Example], lists: Any, ranks: Any, targets: Any, task: str, name: str
) -> pl.DataFrame:
    from ilm_lightning.evaluation.ranking import NO_ITEM

    ids = np.array([*bench.sequences.item_ids, None], dtype=object)
    return pl.DataFrame(
        {
            "task": [task] * len(examples),
            "prompts": [name] * len(examples),
            "user": [bench.sequences.user_ids[example.user] for example in examples],
            "target": ids[targets].tolist(),
            "rank": ranks,
            # an output of an unknown item keeps its place, without an id
            "items": [[ids[max(row, NO_ITEM)] for row in rows if row != NO_ITEM] for rows in lists],
        },
        schema_overrides={"items": pl.List(pl.String), "target": pl.String},
    )
