"""``ItemVectors``: the frozen vectors of items and users, by source, and their file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ilm_lightning.permissions import follow_umask

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

# PROTOCOL 1: which sources an encoder hands to the adapter; two sources are two key/value tokens
ENCODERS: dict[str, tuple[str, ...]] = {
    "behavioral": ("behavioral",),
    "semantic": ("semantic",),
    "combined": ("behavioral", "semantic"),
}
TENSOR_FILE = "vectors.safetensors"
META_FILE = "vectors.json"
FORMAT = 1


class VectorFileError(ValueError):
    """A vector folder is missing, damaged, or of another shape than the run needs."""


@dataclass(frozen=True)
class Scaling:
    """One shift and one factor: ``(x - centre) / scale``, the same for items and users, so that geometry is kept.

    Attributes:
        centre: ``[d]``, the mean of the training items.
        scale: root mean square of the centred training items' entries.
    """

    centre: Floats
    scale: float

    def apply(self, vectors: Floats) -> Floats:
        """Centre and scale.

        Args:
            vectors: ``[n, d]`` in the source's own units.

        Returns:
            ``[n, d]`` with training items at mean 0 and root mean square 1.
        """
        return ((vectors - self.centre) / np.float32(self.scale)).astype(np.float32)

    def invert(self, vectors: Floats) -> Floats:
        """Undo ``apply``.

        Args:
            vectors: ``[n, d]`` centred and scaled.

        Returns:
            ``[n, d]`` in the source's own units.
        """
        return (vectors * np.float32(self.scale) + self.centre).astype(np.float32)


def fit_scaling(vectors: Floats, train: Mask) -> Scaling:
    """Measure centre and scale on training rows.

    Args:
        vectors: ``[n, d]``.
        train: ``[n]``, the rows that count.

    Returns:
        The scaling; scale 1 where the training rows are all equal.

    Raises:
        ValueError: no training row.
    """
    if not train.any():
        raise ValueError(
            "no training item has a vector: nothing to centre and scale on; use more data or another split"
        )
    rows = vectors[train].astype(np.float64)
    centre = rows.mean(0)
    spread = float(np.sqrt(np.mean((rows - centre) ** 2)))
    return Scaling(centre.astype(np.float32), spread if spread > 1e-12 else 1.0)


@dataclass(frozen=True)
class ItemVectors:
    """Frozen vectors of all items and users.

    Attributes:
        sources: per source ``[I, d]`` float32, centred and scaled on training items.
        user_sources: per source ``[U, d]`` float32, with the items' centre and scale.
        has_text: ``[I]``, items whose semantic vector comes from their own text (the others hold the mean).
        scaling: per source, how to get back to the source's own units.
        has_ratings: ``[I]``, items whose behavioral vector comes from ratings (the others hold zeros).
    """

    sources: dict[str, Floats]
    user_sources: dict[str, Floats]
    has_text: Mask
    scaling: dict[str, Scaling] = field(default_factory=dict)
    has_ratings: Mask = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("item vectors need at least one source")
        if self.has_ratings.size == 0:
            object.__setattr__(self, "has_ratings", np.ones_like(self.has_text))
        for name, matrix in {**self.sources, **{f"user {k}": v for k, v in self.user_sources.items()}}.items():
            if matrix.ndim != 2 or matrix.dtype != np.float32 or not np.isfinite(matrix).all():
                raise ValueError(f"{name} vectors must be a finite float32 matrix, not {matrix.dtype} {matrix.shape}")
        for name, matrix in self.sources.items():
            if len(matrix) != self.n_items or len(self.has_ratings) != self.n_items:
                raise ValueError(f"{name} vectors are of {len(matrix)} items, the others of {self.n_items}")
        for name, matrix in self.user_sources.items():
            if name not in self.dims or matrix.shape[1] != self.dims[name]:
                raise ValueError(f"user vectors {name} of width {matrix.shape[1]} do not match items {self.dims}")

    @property
    def n_items(self) -> int:
        """Number of items ``I``."""
        return len(self.has_text)

    @property
    def dims(self) -> dict[str, int]:
        """Width of each source."""
        return {name: matrix.shape[1] for name, matrix in self.sources.items()}

    def select(self, encoder: str) -> "ItemVectors":
        """Keep what one encoder hands to the adapter.

        Args:
            encoder: ``"behavioral"``, ``"semantic"`` or ``"combined"``.

        Returns:
            The same vectors with that encoder's sources only.

        Raises:
            ValueError: unknown encoder, or its source was not built.
        """
        if encoder not in ENCODERS:
            raise ValueError(f"unknown encoder {encoder!r}: choose one of {', '.join(ENCODERS)}")
        names = ENCODERS[encoder]
        missing = [name for name in names if name not in self.sources]
        if missing:
            raise ValueError(
                f"encoder {encoder} needs {', '.join(missing)} vectors; here are {', '.join(self.sources)}"
            )
        return ItemVectors(
            {name: self.sources[name] for name in names},
            {name: self.user_sources[name] for name in names if name in self.user_sources},
            self.has_text,
            {name: self.scaling[name] for name in names if name in self.scaling},
            self.has_ratings,
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """Hand the items' vectors to torch.

        Returns:
            Per source ``[I, d]`` float32, sharing memory.
        """
        return {name: torch.from_numpy(matrix) for name, matrix in self.sources.items()}

    def user_tensors(self) -> dict[str, torch.Tensor]:
        """Hand the users' vectors to torch.

        Returns:
            Per source ``[U, d]`` float32, sharing memory.
        """
        return {name: torch.from_numpy(matrix) for name, matrix in self.user_sources.items()}

    def slot_tensors(self) -> dict[str, torch.Tensor]:
        """Hand out what slots may point to: the items' vectors, then the users'.

        Returns:
            Per source ``[I + U, d]`` float32; row ``I + u`` is user ``u``.

        Raises:
            ValueError: a source has no user vectors.
        """
        missing = [name for name in self.sources if name not in self.user_sources]
        if missing:
            raise ValueError(f"there are no user vectors of {', '.join(missing)}: build the vectors again")
        users = self.user_tensors()
        return {name: torch.cat([rows, users[name]]) for name, rows in self.tensors().items()}

    def raw(self, source: str) -> Floats:
        """Give the items' vectors in the source's own units (ALS factors, unit-length text vectors averaged).

        Args:
            source: ``"behavioral"`` or ``"semantic"``.

        Returns:
            ``[I, d]``; items without ratings are zero in ``"behavioral"``, as ALS leaves them.
        """
        scaling = self.scaling.get(source)
        raw = self.sources[source].copy() if scaling is None else scaling.invert(self.sources[source])
        if source == "behavioral":
            raw[~self.has_ratings] = 0.0
        return raw

    def save(self, folder: Path) -> None:
        """Write the vectors.

        Args:
            folder: made if missing; gets ``vectors.safetensors`` and ``vectors.json``.
        """
        folder.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, NDArray[np.generic]] = {"has_text": self.has_text, "has_ratings": self.has_ratings}
        for name, matrix in self.sources.items():
            tensors[f"items.{name}"] = np.ascontiguousarray(matrix)
        for name, matrix in self.user_sources.items():
            tensors[f"users.{name}"] = np.ascontiguousarray(matrix)
        for name, scaling in self.scaling.items():
            tensors[f"centre.{name}"] = scaling.centre
        save_file(tensors, folder / TENSOR_FILE)
        follow_umask(folder / TENSOR_FILE)
        meta = {"format": FORMAT, "dims": self.dims, "scale": {k: v.scale for k, v in self.scaling.items()}}
        (folder / META_FILE).write_text(json.dumps(meta, indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, expect_dims: Mapping[str, int] | None = None) -> "ItemVectors":
        """Read vectors written by ``save``.

        Args:
            folder: where they lie.
            expect_dims: the widths an adapter or checkpoint was built for; None accepts any.

        Returns:
            The vectors.

        Raises:
            VectorFileError: missing or damaged files, or a width other than expected.
        """
        try:
            meta = json.loads((folder / META_FILE).read_text(encoding="utf-8"))
            tensors = load_file(folder / TENSOR_FILE)
            sources = {name: tensors[f"items.{name}"] for name in meta["dims"]}
            scaling = {k: Scaling(tensors[f"centre.{k}"], float(v)) for k, v in meta["scale"].items()}
            users = {name: tensors[f"users.{name}"] for name in meta["dims"] if f"users.{name}" in tensors}
            vectors = cls(sources, users, tensors["has_text"], scaling, tensors["has_ratings"])
        except FileNotFoundError as error:
            raise VectorFileError(
                f"no item vectors in {folder}: {error.filename} is missing; run the embed stage"
            ) from error
        except (SafetensorError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise VectorFileError(
                f"item vectors in {folder} are damaged ({error}); delete the folder and embed again"
            ) from error
        if vectors.dims != dict(meta["dims"]):
            raise VectorFileError(f"item vectors in {folder} are {vectors.dims}, their description says {meta['dims']}")
        if expect_dims is not None and vectors.dims != dict(expect_dims):
            raise VectorFileError(
                f"item vectors in {folder} have widths {vectors.dims}, this run needs {dict(expect_dims)}: "
                "embed again with the same encoder settings"
            )
        return vectors
