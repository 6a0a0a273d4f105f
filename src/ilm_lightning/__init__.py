"""Item-Language Model: item vectors as soft tokens of a language model."""

__version__ = "0.1.0"
