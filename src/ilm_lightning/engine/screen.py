"""What a run says on screen besides progress: tables readable on a plain terminal."""

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def console() -> Console:
    """Console on standard error, 100 columns where the width is unknown."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else 110, highlight=False)


def show_parameters(rows: Sequence[Any]) -> None:
    """Print trained and frozen parameters by component and where the weights came from.

    Args:
        rows: ``ilm_lightning.lm.ParameterRow``s.
    """
    table = Table(title="Parameters", title_justify="left")
    table.add_column("part")
    table.add_column("trained", justify="right")
    table.add_column("frozen", justify="right")
    table.add_column("weights from", overflow="fold")
    for row in rows:
        table.add_row(row.component, f"{row.trainable:,}", f"{row.frozen:,}", row.origin)
    console().print(table)
