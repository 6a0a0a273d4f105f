"""Item and user vectors: ALS's factors and the texts' vectors, each an artefact of its own, and both on one scale."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ilm_lightning.engine.artifacts import SCRATCH, Artifact, source_hash
from ilm_lightning.engine.config import AlsConfig, Config
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.data import read_tables

if TYPE_CHECKING:
    from ilm_lightning.embeddings.vectors import Floats, Mask

FACTORS, TEXTS = "factors.safetensors", "texts.safetensors"


def reads_texts(config: Config) -> bool:
    """Whether anything in a run reads semantic vectors.

    Language tasks do whatever the encoder is, for neighbours and measures; recommendation reads its encoder's alone.
    """
    return config.data.kind != "openp5" or config.encoder.name != "behavioral"


def embed(context: Context, prepared: Artifact) -> Artifact:
    """Item and user vectors of every source; variants select what they read.

    Args:
        context: the run.
        prepared: tables.

    Returns:
        The artefact, an ``ItemVectors``; without ``semantic`` where nothing reads it or no item has any text.
    """
    encoder = context.config.encoder
    settings = {"code": source_hash("embeddings"), "fields": list(encoder.text_fields)}
    factors = fit_factors(context, prepared)
    inputs: dict[str, Artifact | str] = {"prepare": prepared, "als": factors}
    encoded = encode_texts(context, prepared) if reads_texts(context.config) else None
    if encoded is not None:
        inputs["encode"] = encoded
    parts = [factors] if encoded is None else [factors, encoded]

    def build(folder: Path) -> dict[str, Any]:
        from ilm_lightning.embeddings.build import build_vectors

        interactions, catalog, split = read_tables(prepared)
        semantic = None if encoded is None else _read_texts(encoded)
        vectors = build_vectors(
            interactions, catalog, _read_factors(factors), semantic, train=split == "train", fields=encoder.text_fields
        )
        vectors.save(folder)
        return {
            "dims": vectors.dims,
            "without_text": int((~vectors.has_text).sum()),
            "seconds": {part.stage: part.manifest["seconds"] for part in parts},
        }

    return context.store.get("embed", settings, inputs, build)


def fit_factors(context: Context, prepared: Artifact) -> Artifact:
    """ALS's factors of items and users, in their own units."""
    als = context.config.encoder.als
    seed = context.config.seed if als.seed is None else als.seed
    settings = {"code": source_hash("embeddings"), "als": als_settings(als), "seed": seed}

    def build(folder: Path) -> dict[str, Any]:
        interactions = read_tables(prepared)[0]
        items, users = _factorisation(als, folder / SCRATCH)(
            interactions,
            als.factors,
            als.regularization,
            als.alpha,
            als.iterations,
            seed,
            context.config.trainer.threads,
        )
        _write(folder / FACTORS, items=items, users=users)
        return {"items": len(items), "users": len(users)}

    return context.store.get("als", settings, {"prepare": prepared}, build)


def encode_texts(context: Context, prepared: Artifact) -> Artifact:
    """The items' mean text vectors; neither a seed nor ALS changes them. Holds nothing where no item has any text."""
    encoder = context.config.encoder
    asset = context.asset(encoder.text_model)
    settings = {"code": source_hash("embeddings"), "fields": list(encoder.text_fields)}

    def build(folder: Path) -> dict[str, Any]:
        from ilm_lightning.embeddings.semantic import encode_items

        _, catalog, split = read_tables(prepared)
        if not any(item.has_text for item in catalog):
            return {"items": len(catalog), "without_text": len(catalog)}
        vectors, has_text = encode_items(catalog, asset.path, encoder.text_fields, train=split == "train")
        _write(folder / TEXTS, items=vectors, has_text=has_text)
        return {"items": len(catalog), "without_text": int((~has_text).sum())}

    return context.store.get("encode", settings, {"prepare": prepared, "text_model": asset.sha256}, build)


def als_settings(als: AlsConfig) -> dict[str, Any]:
    """What determines the factors; where Spark runs does not."""
    # the seed stands apart, resolved
    left_out = {"spark_master", "seed"} | ({"engine"} if als.engine == "own" else set())
    return {key: value for key, value in asdict(als).items() if key not in left_out}


def _factorisation(als: AlsConfig, scratch: Path) -> Any:
    if als.engine == "own":
        from ilm_lightning.embeddings.behavioral import fit_als

        return fit_als
    if als.engine == "implicit":
        from ilm_lightning.embeddings.behavioral import fit_implicit

        return fit_implicit
    from ilm_lightning.embeddings.spark import fit_spark

    return partial(fit_spark, folder=scratch, master=als.spark_master)


def _write(path: Path, **arrays: Any) -> None:
    from safetensors.numpy import save_file

    from ilm_lightning.permissions import follow_umask

    save_file(arrays, path)
    follow_umask(path)


def _read_factors(fitted: Artifact) -> "tuple[Floats, Floats]":
    from safetensors.numpy import load_file

    found = load_file(fitted.path / FACTORS)
    return found["items"], found["users"]


def _read_texts(encoded: Artifact) -> "tuple[Floats, Mask] | None":
    from safetensors.numpy import load_file

    if not (encoded.path / TEXTS).is_file():
        return None
    found = load_file(encoded.path / TEXTS)
    return found["items"], found["has_text"]
