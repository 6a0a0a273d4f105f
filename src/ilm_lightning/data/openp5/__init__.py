"""OpenP5's recommendation data: users' item sequences, their three indexings, and statistics."""

from ilm_lightning.data.openp5.indexing import Indexing, make_indexing, read_indexing
from ilm_lightning.data.openp5.raw import open_sequences, sequences_from_events, source_file, with_ties
from ilm_lightning.data.openp5.sequences import Sequences, read_sequences

__all__ = [
    "Indexing",
    "Sequences",
    "make_indexing",
    "open_sequences",
    "read_indexing",
    "read_sequences",
    "sequences_from_events",
    "source_file",
    "with_ties",
]
