"""Endpoints, downloads and archives that fail or want to harm; and no call that nobody asked for."""

import hashlib
import io
import json
import logging
import os
import socket
import sqlite3
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "assets"))
from asset_server import FileServer, handler

from faults.declared import Case, Fault, fault, marks, told
from ilm_lightning.assets.archive import Limits, extract
from ilm_lightning.assets.download import download
from ilm_lightning.assets.fetch import resolve
from ilm_lightning.tasks.teachers.errors import TeacherError
from ilm_lightning.tasks.teachers.request import Answer, Request
from ilm_lightning.tasks.teachers.store import AnswerStore
from tasks.teacher_server import TEXT, ChatServer, chat_server
from tasks.teacher_server import Fault as Bad
from tasks.test_teacher_endpoint import Clock, questions, teacher_at

TEACHERS = "Endpoints of teachers"
ARCHIVES = "Archives"
DOWNLOADS = "Downloads"
KEY = "sk-very-secret-0123456789"


def asked(bad: list[Bad], folder: Path, **settings: Any) -> str:
    """Ask five questions of a server that answers badly first; what was told."""
    clock = Clock()
    with chat_server() as server, AnswerStore(folder / "answers.sqlite") as store:
        server.faults = bad
        teacher = teacher_at(server.url, clock, key=KEY, timeout=0.5, **settings)
        try:
            failures = teacher.answer(questions(5), store)
        except TeacherError as error:
            return f"ends: {error}"
        kept = len(store)
    return f"{kept} of 5 answers; {len(failures)} without" + (f" ({next(iter(failures.values()))})" if failures else "")


ENDPOINT = [
    (
        "a wrong key (401)",
        [Bad(401, b'{"error": {"message": "bad key sk-very-secret-0123456789"}}')] * 9,
        "ends, key masked",
    ),
    ("no money left (402)", [Bad(402)] * 9, "ends, answers kept"),
    (
        "quota used up (429 with insufficient_quota)",
        [Bad(429, b'{"error": {"code": "insufficient_quota"}}')] * 9,
        "ends, answers kept",
    ),
    ("an address that is not there (404)", [Bad(404)] * 9, "ends, settings named"),
    ("moved elsewhere (301)", [Bad(301, headers={"Location": "http://evil.example/"})] * 9, "ends, not followed"),
    ("busy (429 with Retry-After)", [Bad(429, headers={"Retry-After": "3"})] * 3, "waits, then goes on"),
    ("broken now and then (500, 503)", [Bad(500), Bad(503), Bad(500)], "tries again"),
    ("broken for good (500)", [Bad(500)] * 99, "ends after five questions"),
    ("a wait of a day (Retry-After: 86400)", [Bad(429, headers={"Retry-After": "86400"})] * 9, "ends"),
    ("a web page instead of JSON", [Bad(200, b"<html>login</html>")] * 2, "tries again"),
    ("an answer cut in the middle", [Bad(200, b'{"choices": []}' * 9, cut=20)] * 2, "tries again"),
    ("JSON nested fifty thousand deep", [Bad(200, b"[" * 50_000)] * 2, "tries again"),
    ("JSON without an answer", [Bad(200, b'{"choices": []}')] * 2, "tries again"),
    ("an answer of null", [Bad(200, b"null")] * 2, "tries again"),
    ("one question refused (400)", [Bad(400, b'{"error": {"message": "too long"}}')], "left out, the others answered"),
]


@pytest.mark.parametrize(
    "bad",
    [pytest.param(b, id=w.replace(" ", "-"), marks=marks(Fault(TEACHERS, w, e))) for w, b, e in ENDPOINT],
)
def test_endpoint(bad: list[Bad], tmp_path: Path, seen: Callable[[str], None]) -> None:
    message = asked(list(bad), tmp_path)
    assert KEY not in message
    seen(message)


@fault(TEACHERS, "nobody listens", "ends before anything is computed")
def test_nobody(tmp_path: Path, seen: Callable[[str], None]) -> None:
    with chat_server() as gone:
        pass
    with AnswerStore(tmp_path / "a.sqlite") as store, pytest.raises(TeacherError) as caught:
        teacher_at(gone.url, Clock()).answer(questions(5), store)
    seen(str(caught.value))


def request() -> Request:
    return Request("tiny", "Question?", {"max_tokens": 9})


@fault(TEACHERS, "the file of answers is overwritten with zeros", "told, nothing asked")
def test_answers_zeroed(tmp_path: Path, seen: Callable[[str], None]) -> None:
    path = tmp_path / "answers.sqlite"
    with AnswerStore(path) as store:
        store.put([(request(), Answer(TEXT, "stop", 1, 1, "tiny"))])
    path.write_bytes(b"\1" * path.stat().st_size)
    with pytest.raises(TeacherError, match="damaged") as caught, AnswerStore(path) as store:
        store.get(request())
    seen(str(caught.value))


@fault(TEACHERS, "a record of the answers is not as it was written", "named and asked for again, the others kept")
def test_answer_changed(tmp_path: Path, caplog: pytest.LogCaptureFixture, seen: Callable[[str], None]) -> None:
    path = tmp_path / "answers.sqlite"
    with AnswerStore(path) as store:
        store.put([(request(), Answer(TEXT, "stop", 1, 1, "tiny"))])
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE answers SET record = replace(record, 'tense', 'dense')")
    with AnswerStore(path) as store:
        assert request() not in store
        store.put([(request(), Answer(TEXT, "stop", 1, 1, "tiny"))])
        assert store.get(request()) == Answer(TEXT, "stop", 1, 1, "tiny")
    seen(caplog.messages[0])


def packed(*members: tuple[str, bytes], kind: str = "zip") -> Callable[[Path], Any]:
    def provoke(folder: Path) -> Any:
        path = folder / f"a.{kind}"
        if kind == "zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, data in members:
                    archive.writestr(name, data)
        else:
            with tarfile.open(path, "w:gz") as archive:
                for name, data in members:
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
        return extract(path, folder / "room" / "out", limits=Limits(max_bytes=1 << 20, max_files=50))

    return provoke


def linked(kind: bytes) -> Callable[[Path], Any]:
    def provoke(folder: Path) -> Any:
        info = tarfile.TarInfo("door")
        info.type, info.linkname = kind, "/etc"
        with tarfile.open(folder / "a.tgz", "w:gz") as archive:
            archive.addfile(info)
        return extract(folder / "a.tgz", folder / "room" / "out")

    return provoke


def zip_link(folder: Path) -> Any:
    info = zipfile.ZipInfo("door")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr(info, "/etc")
    return extract(folder / "a.zip", folder / "room" / "out")


def spoilt(change: Callable[[bytearray], Any]) -> Callable[[Path], Any]:
    def provoke(folder: Path) -> Any:
        with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.txt", bytes(range(256)) * 50)
        data = bytearray((folder / "a.zip").read_bytes())
        change(data)
        (folder / "a.zip").write_bytes(data)
        return extract(folder / "a.zip", folder / "room" / "out")

    return provoke


ARCHIVE_CASES = [
    Case("zip: a name that climbs (../evil)", packed(("ok", b"a"), ("../evil", b"b")), "unsafe name"),
    Case("zip: an absolute name", packed(("/tmp/evil", b"b")), "unsafe name"),
    Case("zip: a name with backslashes", packed(("..\\evil", b"b")), "unsafe"),
    Case("zip: a name with a drive", packed(("C:evil", b"b")), "unsafe"),
    Case("zip: a name with a line break", packed(("a\nb", b"b")), "unsafe"),
    Case("zip: a symbolic link", zip_link, "link or a device"),
    Case("zip: one name twice, in upper and lower case", packed(("A", b"a"), ("a", b"b")), "twice"),
    Case("zip: a bomb", packed(("bomb", bytes(3 << 20))), "far more than its size"),
    Case("zip: more files than allowed", packed(*((f"f{n}", b"x") for n in range(60))), "more than 50 files"),
    Case("zip: cut in the middle", spoilt(lambda data: data.__delitem__(slice(100, None))), "not a readable archive"),
    Case("zip: a byte changed", spoilt(lambda data: data.__setitem__(60, data[60] ^ 255)), "not a readable archive"),
    Case("tar: a name that climbs (../evil)", packed(("../evil", b"b"), kind="tgz"), "unsafe name"),
    Case("tar: a symbolic link", linked(tarfile.SYMTYPE), "link or a device"),
    Case("tar: a hard link", linked(tarfile.LNKTYPE), "link or a device"),
    Case("tar: a device", linked(tarfile.CHRTYPE), "link or a device"),
    Case("tar: a bomb", packed(("bomb", bytes(3 << 20)), kind="tgz"), "far more than its size"),
]


@pytest.mark.parametrize("case", [case.param(ARCHIVES) for case in ARCHIVE_CASES])
def test_archives(case: Case, tmp_path: Path, seen: Callable[[str], None]) -> None:
    seen(told(case, tmp_path))
    assert not list((tmp_path / "room").glob("*"))
    assert not (tmp_path / "evil").exists()


@pytest.fixture
def files() -> Iterator[FileServer]:
    import http.server
    import threading

    server = FileServer()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(server)) as listening:
        server.url = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        listening.shutdown()


DATA = bytes(range(256)) * 4000
SHA = "sha256:" + hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(change, says, id=what.replace(" ", "-"), marks=marks(Fault(DOWNLOADS, what, expected)))
        for what, change, says, expected in (
            (
                "another file than the pinned one",
                lambda s: s.files.update({"/f": DATA[::-1]}),
                "not opened",
                "deleted, not opened",
            ),
            (
                "a login page in place of the file",
                lambda s: s.files.update({"/f": b"<html>"}),
                "not opened",
                "deleted, not opened",
            ),
            ("nothing at the address", lambda s: s.files.clear(), "HTTP 404", "told"),
            (
                "the server fails for good",
                lambda s: s.statuses.extend([503] * 9),
                "HTTP 503 .4 attempts",
                "told after four attempts",
            ),
        )
    ],
)
def test_downloads_refused(
    change: Callable[[FileServer], Any], says: str, files: FileServer, tmp_path: Path, seen: Callable[[str], None]
) -> None:
    files.files["/f"] = DATA
    change(files)

    def fetch(folder: Path) -> Any:
        return download([f"{files.url}/f"], folder / "part", SHA, label="file", sleep=lambda _: None)

    seen(told(Case("", fetch, says), tmp_path))
    assert not (tmp_path / "part").exists() or not (tmp_path / "part").stat().st_size


@fault(DOWNLOADS, "the connection breaks twice", "continued where it broke")
def test_broken_connection(files: FileServer, tmp_path: Path, seen: Callable[[str], None]) -> None:
    files.files["/f"], files.cuts = DATA, [300_000, 300_000]
    path = download([f"{files.url}/f"], tmp_path / "part", SHA, label="file", sleep=lambda _: None)
    assert path.read_bytes() == DATA
    seen(", ".join(str(wanted) for _, _, wanted in files.requests))


@fault(DOWNLOADS, "an address that is no web address (file:///etc/passwd)", "refused")
def test_schemes(tmp_path: Path, seen: Callable[[str], None]) -> None:
    def fetch(folder: Path) -> Any:
        return download(["file:///etc/passwd"], folder / "part", SHA, label="file")

    seen(told(Case("", fetch, "only http and https"), tmp_path))


@fault(DOWNLOADS, "a name of a hub's model that climbs (../../etc)", "refused")
def test_hub_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: Callable[[str], None]) -> None:
    monkeypatch.setenv("ILM_CACHE", str(tmp_path))
    monkeypatch.setenv("ILM_OFFLINE", "1")
    seen(told(Case("", lambda folder: resolve("../../no-such-place"), "no-such-place"), tmp_path))


BLOCKED = """
import socket, sys
calls = []
def refuse(self, address, *rest):
    if self.family != socket.AF_UNIX:
        calls.append(address)
        raise OSError(f"a network call to {address}")
socket.socket.connect = refuse
socket.socket.connect_ex = refuse
original = socket.getaddrinfo
def no_names(host, *rest, **more):
    calls.append(host)
    raise socket.gaierror(-2, f"a look-up of {host}")
socket.getaddrinfo = no_names
from ilm_lightning import train
sys.argv = ["train", *sys.argv[1:]]
try:
    train.main()
except SystemExit as end:
    assert calls == [], calls
    sys.exit(end.code)
"""


@pytest.mark.faults
def test_no_network_call(tiny_settings: list[str], tmp_path: Path) -> None:
    quick = ["experiment=ilm_mlp", "evaluation.conditions=[own]", "tuning.steps=2", "tuning.val_every=2"]
    environment = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "ILM_OFFLINE")}
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *quick, *tiny_settings],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(next((tmp_path / "outputs").glob("*/status.json")).read_text())["state"] == "finished"


SECRETS = {
    "OPENAI_API_KEY": "sk-aaaaaaaaaaaaaaaaaaaa",
    "HF_TOKEN": "hf_bbbbbbbbbbbbbbbbbbbb",
    "WANDB_API_KEY": "c" * 40,
}


@pytest.mark.faults
def test_secrets(tiny_settings: list[str], tmp_path: Path) -> None:
    from ilm_lightning.dashboard import main as dashboard

    quick = ["experiment=ilm_mlp", "evaluation.conditions=[own]", "tuning.steps=2", "tuning.val_every=2"]
    command = [sys.executable, "-m", "ilm_lightning.train", *quick, *tiny_settings]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, **SECRETS, "ILM_LOG_LEVEL": "DEBUG"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wrong = [
        "teacher=endpoint",
        "teacher.url=http://127.0.0.1:9",
        "teacher.model=m",
        "teacher.api_key_env=" + SECRETS["OPENAI_API_KEY"],
    ]
    refused = subprocess.run(
        [*command, *wrong], cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "takes the NAME of an environment variable" in " ".join(refused.stderr.split())
    logging.getLogger("ilm_lightning").handlers.clear()
    assert dashboard([str(tmp_path / "outputs"), "--html", str(tmp_path / "page.html")]) == 0
    screens = done.stdout + done.stderr + refused.stdout + refused.stderr
    for secret in SECRETS.values():
        assert secret not in screens
        assert not [p for p in tmp_path.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()]


@fault("Safety", "eval, exec or an unpinned pickle in the source", "there is none")
def test_source(seen: Callable[[str], None]) -> None:
    import ast

    import ilm_lightning

    found = []
    for path in Path(ilm_lightning.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            unsafe = name in ("eval", "exec", "pickle.load", "pickle.loads", "yaml.unsafe_load", "os.system")
            torch_load = name == "torch.load" and "weights_only=True" not in ast.unparse(node)
            if (
                unsafe
                or torch_load
                or name.endswith(".extractall")
                or "shell=True" in (ast.unparse(node) if name else "")
            ):
                found.append(f"{path.name}: {name}")
            if name == "pd.read_pickle":
                assert "verify_file(path, MOVIELENS_TABLE_SHA256)" in path.read_text(encoding="utf-8")
    assert found == []
    seen("none; the one pinned pickle is read after its checksum")


def test_the_tests_server_answers(tmp_path: Path) -> None:
    assert asked([], tmp_path) == "5 of 5 answers; 0 without"
    assert isinstance(ChatServer(), ChatServer)
    assert socket.AF_UNIX
