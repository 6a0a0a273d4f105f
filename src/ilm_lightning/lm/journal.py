"""Results of a long pass kept batch by batch on disk: after a kill the pass goes on behind its last finished batch."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class Journal:
    """Rows by example id, one JSON line a batch, on disk before the next batch starts.

    A line torn by a kill is cut away when the file is opened.

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
        data = self.path.read_bytes() if self.path.exists() else b""
        sound = 0
        for line in data.splitlines(keepends=True):
            try:
                batch = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n") or not isinstance(batch, dict):
                break
            self.rows |= batch
            sound += len(line)
        if sound < len(data):
            log.info("%s: %d bytes of an unfinished batch are dropped", self.path.name, len(data) - sound)
            os.truncate(self.path, sound)

    def __contains__(self, example_id: object) -> bool:
        return example_id in self.rows

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, batch: Mapping[str, Any]) -> None:
        """Keep the rows of a finished batch.

        Args:
            batch: example id -> plain values.
        """
        with self.path.open("ab") as stream:
            stream.write(json.dumps(dict(batch)).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.rows |= batch
