"""The contract of all adapters.

Notation: n items, q queries (soft tokens an item), d_s width of source s, d output width (the language model's).
"""

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

OURS = __name__.rpartition(".")[0]


class Adapter(nn.Module, ABC):
    """Maps the vectors of items to soft tokens.

    A subclass names its kind in the class statement, ``class MyAdapter(Adapter, kind="mine")``; `build_adapter` then
    finds it. Its constructor takes plain values only, and `config` holds them all, so that ``config`` and
    ``state_dict()`` together restore the adapter. A class outside this package is found by its ``target``, which
    `config` holds as well.

    Attributes:
        kind: Name of the architecture in a config.
        source_dims: Width d_s of each source, sorted by the source's name.
        num_queries: Soft tokens an item, q.
        output_dim: Width of a soft token, d.
        config: JSON-able values from which `build_adapter` makes the same architecture.
    """

    kind: ClassVar[str]
    _kinds: ClassVar[dict[str, type["Adapter"]]] = {}

    def __init_subclass__(cls, kind: str, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls.kind = kind
        Adapter._kinds[kind] = cls

    def __init__(self, source_dims: Mapping[str, int], output_dim: int, num_queries: int, **settings: object) -> None:
        super().__init__()
        require_positive(output_dim=output_dim, num_queries=num_queries)
        self.source_dims = sorted_source_dims(source_dims)
        self.output_dim = output_dim
        self.num_queries = num_queries
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        self.config: dict[str, Any] = {
            "kind": self.kind,
            **({} if path.startswith(f"{OURS}.") else {"target": path}),
            "source_dims": dict(self.source_dims),
            "output_dim": output_dim,
            "num_queries": num_queries,
            **settings,
        }

    @abstractmethod
    def forward(self, sources: Mapping[str, Tensor], source_mask: Tensor | None = None) -> Tensor:
        """Computes soft tokens.

        Args:
            sources: Vectors [n, d_s] by source name; sources that the adapter was not built for are ignored.
            source_mask: Bool [n, number of sources], sources in the order of `source_dims`; False hides the source of
                this item. At least one source an item must stay visible.

        Returns:
            Soft tokens [n, q, d].

        Raises:
            ValueError: If a source is missing or has another width than the adapter was built for.
        """


def build_adapter(config: Mapping[str, Any]) -> Adapter:
    """Builds an adapter with new weights from its config.

    Args:
        config: ``kind`` (qformer, mlp, collm, perceiver, constant), or ``target`` (`adapter_class`), and the arguments
            of that class.

    Returns:
        The adapter.

    Raises:
        ValueError: If the kind or an argument is unknown, an argument is missing, or a value is impossible.
    """
    if config.get("target"):
        cls = adapter_class(str(config["target"]))
    elif (kind := config.get("kind")) in Adapter._kinds:
        cls = Adapter._kinds[str(kind)]
    else:
        raise ValueError(f"unknown adapter kind {kind!r}: use one of {', '.join(sorted(Adapter._kinds))}")
    kind = cls.kind
    arguments = {str(key): value for key, value in config.items() if key not in ("kind", "target")}
    parameters = {name: p for name, p in inspect.signature(cls).parameters.items() if p.kind is not p.VAR_KEYWORD}
    if unknown := sorted(set(arguments) - set(parameters)):
        raise ValueError(f"adapter {kind!r} does not know {', '.join(unknown)}: it takes {', '.join(parameters)}")
    required = {name for name, p in parameters.items() if p.default is p.empty}
    if missing := sorted(required - set(arguments)):
        raise ValueError(f"adapter {kind!r} needs {', '.join(missing)}")
    return cls(**arguments)


def adapter_class(target: str) -> type[Adapter]:
    """Finds a class of the user's own.

    Args:
        target: ``module.Class``; the module has to be importable, from the working folder for instance.

    Returns:
        The class.

    Raises:
        ValueError: If there is no such module or class, or the class is no adapter.
    """
    module, _, name = target.rpartition(".")
    if not module or not name.isidentifier():
        raise ValueError(f"adapter {target!r}: give module.Class, as my_adapters.GatedAdapter")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise ValueError(
            f"adapter {target!r} cannot be imported ({error}); run the command in the folder of {module}.py, or put "
            "that folder on PYTHONPATH"
        ) from error
    if not isinstance(found, type) or not issubclass(found, Adapter):
        what = "there is no such class" if found is None else "it is no subclass of ilm_lightning.adapters.Adapter"
        raise ValueError(f"adapter {target!r}: {what}")
    return found


def check_sources(sources: Mapping[str, Tensor], source_dims: Mapping[str, int]) -> list[Tensor]:
    """Picks the sources an adapter was built for and checks their shapes.

    Args:
        sources: Vectors [n, d_s] by source name.
        source_dims: Expected widths.

    Returns:
        The vectors in the order of `source_dims`.

    Raises:
        ValueError: If a source is missing, is not [n, d_s], or the numbers of items differ.
    """
    vectors = []
    for name, width in source_dims.items():
        if name not in sources:
            raise ValueError(f"source {name!r} is missing: got {sorted(sources)}, expected {list(source_dims)}")
        vector = sources[name]
        if vector.ndim != 2 or vector.shape[1] != width:
            raise ValueError(
                f"source {name!r} has shape {list(vector.shape)}, expected [n, {width}]: "
                "the adapter was built for other vectors; use the encoder it was built with or build it anew"
            )
        vectors.append(vector)
    if len({len(vector) for vector in vectors}) > 1:
        counts = {name: len(vector) for name, vector in zip(source_dims, vectors, strict=True)}
        raise ValueError(f"sources hold different numbers of items: {counts}")
    return vectors


def check_source_mask(source_mask: Tensor, rows: int, sources: int) -> None:
    """Checks a source mask.

    Raises:
        ValueError: If its shape is not [rows, sources] or it hides every source of an item.
    """
    if tuple(source_mask.shape) != (rows, sources):
        raise ValueError(f"source_mask has shape {list(source_mask.shape)}, expected [{rows}, {sources}]")
    if not bool(source_mask.any(dim=1).all()):
        raise ValueError("source_mask hides every source of an item: keep at least one source visible")


def side_by_side(vectors: list[Tensor], source_mask: Tensor | None) -> Tensor:
    """Joins sources [n, d_s] to one vector [n, sum of d_s]; those that a checked mask [n, sources] hides are zero.

    >>> side_by_side([torch.ones(1, 1), torch.ones(1, 2)], torch.tensor([[False, True]])).tolist()
    [[0.0, 1.0, 1.0]]
    """
    if source_mask is not None:
        vectors = [vector.masked_fill(~source_mask[:, i, None], 0.0) for i, vector in enumerate(vectors)]
    return torch.cat(vectors, dim=1)


def joined_sources(sources: Mapping[str, Tensor], source_dims: Mapping[str, int], source_mask: Tensor | None) -> Tensor:
    """Checks sources and their mask and joins them to one vector [n, sum of d_s] an item.

    Raises:
        ValueError: As `check_sources` and `check_source_mask`.
    """
    vectors = check_sources(sources, source_dims)
    if source_mask is not None:
        check_source_mask(source_mask, len(vectors[0]), len(vectors))
    return side_by_side(vectors, source_mask)


def sorted_source_dims(source_dims: Mapping[str, int]) -> dict[str, int]:
    """Returns the sources' widths sorted by name, so that the order of a config file does not matter.

    Raises:
        ValueError: If there is no source, a width is below 1, or a name cannot name a submodule.
    """
    if not source_dims:
        raise ValueError("source_dims is empty: an adapter needs at least one source")
    for name in source_dims:
        if not name.isidentifier() or hasattr(nn.ModuleDict, name):
            raise ValueError(f"source name {name!r} cannot be used: choose a plain word such as 'semantic'")
    require_positive(**{f"source_dims.{name}": int(width) for name, width in source_dims.items()})
    return {name: int(source_dims[name]) for name in sorted(source_dims)}


def require_positive(**values: int) -> None:
    """Checks that all values are at least 1.

    Raises:
        ValueError: Naming the first value that is not.
    """
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name}={value}: must be at least 1")


def check_attention(hidden_size: int, num_heads: int, dropout: float) -> None:
    """Checks what every attention needs.

    Raises:
        ValueError: If `num_heads` does not divide `hidden_size`, or dropout is not in [0, 1).
    """
    if hidden_size % num_heads:
        raise ValueError(f"hidden_size={hidden_size} is not a multiple of num_heads={num_heads}")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout={dropout}: must be at least 0 and below 1")


def count_parameters(module: nn.Module) -> int:
    """Counts the module's parameters, shared ones once.

    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in module.parameters())
