"""Progress with time left, on a terminal as a bar and elsewhere as one plain line every few seconds."""

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
log = logging.getLogger(__name__)

PLAIN_INTERVAL_S = 15.0


def clock(seconds: float) -> str:
    """Format a duration.

    Args:
        seconds: duration in seconds.

    Returns:
        ``"4s"``, ``"3m20s"`` or ``"2h05m"``.

    >>> clock(4.2), clock(200), clock(7500)
    ('4s', '3m20s', '2h05m')
    """
    total = round(seconds)
    if total < 60:
        return f"{total}s"
    if total < 3600:
        return f"{total // 60}m{total % 60:02d}s"
    return f"{total // 3600}h{total % 3600 // 60:02d}m"


def track(iterable: Iterable[T], total: int, label: str) -> Iterator[T]:
    """Yield from ``iterable`` and show how far it is and how long it still takes.

    Args:
        iterable: the work items.
        total: how many there are.
        label: what is being done, in a few words.

    Yields:
        The items, unchanged.
    """
    if sys.stderr.isatty():
        # inside of another bar it goes away when it is full
        yield from tqdm(iterable, total=total, desc=label, dynamic_ncols=True, leave=None)
        return
    start = last = time.monotonic()
    for done, item in enumerate(iterable):
        now = time.monotonic()
        if now - last >= PLAIN_INTERVAL_S and done:
            left = (now - start) / done * (total - done)
            log.info("%s: %d of %d, %s left", label, done, total, clock(left))
            last = now
        yield item


@contextmanager
def without_bars() -> Iterator[None]:
    """Hide transformers' own bars in a ``with`` block; shown again after it where they were before."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    _switch(transformers_logging.disable_progress_bar)
    try:
        yield
    finally:
        if shown:
            _switch(transformers_logging.enable_progress_bar)


def _switch(bars: Callable[[], None]) -> None:
    with warnings.catch_warnings():
        # the hub's client says so where HF_HUB_DISABLE_PROGRESS_BARS has decided already
        warnings.filterwarnings("ignore", message="Cannot (en|dis)able progress bars")
        bars()


class BesideBars(logging.StreamHandler):  # type: ignore[type-arg]
    """Write messages on lines of their own, above a bar that is being drawn on the same terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        """Take the bars away, write, and draw them again."""
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)
