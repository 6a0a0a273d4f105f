"""Texts to unit vectors by a sentence-transformers model, each distinct text once."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ilm_lightning.hardware import cpu_bf16
from ilm_lightning.progress import track

log = logging.getLogger(__name__)

# encoded between two signs of progress
CHUNK = 512


def use_bf16(device: str, wish: bool | None) -> bool:
    """Decide whether to encode in bf16.

    Args:
        device: ``"cpu"`` or a CUDA device.
        wish: True or False as the user asked; None takes bf16 where the hardware gains from it.

    Returns:
        True for bf16.
    """
    if wish is not None:
        return wish
    return torch.cuda.is_bf16_supported() if device.startswith("cuda") else cpu_bf16()


class SentenceEncoder:
    """A sentence-transformers model that encodes each distinct text once.

    Attributes:
        name: the model's name, for printing beside a score.
        dim: width of a vector.
        bf16: whether it runs in bf16 (vectors come back in float32).
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        bf16: bool | None = None,
        batch_size: int = 32,
        device: str | None = None,
        name: str | None = None,
    ) -> None:
        """Load the model.

        Args:
            folder: a local folder, or any name that sentence-transformers knows.
            bf16: None takes bf16 where the hardware gains from it.
            batch_size: texts per forward; 32 is faster than more on a CPU (cache).
            device: None takes the first GPU, else the CPU.
            name: what to print beside a score; None takes the folder's name.

        Raises:
            ValueError: ``folder`` looks like a path and holds no sentence-transformers model.
        """
        path = Path(folder)
        looks_local = path.is_absolute() or str(folder).startswith((".", "~"))
        if looks_local and not (path / "config.json").is_file() and not (path / "modules.json").is_file():
            raise ValueError(
                f"{folder} holds no sentence-transformers model: expected modules.json or config.json there"
            )
        # heavy, and needed only once a model is really loaded
        from sentence_transformers import SentenceTransformer

        target = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.bf16 = use_bf16(target, bf16)
        dtype = torch.bfloat16 if self.bf16 else torch.float32
        self._model: Any = SentenceTransformer(str(folder), device=target, model_kwargs={"dtype": dtype})
        self._batch_size = batch_size
        self.name = name or path.name
        self.dim = int(self._model.get_embedding_dimension())

    def encode(self, texts: Sequence[str], label: str = "encoding texts") -> NDArray[np.float32]:
        """Encode texts.

        Args:
            texts: ``n`` texts; equal ones are encoded once.
            label: what the progress line says.

        Returns:
            ``[n, dim]`` float32 of unit length; an empty text gives the zero vector, so its cosine to anything is 0.
        """
        row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        vectors = np.zeros((len(row_of), self.dim), dtype=np.float32)
        # longest first: little padding, and the largest batch comes before the rest
        ordered = sorted((text for text in row_of if text.strip()), key=lambda text: (-len(text), text))
        starts = range(0, len(ordered), CHUNK)
        for start in track(starts, len(starts), label):
            chunk = ordered[start : start + CHUNK]
            rows = [row_of[text] for text in chunk]
            vectors[rows] = (
                self._model.encode(
                    chunk,
                    batch_size=self._batch_size,
                    show_progress_bar=False,
                    convert_to_tensor=True,
                )
                .float()
                .cpu()
                .numpy()
            )
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.maximum(norms, np.finfo(np.float32).tiny)
        return vectors[[row_of[text] for text in texts]]
