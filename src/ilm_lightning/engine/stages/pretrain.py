"""Phase 1 as a stage: item vectors and pair sets to a pretrained adapter."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ilm_lightning.embeddings.vectors import ItemVectors
from ilm_lightning.engine.artifacts import Artifact, file_hash, write_json
from ilm_lightning.engine.config import AdapterConfig
from ilm_lightning.engine.runs import without_idle_controls
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.data import read_tables
from ilm_lightning.engine.training import precision_of
from ilm_lightning.permissions import follow_umask

if TYPE_CHECKING:
    from torch import Tensor

    from ilm_lightning.adapters import Adapter, TextBranch
    from ilm_lightning.pretraining.pairs import PairSets

log = logging.getLogger("ilm_lightning")
CODE = 1
CONTROL_CODE = 2
"""Raised when shuffled pairs are drawn in another way."""
INPUT_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight", "shared.weight")
"""What the families of language models call their input embeddings."""
PERCEIVER = ("hidden_size", "num_layers", "num_heads", "ffn_size", "dropout")
"""Sizes that a Perceiver has too."""
HELD_OUT_LIMIT = 512
"""Held-out pairs of each set that one validation reads."""


def adapter_settings(config: AdapterConfig, source_dims: dict[str, int], output_dim: int) -> dict[str, Any]:
    """Arguments of ``build_adapter`` for a configured adapter.

    Args:
        config: the adapter group.
        source_dims: width of each source the encoder hands over.
        output_dim: width of the language model.

    Returns:
        Plain values; an MLP is matched to the Q-Former of the same group.
    """
    same = {"source_dims": source_dims, "output_dim": output_dim, "num_queries": config.num_queries}
    sizes = {
        "hidden_size": config.hidden_size,
        "num_layers": config.num_layers,
        "num_heads": config.num_heads,
        "ffn_size": config.intermediate_size,
        "cross_attention_every": config.cross_attention_every,
        "source_tokens": config.source_tokens,
        "dropout": config.dropout,
        "concatenate": config.concatenate,
    }
    if config.kind == "qformer":
        return {"kind": "qformer", **same, **sizes}
    if config.kind == "mlp":
        return {"kind": "mlp", **same, "match": sizes}
    if config.kind == "perceiver":
        return {"kind": "perceiver", **same, **{key: sizes[key] for key in PERCEIVER}}
    if config.kind == "custom":
        return {"target": config._target_, **same, **config.settings}
    return {"kind": config.kind, **same}


def adapter_key(config: AdapterConfig) -> dict[str, Any]:
    """What determines an adapter, for keys of artefacts: of one's own, the class's source file as well."""
    found = asdict(config)
    target, settings = found.pop("_target_"), found.pop("settings")
    if config.kind != "custom":
        return found
    import inspect

    from ilm_lightning.adapters import adapter_class

    source = inspect.getsourcefile(adapter_class(str(target)))
    return {**found, "target": target, "settings": settings, "source": file_hash(Path(source)) if source else None}


def bert_state(folder: Path) -> "dict[str, Tensor]":
    """Weights of a BERT-type checkpoint folder."""
    from safetensors.torch import load_file

    file = folder / "model.safetensors"
    if not file.is_file():
        raise ValueError(f"{folder} holds no model.safetensors: adapter.bert must be a BERT-type checkpoint folder")
    state: dict[str, Tensor] = load_file(file)
    return state


def init_qformer(context: Context, adapter: "Adapter", text_branch: "TextBranch | None") -> list[str]:
    """Copy BERT's weights into a Q-Former; returns one line per tensor."""
    from ilm_lightning.adapters import QFormerAdapter, init_from_bert

    assert isinstance(adapter, QFormerAdapter)
    state = bert_state(context.asset(context.config.adapter.bert).path)
    return init_from_bert(adapter.qformer, text_branch, state)


def pretrain(context: Context, prepared: Artifact, embedded: Artifact) -> Artifact:
    """Train the adapter on the variant's losses; keeps its best held-out weights."""
    config = context.config
    adapter = {key: value for key, value in adapter_key(config.adapter).items() if key != "init"}
    settings = {
        "code": CODE,
        "pretraining": without_idle_controls(asdict(config.pretraining)),
        "adapter": adapter,
        "encoder": config.encoder.name,
        "precision": precision_of(config.trainer),
        "seed": config.seed,
    }
    if config.pretraining.shuffled_pairs:
        settings["control"] = CONTROL_CODE
    inputs: dict[str, Artifact | str] = {
        "prepare": prepared,
        "embed": embedded,
        "bert": context.asset(config.adapter.bert).sha256,
        "lm": context.asset(config.lm.name).sha256,
    }
    return context.store.get(
        "pretrain", settings, inputs, lambda folder: _build(context, prepared, embedded, folder), together=True
    )


def _build(context: Context, prepared: Artifact, embedded: Artifact, folder: Path) -> dict[str, Any]:
    import lightning as pl
    from safetensors.torch import save_file

    from ilm_lightning.engine.datamodule import StreamDataModule
    from ilm_lightning.engine.forecast import phase1_forecast
    from ilm_lightning.engine.training import FitSettings, fit, precision_of, training_device
    from ilm_lightning.pretraining.batches import EvaluationBatches, PairBatches
    from ilm_lightning.pretraining.module import PretrainingModule
    from ilm_lightning.pretraining.priors import nothing_learned
    from ilm_lightning.ranks import world_size

    config, phase = context.config, context.config.pretraining
    pl.seed_everything(config.seed, verbose=False)
    train, held_out = pair_sets(context, prepared)
    vocabulary = _vocabulary(train)
    model, origin = _model(context, embedded, vocabulary)
    sizes = {"item_text": phase.batch_size, "item_item": phase.pair_batch_size, "user_item": phase.pair_batch_size}
    stream = PairBatches(train, dict(phase.proportions), sizes, config.seed, vocabulary)
    checks = EvaluationBatches(held_out, sizes, config.seed, vocabulary, HELD_OUT_LIMIT)
    module = PretrainingModule(
        model,
        phase.steps,
        phase.lr,
        phase.warmup_steps,
        phase.weight_decay,
        config.seed,
        held_out.get("item_text"),  # type: ignore[arg-type]
        vocabulary,
    )
    in_use = {"pretraining.batch_size": phase.batch_size, "pretraining.pair_batch_size": phase.pair_batch_size}
    if world_size() == 1:
        kinds = stream.one_of_each(phase.steps)
        forecast = phase1_forecast(model, kinds, precision_of(config.trainer), training_device(config.trainer))
        log.info("%-9s %s", "pretrain", forecast)
    fitting = FitSettings("pretrain", phase.steps, phase.val_every, config.seed, sizes=in_use)
    report = fit(
        module,
        StreamDataModule(stream.__getitem__, checks),
        fitting,
        config.trainer,
        folder,
        context.tracker("pretrain"),
    )
    save_file(model.adapter_state(), folder / "adapter.safetensors")
    follow_umask(folder)
    write_json(folder / "adapter.json", model.adapter.config)
    write_json(folder / "origin.json", origin)
    counts = {kind: {"train": len(train[kind]), "held_out": len(held_out[kind])} for kind in train}
    best = _best_row(folder, int(report.get("best_step", 0)))
    resting = nothing_learned({name.removeprefix("val/"): value for name, value in best.items()}, model.settings)
    if resting:
        log.warning("%-9s nothing learned by %s: held-out losses rest at their priors", "pretrain", ", ".join(resting))
    return {**report, "pairs": counts, "validation": best, "nothing_learned": sorted(resting)}


def pair_sets(context: Context, prepared: Artifact) -> "tuple[PairSets, PairSets]":
    """The pair sets that the losses need: training and held-out part; texts of training movies only."""
    from ilm_lightning.data.splits import assert_no_text_leak
    from ilm_lightning.pretraining import pairs

    phase = context.config.pretraining
    interactions, catalog, split = read_tables(prepared)
    if context.config.data.split == "paper":
        log.info("%-9s data.split=paper: the texts of all movies enter phase 1, as in the paper", "pretrain")
    sets: dict[str, Any] = {}
    for kind in pairs.kinds_needed(phase.losses):
        if kind == pairs.ITEM_TEXT:
            sets[kind] = _text_pairs(context, catalog, split)
            assert_no_text_leak(split, sets[kind].items, catalog)
        elif kind == pairs.ITEM_ITEM:
            sets[kind] = pairs.consecutive_item_pairs(interactions.frame, len(catalog))
        else:
            sets[kind] = pairs.user_item_pairs(interactions.frame, interactions.n_users, len(catalog))
        if phase.shuffled_pairs and kind != pairs.ITEM_TEXT:
            sets[kind] = pairs.shuffled_pairs(sets[kind], context.config.seed)
            log.info("%-9s %s: %s pairs with partners drawn anew", "pretrain", kind, f"{len(sets[kind]):,}")
    groups = catalog.frame["group"].to_list()
    halves = {
        k: pairs.hold_out(v, context.config.seed, groups=groups if k == pairs.ITEM_TEXT else None)
        for k, v in sets.items()
    }
    return {k: half[0] for k, half in halves.items()}, {k: half[1] for k, half in halves.items()}


def _text_pairs(context: Context, catalog: Any, split: Any) -> Any:
    from dataclasses import replace

    from transformers import AutoTokenizer

    from ilm_lightning.pretraining.pairs import text_pairs, tokenizer_encode

    phase = context.config.pretraining
    bert = AutoTokenizer.from_pretrained(str(context.asset(context.config.adapter.bert).path))
    texts = [catalog.item_text(i) for i in range(len(catalog))]
    pairs = text_pairs(texts, np.flatnonzero(split == "train"), tokenizer_encode(bert, phase.max_text_tokens))
    if "vg" not in phase.losses:
        return pairs
    lm = AutoTokenizer.from_pretrained(str(context.asset(context.config.lm.name).path))
    words = [", ".join(catalog.text_fields(int(i), phase.grounding_fields)) for i in pairs.items]
    bags = [np.unique(np.asarray(ids, dtype=np.int64)) for ids in tokenizer_encode(lm, special_tokens=False)(words)]
    tokens, counts = np.unique(np.concatenate(bags), return_counts=True)
    kept = tokens[counts >= phase.grounding_min_count]
    return replace(pairs, bags=[bag[np.isin(bag, kept)] for bag in bags])


def _vocabulary(train: "PairSets") -> Any:
    from ilm_lightning.pretraining.pairs import ITEM_TEXT, TextPairs, bag_vocabulary

    pairs = train.get(ITEM_TEXT)
    return bag_vocabulary(pairs) if isinstance(pairs, TextPairs) else None


def lm_embeddings(folder: Path) -> "Tensor":
    """Input embeddings ``[V, d]`` of a language model, read without the rest of it."""
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a mapping
                if name.endswith(INPUT_EMBEDDINGS):
                    rows: Tensor = tensors.get_tensor(name)
                    return rows
    raise ValueError(f"no input embeddings found in {folder}: lm.name must be a folder with safetensors weights")


def _rows(state: "dict[str, Tensor]", ending: str) -> int:
    for name, tensor in state.items():
        if name.endswith(ending):
            return int(tensor.shape[0])
    raise ValueError(f"adapter.bert holds no {ending}: it must be a BERT-type checkpoint")


def _model(context: Context, embedded: Artifact, vocabulary: Any) -> tuple[Any, list[str]]:
    import torch

    from ilm_lightning.adapters import TextBranch, build_adapter
    from ilm_lightning.pretraining.model import PretrainingModel
    from ilm_lightning.pretraining.settings import PretrainingSettings

    config, phase = context.config, context.config.pretraining
    vectors = ItemVectors.load(embedded.path).select(config.encoder.name)
    embeddings = lm_embeddings(context.asset(config.lm.name).path)
    adapter = build_adapter(adapter_settings(config.adapter, vectors.dims, embeddings.shape[1]))
    branch = None
    if {"itc", "itm", "itg"} & set(phase.losses):
        words = bert_state(context.asset(config.adapter.bert).path)
        sizes = [_rows(words, f"{part}_embeddings.weight") for part in ("word", "position")]
        branch = TextBranch.for_qformer(adapter.qformer, *sizes)  # type: ignore[arg-type]
    from_bert = config.adapter.kind == "qformer" and phase.init == "bert"
    origin = init_qformer(context, adapter, branch) if from_bert else [f"{config.adapter.kind}: new, random"]
    settings = PretrainingSettings(
        losses=tuple(phase.losses),
        loss_weights=dict(phase.loss_weights),
        label_smoothing=phase.label_smoothing,
        pair_mode=phase.pair_mode,
        margin=phase.margin,
        pair_projection=phase.pair_projection,
        source_dropout=phase.source_dropout,
        vg_scale=phase.grounding_scale,
    )
    grounding = embeddings[torch.as_tensor(vocabulary)].float() if "vg" in phase.losses else None
    users = {name: torch.from_numpy(v) for name, v in vectors.user_sources.items()}
    model = PretrainingModel(
        adapter,
        branch,
        vectors.tensors(),
        settings,
        user_vectors=users,
        llm_embeddings=grounding,
    )
    return model, origin


def _best_row(folder: Path, step: int) -> dict[str, float]:
    import polars as pl

    path = folder / "history-pretrain.csv"
    if not path.is_file():
        return {}
    frame = pl.read_csv(path).filter((pl.col("step") == step) & pl.col("name").str.starts_with("val/"))
    return dict(frame.select("name", "value").unique("name", keep="last", maintain_order=True).iter_rows())


def load_pretrained(artifact: Artifact) -> "Adapter":
    """The adapter that ``pretrain`` left, strictly loaded."""
    from safetensors.torch import load_file

    from ilm_lightning.adapters import build_adapter

    adapter = build_adapter(json.loads((artifact.path / "adapter.json").read_text(encoding="utf-8")))
    adapter.load_state_dict(load_file(artifact.path / "adapter.safetensors"))
    return adapter
