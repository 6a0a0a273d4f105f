"""The user's own two files, looked at before anything is imported or fetched."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ilm_lightning.engine.config import DataConfig

SMALL_BYTES = 4 << 20
"""Files up to this size are read whole: that takes well under a second."""


def check_custom_files(data: DataConfig) -> None:
    """Check the columns of both files and, where they are small, their rows; large ones are checked when read.

    Args:
        data: with ``interactions`` and ``items``.

    Raises:
        DataError: a missing file or column; whatever reading and preparing small files would say.
    """
    from ilm_lightning.data.load import check_files, load_dataset
    from ilm_lightning.data.prepare import prepare

    assert data.interactions
    assert data.items
    paths = {"interactions": Path(data.interactions), "items": Path(data.items)}
    check_files("custom", paths, data.columns)
    if sum(path.stat().st_size for path in paths.values()) > SMALL_BYTES:
        return
    with _unsaid():
        dataset = load_dataset("custom", paths, columns=data.columns, list_separator=data.list_separator)
        prepare(dataset, data.min_ratings)


@contextmanager
def _unsaid() -> Iterator[None]:
    """Keep back what is said again when the stage reads the files."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
