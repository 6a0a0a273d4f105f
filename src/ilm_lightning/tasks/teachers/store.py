"""Every answer ever received, one record per question, kept in one SQLite file: nothing paid for is asked twice.

Each answer is one transaction that is on disk before the next step; a kill in the middle of a write leaves the file as
it was before that write. Several processes may use one file.
"""

import json
import logging
import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self
from zlib import crc32

from ilm_lightning.tasks.teachers.errors import TeacherError
from ilm_lightning.tasks.teachers.request import Answer, Request

log = logging.getLogger("ilm_lightning")
BUSY_S = 60.0
"""How long to wait for another process that is writing."""


def store_path(folder: Path, model: str) -> Path:
    """Where the answers of a model are kept.

    Args:
        folder: the folder of all teachers' answers.
        model: the model's name; characters that file names should not have are replaced.

    >>> store_path(Path("cache"), "org/Model 7B").name
    'org-Model-7B.sqlite'
    """
    return folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', model).strip('-.') or 'model'}.sqlite"


def checksum(answer: object) -> int:
    """A number that tells whether an answer is as it was written."""
    return crc32(json.dumps(answer, sort_keys=True).encode())


class AnswerStore:
    """The answers of one model.

    Args:
        path: the file; made with its folder if it is not there.

    Raises:
        TeacherError: the file cannot be opened or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TeacherError(
                f"cannot make {path.parent} for the teacher's answers ({error.strerror}); "
                "set ILM_CACHE to a folder you own"
            ) from error
        with self._told():
            self._connection = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False, isolation_level=None)
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID"
            )

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise TeacherError(
                f"the teacher's answers in {self.path} cannot be read or written ({error}); free disk space or rights, "
                "or, where the file is damaged, move it away: its answers would then be asked for again"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __len__(self) -> int:
        with self._lock, self._told():
            return int(self._connection.execute("SELECT count(*) FROM answers").fetchone()[0])

    def __contains__(self, request: Request) -> bool:
        return self.get(request) is not None

    def get(self, request: Request) -> Answer | None:
        """The answer to a question, or None where it was never answered; a damaged record is named and deleted."""
        with self._lock, self._told():
            found = self._connection.execute("SELECT record FROM answers WHERE key = ?", (request.key,)).fetchone()
        if found is None:
            return None
        try:
            record = json.loads(found[0])
            # records of earlier versions have no checksum
            if record.get("checksum", checksum(record["answer"])) == checksum(record["answer"]):
                return Answer(**record["answer"])
        except (ValueError, TypeError, KeyError, AttributeError):
            pass
        log.warning("%s: the answer %s is not as it was written; it is asked for again", self.path, request.key[:12])
        with self._lock, self._told():
            self._connection.execute("DELETE FROM answers WHERE key = ?", (request.key,))
        return None

    def put(self, answers: Iterable[tuple[Request, Answer]]) -> None:
        """Keep answers, all or none; they are on disk when this returns. The first answer to a question stays."""
        rows = [
            (
                request.key,
                json.dumps(
                    {
                        "model": request.model,
                        "messages": request.messages,
                        "settings": dict(request.settings),
                        "example_id": request.example_id,
                        "answer": answer.to_dict(),
                        "checksum": checksum(answer.to_dict()),
                        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    },
                    ensure_ascii=True,
                ),
            )
            for request, answer in answers
        ]
        with self._lock, self._told():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", rows)
                self._connection.execute("COMMIT")
            except BaseException:
                # a full disk has rolled back by itself
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
