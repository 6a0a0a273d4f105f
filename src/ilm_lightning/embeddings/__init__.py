"""Tables to item and user vectors: behavioral (ALS), semantic (sentence-transformers), combined."""

from ilm_lightning.embeddings.build import build_vectors
from ilm_lightning.embeddings.vectors import ENCODERS, ItemVectors, VectorFileError

__all__ = ["ENCODERS", "ItemVectors", "VectorFileError", "build_vectors"]
