"""Texts and target losses of one trained model on held-out movies; a stage of its own, so scoring again is cheap."""

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.engine.artifacts import SCRATCH, Artifact, write_json
from ilm_lightning.engine.config import Config
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.data import read_examples, read_tables
from ilm_lightning.engine.stages.figure1 import answer_columns, shuffled_rows, slot_vectors
from ilm_lightning.engine.stages.reference import prompts_with
from ilm_lightning.engine.stages.tune import MODEL, Inputs, lm_name, tokenised
from ilm_lightning.tasks.figure1.names import OWN_PROMPT_TASKS

if TYPE_CHECKING:
    from ilm_lightning.lm import ItemLanguageModel

log = logging.getLogger("ilm_lightning")
CODE = 1
WORD_MOVIES = 6
"""Movies whose soft tokens' nearest words are kept."""


def chosen_examples(frame: pl.DataFrame, split: str, movies: int) -> pl.DataFrame:
    """The examples that are scored: for each task the first movies in a fixed random order, one phrasing for all.

    With one phrasing a task, the text from another movie's vector is that movie's own text: the shuffled control is
    exact and costs nothing.

    Args:
        frame: all examples.
        split: ``test`` or ``validation``.
        movies: movies per task.

    Returns:
        Examples with the columns ``movie`` (first item; for examples about users a number below 0) and ``place`` (rank
        of the movie in the order). Tasks without training examples are left out.
    """
    from ilm_lightning.tasks.elm import TASKS, phrasings

    trained = frame.filter(pl.col("split") == "train")["task"].unique().to_list()
    part = frame.filter((pl.col("split") == split) & pl.col("task").is_in(trained))
    part = part.with_columns(movie=pl.coalesce(-1 - pl.col("user"), pl.col("items").list.first()))
    order = sorted(part["movie"].unique().to_list(), key=movie_order)
    places = pl.DataFrame({"movie": order, "place": range(len(order))}, schema_overrides={"movie": pl.Int64})
    chosen = part.join(places, on="movie").sort("task", "place").group_by("task", maintain_order=True).head(movies)
    # the held-out examples of other tasks have the first phrasing already
    prompts = [
        phrasings(task, len(slots))[0] if task in TASKS else prompt
        for task, slots, prompt in chosen.select("task", "slots", "prompt").iter_rows()
    ]
    return chosen.with_columns(pl.Series("prompt", prompts, dtype=pl.String))


def movie_order(movie: int) -> str:
    """Sort key of a catalogue row: the fixed random order in which held-out movies are taken."""
    return hashlib.blake2b(str(movie).encode(), digest_size=8).hexdigest()


def own_prompts(config: Config) -> pl.Expr:
    """Examples whose prompt says more than which task it is: a text from another vector must be written anew."""
    return pl.lit(True) if config.tasks.title_in_prompt else pl.col("task").is_in(OWN_PROMPT_TASKS)


def generate(
    context: Context,
    inputs: Inputs,
    tuned: Artifact,
    reference: str | None,
    blind: bool = False,
    shuffled: bool = False,
) -> Artifact:
    """Write a text for each chosen example, and take the losses of the targets.

    Args:
        context: the run.
        inputs: artefacts before phase 2.
        tuned: phase 2 of the variant, the blind control or a reference.
        reference: ``title`` or ``facts``: text about the items in the prompts.
        blind: the soft tokens say nothing of the item, so one text per distinct prompt is enough.
        shuffled: every slot gets another item's or user's vector; only for tasks whose prompts differ, since the texts
            of the others can be borrowed.

    Returns:
        The artefact: ``texts.parquet`` (``example_id``, ``prompt``, ``generated``, ``cut_off``; ``loss`` in nats a
        target token and ``bits`` a target, where asked for; ``candidate_bits`` where there are candidates) and
        ``words.json``.
    """
    config = context.config.evaluation
    settings = {
        "code": CODE,
        "split": config.split,
        "movies": config.movies,
        "max_new_tokens": config.max_new_tokens,
        "losses": config.losses,
        "reference": reference,
        "encoder": context.config.encoder.name,
        "dtype": context.lm_dtype,
        **({"shuffled": "among those asked about"} if shuffled else {}),
    }
    artifacts: dict[str, Artifact | str] = {
        "prepare": inputs.prepared,
        "embed": inputs.embedded,
        "tasks": inputs.examples,
        "tune": tuned,
        "lm": context.asset(context.config.lm.name).sha256,
    }
    return context.store.get(
        "generate",
        settings,
        artifacts,
        lambda folder: _build(context, inputs, tuned, reference, blind, shuffled, folder),
        together=True,
    )


def load_model(context: Context, tuned: Artifact) -> "ItemLanguageModel":
    """The trained model, on the GPU where there is one and it was not refused."""
    import torch

    from ilm_lightning.lm import ItemLanguageModel, load_backbone

    asset = context.asset(context.config.lm.name)
    backbone = load_backbone(asset.path, "frozen", context.lm_dtype, name=lm_name(asset))
    model = ItemLanguageModel.from_pretrained(tuned.path / MODEL, backbone).merge_lora()
    return model.to("cuda") if context.config.trainer.accelerator != "cpu" and torch.cuda.is_available() else model


def one_per_prompt(prompts: list[str]) -> tuple[list[int], list[int]]:
    """Let the first example of each distinct prompt stand for all, where the item does not matter.

    Args:
        prompts: ``[n]``.

    Returns:
        The examples to write for, and for each of the ``n`` its place among them.

    >>> one_per_prompt(["plot?", "plot?", "pitch?", "plot?"])
    ([0, 2], [0, 0, 1, 0])
    """
    distinct = list(dict.fromkeys(prompts))
    place = {prompt: i for i, prompt in enumerate(distinct)}
    return [prompts.index(prompt) for prompt in distinct], [place[prompt] for prompt in prompts]


def _asked(context: Context, inputs: Inputs, reference: str | None, shuffled: bool) -> pl.DataFrame:
    """The examples as they are put to the model."""
    config = context.config.evaluation
    _, catalog, _ = read_tables(inputs.prepared)
    frame = chosen_examples(read_examples(inputs.examples), config.split, config.movies)
    frame = prompts_with(frame, catalog, reference)
    return frame.filter(own_prompts(context.config)) if shuffled else frame


def _build(
    context: Context,
    inputs: Inputs,
    tuned: Artifact,
    reference: str | None,
    blind: bool,
    shuffled: bool,
    folder: Path,
) -> dict[str, Any]:
    from ilm_lightning.engine.forecast import texts_forecast
    from ilm_lightning.engine.watch import memory_advice
    from ilm_lightning.lm import Collator, SharedJournal, SoftTokenBank, target_losses
    from ilm_lightning.lm import generate as write_texts
    from ilm_lightning.ranks import from_main, is_main

    config = context.config.evaluation
    frame = _asked(context, inputs, reference, shuffled)
    model = load_model(context, tuned)
    tokenizer, examples = tokenised(context, model.num_queries, frame)
    vectors = ItemVectors.load(inputs.embedded.path).select(context.config.encoder.name)
    row_map = shuffled_rows(vectors, frame) if shuffled else None
    collator = Collator(slot_vectors(vectors, frame), row_map)
    # titles beside the vectors are no reference
    shown = None if context.config.tasks.title_in_prompt and reference == "title" else reference
    label = "shuffled" if shuffled else "blind" if blind else shown or "own"
    chosen, rows = one_per_prompt(frame["prompt"].to_list()) if blind else (range(len(frame)), range(len(frame)))
    model.eval()
    # all processes of a run write their parts to one folder
    scratch = Path(from_main(str(folder))) / SCRATCH
    mean = sum(map(len, examples)) / max(len(examples), 1)
    scored = len(examples) if config.losses else 0
    log.info("%-9s %s: %s", "generate", label, texts_forecast(model, len(chosen), mean, config.max_new_tokens, scored))
    bank = SoftTokenBank(model, examples, collator)
    with memory_advice(f"{label}: texts", {"evaluation.batch_size": config.batch_size}):
        made = write_texts(
            model,
            [examples[i] for i in chosen],
            collator,
            tokenizer,
            config.max_new_tokens,
            config.batch_size,
            f"{label}: texts",
            SharedJournal(scratch / "texts.jsonl"),
            bank,
        )
    columns: dict[str, Any] = {"generated": [made.texts[i] for i in rows], "cut_off": [made.cut_off[i] for i in rows]}
    if config.losses:
        journal = SharedJournal(scratch / "losses.jsonl")
        losses = target_losses(model, examples, collator, label=f"{label}: losses", journal=journal, bank=bank)
        columns |= {"loss": [float(row.mean()) for row in losses.token_losses], "bits": losses.bits.tolist()}
    if not is_main():
        return {}
    columns |= answer_columns(model, tokenizer, examples, frame, bank, label)
    texts = frame.select("example_id", "prompt").with_columns(*(pl.Series(k, v) for k, v in columns.items()))
    texts.write_parquet(folder / "texts.parquet")
    movies = frame.sort("place")["items"].list.first().unique(maintain_order=True).to_list()[:WORD_MOVIES]
    write_json(folder / "words.json", soft_words(model, tokenizer, collator, movies))
    return {"texts": len(made.texts), "cut_off_share": made.cut_off_share}


def soft_words(model: "ItemLanguageModel", tokenizer: Any, collator: Any, movies: list[int]) -> list[dict[str, Any]]:
    """Nearest vocabulary words of some movies' soft tokens.

    Args:
        model: the trained model.
        tokenizer: its prompt tokenizer.
        collator: the item vectors.
        movies: catalogue rows.

    Returns:
        Per movie its row and, per soft token, words with their cosines.
    """
    import torch

    from ilm_lightning.evaluation.words import nearest_words
    from ilm_lightning.lm.backbone import causal_lm

    sources = {name: rows.to(model.device) for name, rows in collator.slot_sources([(m,) for m in movies]).items()}
    with torch.inference_mode():
        soft = model.soft_tokens(sources).float().cpu()
    embedding = causal_lm(model.lm).get_input_embeddings().weight.detach().float().cpu()
    return [
        {"movie": movie, "words": nearest_words(tokens, embedding, tokenizer.tokenizer, 4)}
        for movie, tokens in zip(movies, soft, strict=True)
    ]
