"""When the next question may be sent: limits per minute, pauses for all askers, and waits after failures."""

import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0


def backoff(attempt: int, draw: float) -> float:
    """Seconds to wait after a failed attempt: doubled each time, with jitter so that askers do not come back together.

    Args:
        attempt: 1 for the first failure.
        draw: a random number from 0 to 1.

    >>> backoff(1, 0.0), backoff(1, 1.0), backoff(4, 1.0), backoff(50, 1.0)
    (0.5, 1.0, 8.0, 60.0)
    """
    # the exponent is bounded: 2.0 ** 2000 is an error
    return min(LONGEST_BACKOFF_S, BACKOFF_S * 2.0 ** min(attempt - 1, 30)) * (0.5 + draw / 2)


def retry_after(value: str | None, now: Callable[[], float] = time.time) -> float | None:
    """Read a Retry-After header.

    Args:
        value: seconds, or a date.
        now: the wall clock, in seconds since 1970.

    Returns:
        Seconds to wait, at least 0; None where there is no header or it cannot be read.

    >>> retry_after("3"), retry_after("Thu, 01 Jan 1970 00:01:00 GMT", lambda: 50.0), retry_after("soon")
    (3.0, 10.0, None)
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if seconds == seconds else None


class Pace:
    """Spaces questions evenly over each minute, so that no limit is met in bursts. Safe for many threads.

    Args:
        requests_per_minute: 0 for no limit.
        tokens_per_minute: of questions and answers together; 0 for no limit.
        now: a clock that never goes back, in seconds.
    """

    def __init__(
        self,
        requests_per_minute: float = 0,
        tokens_per_minute: float = 0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_request = 60 / requests_per_minute if requests_per_minute else 0.0
        self._per_token = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._now = now
        self._lock = threading.Lock()
        self._next_request = self._next_tokens = self._paused_until = now()
        self._busy_since: float | None = None
        self._busy_times = 0

    def now(self) -> float:
        """The time in seconds, on a clock of its own."""
        return self._now()

    def reserve(self, tokens: int) -> float:
        """Take the next free place.

        Args:
            tokens: about how many tokens question and answer will have.

        Returns:
            Seconds to wait before sending.
        """
        with self._lock:
            now = self._now()
            start = max(now, self._next_request, self._next_tokens, self._paused_until)
            self._next_request = start + self._per_request
            self._next_tokens = start + tokens * self._per_token
            return start - now

    def correct(self, reserved: int, used: int) -> None:
        """Give back tokens that were reserved and not used, or take those that were used beyond."""
        with self._lock:
            self._next_tokens += (used - reserved) * self._per_token

    def pause(self, seconds: float) -> None:
        """Let nobody send for a while, as the endpoint asked."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._now() + seconds)

    def busy(self, asked: float | None, draw: float) -> None:
        """The endpoint is asked too often: let nobody send, as long as it asked or else longer each time.

        Args:
            asked: seconds that the endpoint asked to wait, None where it did not say.
            draw: a random number from 0 to 1.
        """
        with self._lock:
            now = self._now()
            if self._busy_since is None:
                self._busy_since = now
            # those that were under way together are told together, which is one time
            first = now >= self._paused_until
            self._busy_times += first
            if asked is None:
                asked = backoff(self._busy_times, draw) if first else 0.0
            self._paused_until = max(self._paused_until, now + asked)

    def answered(self) -> None:
        """The endpoint gave an answer."""
        with self._lock:
            self._busy_since, self._busy_times = None, 0

    def busy_for(self) -> tuple[float, int]:
        """Since when, in seconds, and how many times in a row the endpoint said only that it is asked too often."""
        with self._lock:
            return (0.0 if self._busy_since is None else self._now() - self._busy_since), self._busy_times

    def held(self) -> float:
        """Seconds until a pause for all is over; 0 where there is none."""
        with self._lock:
            return max(0.0, self._paused_until - self._now())
