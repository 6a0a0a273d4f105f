"""A wide table on a narrow screen: some of its columns, and below them the others beside the same rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions
from rich.table import Table


@dataclass(frozen=True)
class Blocks:
    """A table that becomes several, one below another, where the screen is too narrow for it; no number is cut.

    Attributes:
        keys: of the columns that may be parted, in order.
        build: makes a table of some of them; the first is True in the first table, which has the title.
    """

    keys: Sequence[str]
    build: Callable[[Sequence[str], bool], Table]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        """Lay out as many columns a table as the screen holds, at least one."""
        left = list(self.keys)
        while left:
            # whole tables first: the widths of columns depend on one another only by their sum
            count = next((n for n in range(len(left), 1, -1) if self._fits(console, options, left[:n])), 1)
            yield self.build(left[:count], len(left) == len(self.keys))
            left = left[count:]

    def _fits(self, console: Console, options: ConsoleOptions, keys: Sequence[str]) -> bool:
        wide = options.update(max_width=10_000)
        return console.measure(self.build(keys, False), options=wide).maximum <= options.max_width
