"""Settings of the teacher. Cheap to import, like ``config``."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class TeacherConfig:
    """Who writes the targets."""

    kind: str = "facts"
    """facts (by rule from the catalogue), lm (a local language model) or endpoint (OpenAI-compatible)."""
    model: str | None = None
    """lm: asset name or folder; endpoint: the model's name as the endpoint knows it."""
    temperature: float = 0.0
    """0: the likeliest answer."""
    top_p: float = 1.0
    seed: int = 0
    """Of sampling; kept apart from the run's seed, so that runs of several seeds learn from the same targets."""
    max_answer_tokens: int = 256
    tries: int = 2
    """How often an example is asked for while its answers are unfit (refused, empty, cut off, too short or long...)."""
    allow_title: bool = False
    """Whether a target may name the title, which no prompt shows."""
    length_slack: float = 0.25
    """By which share an answer may miss the number of words that was asked for."""
    max_left_out_share: float = 0.2
    """End where more examples than this share got no target."""
    max_train_examples: int | None = None
    """Training examples a task that are asked for; null: all."""
    max_validation_examples: int | None = None
    max_test_examples: int | None = None
    max_requests: int | None = None
    """End before sending more requests than this; 0 shows what would be asked. null: no limit."""
    body: dict[str, Any] = field(default_factory=dict)
    """endpoint: more fields of the request; null takes one away."""
    url: str | None = None
    """endpoint: its address, as http://127.0.0.1:8000/v1."""
    api_key_env: str | None = None
    """endpoint: the environment variable that holds the API key; null: none is sent."""
    concurrency: int = 8
    """endpoint: questions under way at the same time."""
    requests_per_minute: float = 0
    """endpoint: 0: no limit."""
    tokens_per_minute: float = 0
    """endpoint: 0: no limit."""
    timeout_s: float = 120
    """endpoint: seconds for one answer."""
    attempts: int = 6
    """endpoint: how often a question is sent that fails; asked too often (429) counts after two minutes alone."""
    batch_size: int = 16
    """lm: questions that run together."""
    dtype: str = "auto"
    """lm: float32, bfloat16, or auto."""
