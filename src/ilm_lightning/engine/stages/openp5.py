"""OpenP5 data as stages: sequences, indexing and item texts to the tables that every later stage reads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ilm_lightning.data.openp5 import Indexing, Sequences, make_indexing, open_sequences, read_indexing, with_ties
from ilm_lightning.engine.artifacts import Artifact, file_hash, source_hash, write_json
from ilm_lightning.engine.checks import ConfigError
from ilm_lightning.engine.stages.context import Context

SEQUENCES, INDEXING = "sequences.parquet", "indexing.json"


def prepare_openp5(context: Context) -> Artifact:
    """Sequences to ``sequences``, ``indexing``, ``items`` and ``interactions`` (of which only training ones are kept).

    Every item may be trained on, so the split of items is ``train`` throughout: here users' last items are held out.
    """
    config = context.config.data
    assert config.path is not None
    folder = Path(config.path)
    texts = Path(config.items) if config.items else None
    files = sorted(p for p in folder.iterdir() if p.is_file())
    if texts is not None:
        files += sorted(p for p in texts.iterdir() if p.is_file()) if texts.is_dir() else [texts]
    inputs = {f"{path.parent.name}/{path.name}": file_hash(path) for path in files}
    settings = {
        "code": source_hash("data"),
        "kind": config.kind,
        "name": config.name,
        "indexing": config.indexing,
        "clusters": config.clusters,
        "token_size": config.token_size,
    }

    def build(target: Path) -> dict[str, Any]:
        from ilm_lightning.data.openp5.catalog import build_catalog

        sequences = with_ties(open_sequences(folder, config.name), texts)
        indexing = read_indexing(folder, config.indexing, sequences)
        if indexing is None:
            indexing = make_indexing(sequences, config.indexing, config.clusters, config.token_size)
        catalog = build_catalog(sequences, texts)
        write_sequences(sequences, indexing, target)
        catalog.write(target / "items.parquet")
        sequences.training_interactions().write(target / "interactions.parquet")
        write_json(target / "split.json", ["train"] * sequences.n_items)
        return {
            **sequences.statistics(),
            "reconstructed": sequences.reconstructed,
            **({} if sequences.tied is None else {"users_tied_at_end": int(sequences.tied.sum())}),
            "indexing": f"{indexing.kind} ({indexing.source})",
            "items_without_text": sum(not item.has_text for item in catalog),
            "terms": "research use; see the data set's own terms",
        }

    return context.store.get("prepare", settings, inputs, build)


def write_sequences(sequences: Sequences, indexing: Indexing, folder: Path) -> None:
    """Write both as files of the artefact."""
    frame = pl.DataFrame({"user": sequences.users_of_values.astype(np.uint32), "item": sequences.values})
    frame.write_parquet(folder / SEQUENCES)
    write_json(
        folder / INDEXING,
        {
            "name": sequences.name,
            "reconstructed": sequences.reconstructed,
            "tied": None if sequences.tied is None else np.flatnonzero(sequences.tied).tolist(),
            "user_ids": sequences.user_ids,
            "item_ids": sequences.item_ids,
            "kind": indexing.kind,
            "source": indexing.source,
            "items": indexing.items,
            "users": indexing.users,
        },
    )


def load_sequences(prepared: Artifact) -> tuple[Sequences, Indexing]:
    """Read what `prepare_openp5` wrote."""
    meta = json.loads((prepared.path / INDEXING).read_text(encoding="utf-8"))
    frame = pl.read_parquet(prepared.path / SEQUENCES)
    lengths = np.bincount(frame["user"].to_numpy(), minlength=len(meta["user_ids"]))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = frame["item"].to_numpy().astype(np.int32)
    # an artefact of an earlier version does not say
    rows = meta.get("tied")
    tied = None if rows is None else np.isin(np.arange(len(lengths)), rows)
    sequences = Sequences(
        meta["name"], meta["user_ids"], meta["item_ids"], offsets, values, meta["reconstructed"], tied
    )
    return sequences, Indexing(meta["kind"], meta["items"], meta["users"], meta["source"])


def check_prepared(context: Context, prepared: Artifact) -> None:
    """See whether there are training examples and the tokenizer can write the items' ids, before anything is trained.

    Args:
        context: the run.
        prepared: from `prepare_openp5`.

    Raises:
        DataError: no user has enough items to train on.
        ConfigError: an id with characters that the tokenizer does not know; items would look alike.
    """
    from transformers import AutoTokenizer

    sequences, indexing = load_sequences(prepared)
    sequences.check_trainable()
    name, kind = context.config.lm.name, context.config.data.indexing
    tokenizer = AutoTokenizer.from_pretrained(str(context.asset(name).path))
    if tokenizer.unk_token_id is None:
        return
    texts = [f"item_{one}" for one in indexing.items]
    for text, tokens in zip(texts, tokenizer(texts).input_ids, strict=True):
        if tokenizer.unk_token_id in tokens:
            raise ConfigError(
                f"data.indexing={kind}: the tokenizer of lm.name={name} does not know all characters of {text}; "
                "take data.indexing=sequential or random, or another language model"
            )
