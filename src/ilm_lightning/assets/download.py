"""Files over HTTP: resumed where they stopped, retried, verified, and in place only when whole."""

import http.client
import logging
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ilm_lightning.progress import track

from .cache import verify_file
from .errors import AssetError, ChecksumError

log = logging.getLogger(__name__)
_BLOCK = 1 << 20
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


def download(
    urls: Sequence[str],
    part: Path,
    checksum: str,
    *,
    label: str,
    attempts: int = 4,
    backoff: float = 1.0,
    timeout: float = 30.0,
    sleep: Callable[[float], None] | None = None,
) -> Path:
    """Fetch one file from the first address that gives it whole.

    Args:
        urls: addresses of the same file, http or https.
        part: where the bytes gather; what an earlier, cut run left there is continued, not fetched again.
        checksum: ``"sha256:…"`` or ``"md5:…"``; a file that differs is deleted, never opened.
        label: name for the progress line.
        attempts: per address; a pause of ``backoff * 2**k`` seconds before attempt ``k + 2``.
        backoff: first pause in seconds.
        timeout: seconds of silence after which a connection counts as cut.
        sleep: how to pause, default ``time.sleep``.

    Returns:
        ``part``, verified.

    Raises:
        AssetError: no address gave the file; the message has one reason per address.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    for url in urls:
        try:
            _from_one(url, part, checksum, label, attempts, backoff, timeout, sleep or time.sleep)
            return part
        except AssetError as error:
            reasons.append(f"{url}: {error}" if len(urls) > 1 else str(error))
            log.debug("%s", reasons[-1])
    raise AssetError("; ".join(reasons))


def _from_one(
    url: str,
    part: Path,
    checksum: str,
    label: str,
    attempts: int,
    backoff: float,
    timeout: float,
    sleep: Callable[[float], None],
) -> None:
    """Fetch from one address, continuing after cuts."""
    if not url.startswith(("http://", "https://")):
        raise AssetError("only http and https addresses are opened")
    for attempt in range(1, attempts + 1):
        resumed = part.exists() and part.stat().st_size > 0
        try:
            _receive(url, part, label, timeout)
            verify_file(part, checksum)
            return
        except ChecksumError:
            part.unlink(missing_ok=True)
            # bytes of an earlier run may have been of another file: once more from the start
            if not resumed:
                raise
            reason = "the continued file was wrong"
        except urllib.error.HTTPError as error:
            if error.code not in _AGAIN:
                raise AssetError(f"HTTP {error.code} {error.reason}") from error
            reason = f"HTTP {error.code}"
        except (OSError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", error)
            reason = str(cause) or type(error).__name__
            if isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN:
                # no such host: waiting does not bring it
                raise AssetError(f"host not found ({cause.strerror})") from error
        if attempt == attempts:
            raise AssetError(f"{reason} ({attempts} attempts)")
        pause = backoff * 2 ** (attempt - 1)
        log.info("%s: %s; attempt %d in %.0f s", label, reason, attempt + 1, pause)
        sleep(pause)


def _receive(url: str, part: Path, label: str, timeout: float) -> None:
    """One connection: append what is missing to ``part``.

    Raises:
        OSError: the connection failed or ended before the announced size.
    """
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "ilm_lightning", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            # nothing left to send: whole, or too long, which the checksum tells
            return
        raise
    with response:
        continued = response.status == 206 and _starts_at(response.headers.get("Content-Range"), have)
        if not continued:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        blocks = max(1, ((total or 0) - have + _BLOCK - 1) // _BLOCK)
        with part.open("ab" if continued else "wb") as out:
            for block in track(_blocks(response), blocks, f"{label} (MiB)"):
                out.write(block)
    received = part.stat().st_size
    if total is not None and received < total:
        raise OSError(f"connection ended after {received} of {total} bytes")


def _starts_at(content_range: str | None, offset: int) -> bool:
    """Whether a partial answer begins where we stopped."""
    return (content_range or "").replace("bytes ", "").startswith(f"{offset}-")


def _blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Blocks of a response until its end; an early end is noticed by the size."""
    while True:
        try:
            block = response.read(_BLOCK)
        except http.client.IncompleteRead as cut:
            if cut.partial:
                yield cut.partial
            return
        if not block:
            return
        yield block
