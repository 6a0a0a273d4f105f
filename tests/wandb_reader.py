"""Reads what a W&B run wrote to disk: records of protocol buffers in the log format of LevelDB."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK = 32768
HEADER = 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class OfflineRun:
    """All that a folder of an offline run holds.

    Attributes:
        run: the run's own record (id, group, job type, tags).
        config: key -> value.
        history: one dictionary a logged step.
        artifacts: those that the run declared as its output.
        tables: name -> tables in the order of logging, each a dictionary of columns and data.
    """

    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[Any] = field(default_factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def values(self, name: str) -> list[float]:
        """All values of a metric."""
        return [row[name] for row in self.history if name in row]


def records(path: Path) -> Iterator[Any]:
    """The records of a ``run-ID.wandb`` file."""
    from wandb.proto.wandb_internal_pb2 import Record

    raw = path.read_bytes()
    magic, number, version = struct.unpack("<4sHB", raw[:HEADER])
    assert (magic, number, version) == (b":W&B", 0xBEE1, 0)
    place, parts = HEADER, b""
    while place + HEADER <= len(raw):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", raw[place : place + HEADER])
        body = raw[place + HEADER : place + HEADER + size]
        assert len(body) == size
        place += HEADER + size
        parts = body if kind in (FULL, FIRST) else parts + body
        if kind in (FULL, LAST):
            record = Record()
            record.ParseFromString(parts)
            yield record


def read_run(folder: Path) -> OfflineRun:
    """Read one ``offline-run-…`` folder."""
    found = OfflineRun()
    (path,) = folder.glob("run-*.wandb")
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found.run = record.run
            _update(found.config, record.run.config.update)
        elif kind == "config":
            _update(found.config, record.config.update)
        elif kind == "history":
            row = {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item}
            found.history.append(row)
            for name in [key.removesuffix("/_type") for key, value in row.items() if value == "table-file"]:
                table = json.loads((folder / "files" / row[f"{name}/path"]).read_text())
                found.tables.setdefault(name, []).append(table)
        elif kind == "artifact":
            found.artifacts.append(record.artifact)
        elif kind == "request" and record.request.WhichOneof("request_type") == "log_artifact":
            found.artifacts.append(record.request.log_artifact.artifact)
    return found


def _update(config: dict[str, Any], entries: Any) -> None:
    for entry in entries:
        config[entry.key or ".".join(entry.nested_key)] = json.loads(entry.value_json)


def read_runs(root: Path) -> list[OfflineRun]:
    """Every offline run below a folder, oldest first."""
    return [read_run(folder) for folder in sorted(root.glob("**/offline-run-*")) if folder.is_dir()]
