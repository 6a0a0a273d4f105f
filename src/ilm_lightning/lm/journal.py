"""Results of a long pass kept batch by batch on disk: after a kill the pass goes on behind its last finished batch."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

from ilm_lightning.ranks import anywhere, rank, world_size

log = logging.getLogger(__name__)


class Journal:
    """Rows by example id, a line with a checksum for each batch, on disk before the next batch starts.

    A line torn by a kill, or changed since, is cut away with all that follows when the file is opened.

    Attributes:
        rows: all that was added so far, in earlier lives too.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a journal, or start one.

        Args:
            path: its file; the folder is made if missing.
        """
        self.path = Path(path)
        self.rows: dict[str, Any] = {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        torn = self._read(self.path)
        if torn:
            log.info("%s: %d bytes of an unfinished or damaged batch are dropped", self.path.name, torn)
            os.truncate(self.path, self.path.stat().st_size - torn)

    def _read(self, path: Path) -> int:
        """Take over the rows of a file; returns the bytes behind its last finished batch."""
        data = path.read_bytes() if path.exists() else b""
        sound = 0
        for line in data.splitlines(keepends=True):
            batch = _rows_of(line)
            if batch is None:
                break
            self.rows |= batch
            sound += len(line)
        return len(data) - sound

    def mine(self, number: int) -> bool:
        """Whether this process runs the batch of a number."""
        return True

    def finish(self) -> None:
        """Wait until `rows` holds all."""

    def __contains__(self, example_id: object) -> bool:
        return example_id in self.rows

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, batch: Mapping[str, Any]) -> None:
        """Keep the rows of a finished batch.

        Args:
            batch: example id -> plain values.
        """
        written = json.dumps(dict(batch)).encode()
        with self.path.open("ab") as stream:
            stream.write(b"%08x %s\n" % (crc32(written), written))
            stream.flush()
            os.fsync(stream.fileno())
        self.rows |= batch


def _rows_of(line: bytes) -> dict[str, Any] | None:
    """The rows of a line; None where it is not as it was written."""
    checksum, _, written = line.partition(b" ")
    if not written.endswith(b"\n") or checksum != b"%08x" % crc32(written[:-1]):
        return None
    try:
        batch = json.loads(written)
    except ValueError:
        return None
    return batch if isinstance(batch, dict) else None


class SharedJournal(Journal):
    """The same for the processes of a run, which share the batches out: each adds to a file of its own.

    Started again with another number of processes, it finds what any of them had finished.

    Args:
        path: file of the first process, the same on all; the others' lie beside it.
    """

    def __init__(self, path: str | Path) -> None:
        self._first = Path(path)
        super().__init__(self._first if rank() == 0 else self._first.with_name(f"rank{rank()}-{self._first.name}"))
        self._read_others()

    def _read_others(self) -> None:
        for file in [self._first, *self._first.parent.glob(f"rank*-{self._first.name}")]:
            if file != self.path:
                self._read(file)

    def mine(self, number: int) -> bool:
        """Every W-th batch, from the process's number on."""
        return number % world_size() == rank()

    def finish(self) -> None:
        """Wait for the others, and read what they wrote."""
        anywhere(False)
        self._read_others()
