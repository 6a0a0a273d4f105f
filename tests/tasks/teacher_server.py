"""An OpenAI-compatible endpoint on this machine that answers as scripted, faults included."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

TEXT = (
    "A tense and moving tale about people who want more than life will give them, told with patience, fine acting, "
    "careful pictures and a sad sort of humour that stays with you long after the last scene is over."
)
LIST = "\n".join(f"{n}. A strong and simple point" for n in range(1, 6))


def plausible(body: dict[str, Any]) -> str:
    """A text that passes the rules for whatever task is asked."""
    return LIST if "numbered 1. to 5." in body["messages"][0]["content"] else TEXT


@dataclass
class Fault:
    """One bad answer.

    Attributes:
        status: HTTP status.
        body: what is sent.
        headers: beside the usual ones.
        cut: send this many bytes of the body, though all are announced.
        hang: do not answer until the server closes.
    """

    status: int = 500
    body: bytes = b'{"error": {"message": "something broke"}}'
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    hang: bool = False


@dataclass
class ChatServer:
    """``faults`` are answered first, one a question; then ``fault_of`` a question, or else ``reply`` and ``finish``."""

    url: str = ""
    reply: Callable[[dict[str, Any]], str] = plausible
    finish: str = "stop"
    faults: list[Fault] = field(default_factory=list)
    fault_of: Callable[[dict[str, Any]], Fault | None] = lambda _: None
    models_status: int = 200
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    knocks: int = 0
    most_at_once: int = 0
    closing: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    under_way: int = 0
    hold_first: bool = False
    """The first question is answered when a second one has come."""
    second: threading.Event = field(default_factory=threading.Event)

    def questions(self) -> list[str]:
        """The messages that arrived."""
        return [body["messages"][0]["content"] for body in self.bodies]


def handler(server: ChatServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.knocks += 1
            self._send(Fault(server.models_status, b'{"data": [{"id": "tiny"}]}'))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                server.bodies.append(body)
                server.keys.append(self.headers.get("Authorization"))
                server.under_way += 1
                server.most_at_once = max(server.most_at_once, server.under_way)
                fault = server.faults.pop(0) if server.faults else None
                first = len(server.bodies) == 1
                if not first:
                    server.second.set()
            if server.hold_first and first:
                server.second.wait(20)
            try:
                self._send(fault or server.fault_of(body) or self._good(body))
            finally:
                with server.lock:
                    server.under_way -= 1

        def _good(self, body: dict[str, Any]) -> Fault:
            choice = {"message": {"role": "assistant", "content": server.reply(body)}, "finish_reason": server.finish}
            usage = {"prompt_tokens": 100, "completion_tokens": 50}
            return Fault(200, json.dumps({"model": "tiny-7", "choices": [choice], "usage": usage}).encode())

        def _send(self, answer: Fault) -> None:
            if answer.hang:
                server.closing.wait(20)
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: answer.cut])

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    return Handler


@contextmanager
def chat_server(**settings: Any) -> Iterator[ChatServer]:
    """Run a server in a thread."""
    server = ChatServer(**settings)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(server)) as listening:
        listening.daemon_threads = True
        server.url = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            listening.shutdown()
            thread.join()
