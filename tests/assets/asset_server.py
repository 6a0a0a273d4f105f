"""A file server with faults, and the shape of the toy asset that comes from it."""

import hashlib
import http.server
from collections.abc import Callable
from dataclasses import dataclass, field

from ilm_lightning.assets.licences import Licence
from ilm_lightning.assets.registry import Asset


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class FileServer:
    """``files`` by path; ``cuts``: bytes after which the next answers break off; ``statuses``: answered first;
    ``refusals``: status and headers by path."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    refusals: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    ranges: bool = True
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)


def handler(server: FileServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = self.path.split("?")[0]
            wanted = self.headers.get("Range")
            server.requests.append((self.command, path, wanted))
            if path in server.refusals:
                status, headers = server.refusals[path]
                self.send_response(status)
                for name, value in {**headers, "Content-Length": "0"}.items():
                    self.send_header(name, value)
                self.end_headers()
                return
            if server.statuses or path not in server.files:
                self.send_error(server.statuses.pop(0) if server.statuses else 404)
                return
            data = server.files[path]
            start = 0
            if wanted and server.ranges:
                start = int(wanted.removeprefix("bytes=").split("-")[0])
                if start >= len(data):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            else:
                self.send_response(200)
            for name, value in server.headers.get(path, {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            if body:
                end = start + server.cuts.pop(0) if server.cuts else len(data)
                self.wfile.write(data[start:end])

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    return Handler


TERMS = Licence("toy terms", "Only for toys.", citation="Cite: toys.", restricted=True)
ZipMaker = Callable[..., bytes]


@dataclass
class Toy:
    """A registered asset ``toy`` whose archive the server holds at ``/toy.zip``."""

    asset: Asset
    archive: bytes
    server: FileServer
