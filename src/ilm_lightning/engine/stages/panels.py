"""The fixed validation examples that a model answers while it is trained: texts with their SC, or lists with HR."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl

from ilm_lightning.engine.samples import Answers, Panel
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.tasks.figure1.names import ANSWER_TASKS

if TYPE_CHECKING:
    from ilm_lightning.engine.stages.recommend import Bench
    from ilm_lightning.evaluation.semantic import SentenceScorer
    from ilm_lightning.lm import Collator, ItemLanguageModel
    from ilm_lightning.tasks.openp5 import Example

TEXT_COLUMNS = ("example", "task", "prompt", "target", "text", "sc")


def spread_over_tasks(frame: pl.DataFrame, count: int) -> pl.DataFrame:
    """The same few examples each time: of every task the first movies in a fixed order, tasks in turn.

    Args:
        frame: examples with ``example_id``, ``task`` and ``items``.
        count: how many.

    Returns:
        At most ``count`` of them.

    >>> frame = pl.DataFrame({"example_id": ["a", "b", "c"], "task": ["x", "x", "y"], "items": [[1], [2], [1]]})
    >>> sorted(spread_over_tasks(frame, 2)["task"].to_list())
    ['x', 'y']
    """
    from ilm_lightning.engine.stages.generate import movie_order

    order = pl.Series("order", [movie_order(items[0] if items else -1) for items in frame["items"].to_list()])
    ranked = frame.with_columns(order).sort("task", "order", "example_id")
    ranked = ranked.with_columns(turn=pl.int_range(pl.len()).over("task"))
    return ranked.sort("turn", "task", maintain_order=True).head(count).drop("order", "turn")


def text_panel(
    context: Context, model: "ItemLanguageModel", validation: pl.DataFrame, collator: "Collator"
) -> Panel | None:
    """Texts of a few validation examples and their mean SC; None where none were asked for.

    Args:
        context: the run; ``logger.samples`` says how many, ``logger.sample_tokens`` how long.
        model: that is trained.
        validation: examples.
        collator: of the validation examples' vectors.
    """
    settings = context.config.logger
    chosen = spread_over_tasks(validation, settings.samples)
    if chosen.is_empty():
        return None
    from ilm_lightning.engine.stages.tune import tokenised

    tokenizer, examples = tokenised(context, model.num_queries, chosen)
    known = list(zip(*(chosen[name].to_list() for name in ("example_id", "task", "prompt", "target")), strict=True))
    loaded: list[SentenceScorer] = []

    def answer() -> Answers:
        from ilm_lightning.lm import generate

        made = generate(model, examples, collator, tokenizer, settings.sample_tokens, len(examples), "samples")
        if not loaded:
            loaded.append(_scorer(context))
        scores = loaded[0].semantic_consistency(made.texts, chosen["target"].to_list()).tolist()
        rows = [[*facts, text, round(sc, 1)] for facts, text, sc in zip(known, made.texts, scores, strict=True)]
        prose = [sc for (_, task, _, _), sc in zip(known, scores, strict=True) if task not in ANSWER_TASKS]
        return Answers(rows, {"sc": sum(prose) / len(prose)} if prose else {})

    return Panel(TEXT_COLUMNS, answer)


def _scorer(context: Context) -> "SentenceScorer":
    from ilm_lightning.evaluation.semantic import SentenceScorer

    asset = context.asset(context.config.evaluation.scorer)
    return SentenceScorer(asset.path, name=asset.name)


LIST_COLUMNS = ("example", "task", "prompt", "target", "list", "rank")


def list_panel(context: Context, bench: "Bench", model: "ItemLanguageModel") -> Panel | None:
    """Ranked lists of a few users' validation items and their HR@10; None where none were asked for.

    Args:
        context: the run; ``logger.samples`` says how many.
        bench: sequences, prompts, renderer and collator of the recommendation tasks.
        model: that is trained.
    """
    import numpy as np

    from ilm_lightning.engine.stages.item_head import rank_all
    from ilm_lightning.engine.stages.recommend import ranked_lists, validation_examples
    from ilm_lightning.evaluation.ranking import ranks_in_lists

    if not context.config.logger.samples:
        return None
    groups: dict[str, list[Example]] = {}
    for example in validation_examples(bench, context.config.logger.samples):
        groups.setdefault(example.prompt.task, []).append(example)
    evaluation = replace(context.config.evaluation, split="validation")
    on_validation = replace(context, config=replace(context.config, evaluation=evaluation))
    ids = bench.sequences.item_ids
    targets = bench.sequences.targets("validation").astype(np.int64)

    def answer() -> Answers:
        rows: list[list[Any]] = []
        hits: list[bool] = []
        for task, examples in groups.items():
            wanted = targets[[example.user for example in examples]]
            if bench.head == "item":
                lists, _ = rank_all(on_validation, bench, model, examples, wanted, f"samples: {task}")
            else:
                lists = ranked_lists(on_validation, bench, model, examples, f"samples: {task}")
            ranks = ranks_in_lists(lists, wanted)
            hits += [rank > 0 for rank in ranks.tolist()]
            for example, found, item, rank in zip(examples, lists, wanted, ranks.tolist(), strict=True):
                shown = " ".join(str(ids[row]) for row in found if row >= 0)
                rows.append([example.name(bench.sequences), task, example.prompt.input, ids[item], shown, rank])
        return Answers(rows, {f"hr{context.config.evaluation.top_k}": sum(hits) / len(hits)})

    return Panel(LIST_COLUMNS, answer)
