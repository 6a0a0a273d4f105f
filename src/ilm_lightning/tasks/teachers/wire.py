"""One exchange with an OpenAI-compatible chat-completions address: what is sent, what comes back, what it means."""

import http.client
import json
import os
import re
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ilm_lightning.tasks.teachers.errors import TeacherError
from ilm_lightning.tasks.teachers.pace import retry_after
from ilm_lightning.tasks.teachers.request import Answer

MOST_BYTES = 10_000_000
"""An answer beyond this is no chat completion."""
SHOWN = 300
"""Characters of an endpoint's own error message that are passed on."""
_LOCAL = ("localhost", "127.0.0.1", "::1")


class PassingError(Exception):
    """A failure that may pass: worth another attempt.

    Attributes:
        wait: seconds that the endpoint asked to wait, or None.
        busy: whether the endpoint is asked too often (429), which waiting mends.
    """

    def __init__(self, reason: str, wait: float | None = None, busy: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.busy = wait, busy


class RejectedError(Exception):
    """This very question is not taken; others may be."""


class ForbiddenError(RejectedError):
    """Either this very question is not taken or the key is not: an answer to another question tells which."""


def completions_url(url: str) -> str:
    """Complete an endpoint's address.

    Args:
        url: "http://host:8000", ".../v1", or the whole address of chat completions.

    Raises:
        TeacherError: no http address, or one that holds a secret.

    >>> completions_url("http://127.0.0.1:8000"), completions_url("https://host/api/v1/")
    ('http://127.0.0.1:8000/v1/chat/completions', 'https://host/api/v1/chat/completions')
    """
    try:
        parts = urllib.parse.urlsplit(url.strip())
        _ = parts.port
    except ValueError as error:
        raise TeacherError("teacher.url is not an address; give one such as http://127.0.0.1:8000/v1") from error
    if parts.username or parts.password or re.search(r"(?i)key|token|secret|sig=|password", parts.query):
        raise TeacherError("teacher.url holds a secret; put it into an environment variable and name that variable "
                           "in teacher.api_key_env")  # fmt: skip
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TeacherError(f"teacher.url={url} is no http or https address; give one such as http://127.0.0.1:8000/v1")
    try:
        parts.hostname.encode("idna")
    except UnicodeError as error:
        raise TeacherError(f"teacher.url={url}: {parts.hostname!r} is no host's name ({error}); correct it") from error
    if not (parts.path + parts.query).isascii() or " " in parts.path + parts.query:
        raise TeacherError(f"teacher.url={url} holds spaces or signs that no address has; write them as %XX")
    path = parts.path.rstrip("/")
    if not path.endswith("/chat/completions"):
        path = (path or "/v1") + "/chat/completions"
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def read_key(variable: str | None) -> str | None:
    """Read the API key from the environment.

    Args:
        variable: its name, or None where the endpoint needs no key.

    Raises:
        TeacherError: the variable is not set or holds what no header can; its value is never shown.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise TeacherError(f"teacher.api_key_env={variable}: this environment variable is not set; export it first")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise TeacherError(f"the API key in {variable} holds spaces or signs that no key has; its value is not shown")
    return key


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected question would lose its body, or carry the key to another host."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


@dataclass
class Wire:
    """Sends questions to one address.

    Attributes:
        url: of chat completions.
        key: the API key; never shown.
        timeout: seconds after which an answer that is not whole counts as lost.
        now: a clock that never goes back.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    timeout: float = 120.0
    now: Callable[[], float] = field(default=time.monotonic, repr=False)

    def __post_init__(self) -> None:
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if self.local:
            # no proxy stands between a machine and itself
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    @property
    def local(self) -> bool:
        """Whether the endpoint runs on this machine."""
        return urllib.parse.urlsplit(self.url).hostname in _LOCAL

    def ask(self, body: Mapping[str, Any]) -> Answer:
        """Send one question and wait for its answer.

        Args:
            body: the JSON of the request.

        Raises:
            PassingError: busy, broken, slow or garbled; another attempt may succeed.
            RejectedError: the endpoint does not take this question.
            ForbiddenError: the same, or it refuses the key.
            TeacherError: no question will be answered: wrong key, address or model, nothing left to pay with.
        """
        start = self.now()
        request = self._request(self.url, json.dumps(body).encode())
        try:
            with self._opener.open(request, timeout=self.timeout) as response:
                data = self._read(response, start)
        except urllib.error.HTTPError as error:
            raise self._meaning(error) from None
        except (OSError, http.client.HTTPException) as error:
            raise PassingError(_reason(error)) from None
        answer = self._parse(data)
        return Answer(**{**answer.to_dict(), "source": self.url, "seconds": round(self.now() - start, 3)})

    def check(self) -> None:
        """Knock at the address, without a question.

        Raises:
            TeacherError: nobody is there, or the key is wrong.
        """
        models = self.url.removesuffix("/chat/completions") + "/models"
        try:
            with self._opener.open(self._request(models), timeout=min(self.timeout, 5.0)):
                return
        except urllib.error.HTTPError as error:
            # not every endpoint lists its models, nor to every key: only a refused key says something
            if error.code == 401:
                raise self._meaning(error) from None
        except TimeoutError:
            # busy with a question, or waking up: the questions have patience of their own
            return
        except (OSError, http.client.HTTPException) as error:
            if not isinstance(getattr(error, "reason", None), TimeoutError):
                raise TeacherError(self.down(_reason(error))) from None
            raise TeacherError(self.down("no connection within 5 seconds")) from None

    def down(self, reason: str) -> str:
        """Say that the endpoint is not there and what to do."""
        return (
            f"the teacher's endpoint {self.url} cannot be reached: {reason}; start the server, or correct teacher.url "
            "(answers received so far are kept, and the same command goes on from them)"
        )

    def asked_too_often(self, reason: str) -> str:
        """Say that the endpoint's limit is below what is asked, and what to do."""
        return (
            f"the teacher's endpoint {self.url} is asked too often: {reason}; set teacher.requests_per_minute, and "
            "teacher.tokens_per_minute where it has such a limit, to what it allows, or lower teacher.concurrency "
            "(answers received so far are kept, and the same command goes on from them)"
        )

    def _request(self, url: str, data: bytes | None = None) -> urllib.request.Request:
        headers = {"User-Agent": "ilm_lightning", "Accept": "application/json"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        return urllib.request.Request(url, data=data, headers=headers)

    def _read(self, response: http.client.HTTPResponse, start: float) -> bytes:
        parts: list[bytes] = []
        while block := response.read1(1 << 16):
            parts.append(block)
            # a server may send a sign of life again and again and never finish
            if self.now() - start > self.timeout:
                raise PassingError(f"no whole answer within {self.timeout:g} seconds")
            if sum(map(len, parts)) > MOST_BYTES:
                raise PassingError(f"an answer of more than {MOST_BYTES:,} bytes")
        if response.length:
            raise PassingError("the connection broke in the middle of an answer")
        return b"".join(parts)

    def masked(self, text: str) -> str:
        """Shorten an endpoint's text and take the key out of it."""
        text = " ".join(text.split())
        if self.key:
            text = text.replace(self.key, "***")
        # endpoints echo a wrong key in part
        text = re.sub(r"\bsk-[\w*.-]{4,}|(?i:\bbearer) \S+", "***", text)
        return text[:SHOWN]

    def _meaning(self, error: urllib.error.HTTPError) -> Exception:
        code = error.code
        try:
            said, kind = _error_text(error.read(1 << 16))
        except (OSError, http.client.HTTPException):
            said, kind = "", ""
        return self._by_status(code, said, kind, error.headers)

    def _by_status(self, code: int, said: str, kind: str, headers: Mapping[str, str] | Any) -> Exception:
        told = f"HTTP {code}" + (f": {self.masked(said)}" if said else "")
        if code in (401, 403):
            # gateways answer 403 to a question that they moderate as well
            return (TeacherError if code == 401 else ForbiddenError)(
                f"the teacher's endpoint {self.url} refuses the API key ({told}); set the right one in the environment "
                "variable that teacher.api_key_env names"
            )
        if code == 402 or kind == "insufficient_quota":
            return TeacherError(
                f"the teacher's endpoint {self.url} wants payment ({told}); all answers so far are kept"
            )
        if code in (404, 405) or 300 <= code < 400:
            to = headers.get("Location") if 300 <= code < 400 else None
            return TeacherError(
                f"the teacher's endpoint {self.url} answers {told}{f' (moved to {self.masked(to)})' if to else ''}; "
                "check teacher.url and teacher.model"
            )
        if code in (408, 409, 425, 429) or code >= 500:
            return PassingError(told, retry_after(headers.get("Retry-After")), code == 429)
        return RejectedError(told)

    def _parse(self, data: bytes) -> Answer:
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            raise PassingError("the answer is no JSON") from None
        if not isinstance(found, dict):
            raise PassingError("the answer is no chat completion")
        if isinstance(found.get("error"), dict) and not found.get("choices"):
            # some gateways report an upstream failure with status 200
            code = found["error"].get("code")
            said = str(found["error"].get("message", ""))
            raise self._by_status(code if isinstance(code, int) else 502, said, "", {})
        try:
            choice = found["choices"][0]
            message = choice["message"]
            content, refusal = message.get("content"), message.get("refusal")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise PassingError("the answer is no chat completion") from None
        finish = choice.get("finish_reason")
        usage = found.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        return Answer(
            _content(content),
            "content_filter" if refusal else finish if isinstance(finish, str) else "stop",
            _count(usage.get("prompt_tokens")),
            _count(usage.get("completion_tokens")),
            str(found.get("model") or ""),
        )


def _content(content: object) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _error_text(data: bytes) -> tuple[str, str]:
    """An endpoint's own words, and its code for them."""
    try:
        found = json.loads(data)
        error = found.get("error", found)
        if isinstance(error, dict):
            return str(error.get("message") or error.get("detail") or ""), str(error.get("code") or "")
        return str(error), ""
    except (ValueError, RecursionError, AttributeError):
        return data.decode("utf-8", "replace"), ""


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    if isinstance(cause, http.client.IncompleteRead):
        return "the connection broke in the middle of an answer"
    if isinstance(cause, socket.gaierror):
        return f"host not found ({cause.strerror})"
    if isinstance(cause, OSError):
        return cause.strerror or str(cause) or type(cause).__name__
    return type(cause).__name__
