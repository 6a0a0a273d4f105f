"""What is asked of a teacher and what comes back, as plain data with one name per question."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

CHARACTERS_PER_TOKEN = 4
"""Rough measure of English text, for forecasts and rate limits before the true count is known."""


@dataclass(frozen=True)
class Request:
    """One question.

    Attributes:
        model: the model that is asked; for local weights with their digest.
        content: the user's message.
        settings: sampling and whatever else determines the answer.
        example_id: which example it is for; does not determine the answer.
    """

    model: str
    content: str
    settings: Mapping[str, Any]
    example_id: str = ""

    @property
    def messages(self) -> list[dict[str, str]]:
        """The conversation: one user message, which models without a system role understand too."""
        return [{"role": "user", "content": self.content}]

    @cached_property
    def key(self) -> str:
        """SHA-256 over model, messages and settings, in hexadecimal digits."""
        whole = {"model": self.model, "messages": self.messages, "settings": dict(self.settings)}
        text = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def prompt_tokens(self) -> int:
        """About how many tokens the question has."""
        return len(self.content) // CHARACTERS_PER_TOKEN + 1


@dataclass(frozen=True)
class Answer:
    """What a teacher said, as it said it.

    Attributes:
        text: the raw text.
        finish: why it ended: "stop", "length" (cut off), "content_filter", or what else the teacher reports.
        prompt_tokens: tokens of the question, None where not told.
        answer_tokens: tokens of the answer, None where not told.
        served_by: the model that the endpoint says has answered.
        source: the endpoint's address, or "local".
        seconds: how long it took.
    """

    text: str
    finish: str = "stop"
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    served_by: str = ""
    source: str = ""
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the store."""
        return asdict(self)
