"""Checks of the teacher's settings, in the first second and without showing a key."""

import re
from collections.abc import Collection

from ilm_lightning.engine.checks import ConfigError, one_of, positive
from ilm_lightning.engine.config import Config
from ilm_lightning.engine.config_teacher import TeacherConfig

FIXED = {
    "model": "it is teacher.model, which stands beside every number",
    "messages": "they are what the question says, and the answer is kept under them",
    "stream": "answers are read whole",
    "n": "one answer is read; teacher.tries asks again for unfit ones",
}
"""Fields of a request that ``teacher.body`` may not change, and why."""


def check_teacher_settings(config: Config, others: Collection[str]) -> None:
    """Refuse settings with which no target could be asked for.

    Args:
        config: the typed configuration.
        others: names of tasks whose targets no language model writes.

    Raises:
        ConfigError: names the key and what to set instead.
        TeacherError: an address or an environment variable that cannot be used.
    """
    teacher = config.teacher
    one_of("teacher.kind", teacher.kind, ("facts", "lm", "endpoint"))
    one_of("teacher.dtype", teacher.dtype, ("auto", "float32", "bfloat16"))
    if teacher.kind == "facts":
        for key, value in {"model": teacher.model, "url": teacher.url, **_caps(teacher)}.items():
            if value is not None:
                raise ConfigError(f"teacher.{key} belongs to teacher=lm or teacher=endpoint; facts takes none")
        return
    other = [name for name in config.tasks.names if name in others]
    if config.tasks.kind == "openp5" or other or (config.tasks.kind == "figure1" and not config.tasks.names):
        raise ConfigError(
            f"teacher={teacher.kind} writes the 24 language tasks; leave it out for {', '.join(other) or 'these tasks'}"
        )
    positive(
        teacher__tries=teacher.tries,
        teacher__max_answer_tokens=teacher.max_answer_tokens,
        teacher__concurrency=teacher.concurrency,
        teacher__attempts=teacher.attempts,
        teacher__timeout_s=teacher.timeout_s,
        teacher__batch_size=teacher.batch_size,
        **{f"teacher__{key}": value for key, value in _caps(teacher).items() if value is not None},
    )
    for key in ("temperature", "requests_per_minute", "tokens_per_minute", "length_slack", "max_left_out_share"):
        if getattr(teacher, key) < 0:
            raise ConfigError(f"teacher.{key}={getattr(teacher, key)} must not be below 0")
    if not 0 < teacher.top_p <= 1:
        raise ConfigError(f"teacher.top_p={teacher.top_p} must lie in (0, 1]")
    scored = f"max_{config.evaluation.split}_examples"
    most = _caps(teacher)[scored]
    if most is not None and most < config.evaluation.movies:
        raise ConfigError(
            f"evaluation.movies={config.evaluation.movies}, but teacher.{scored}={most}: raise the one or lower the "
            "other"
        )
    if not teacher.model:
        raise ConfigError(f"teacher={teacher.kind} needs teacher.model=NAME")
    if teacher.kind == "endpoint":
        _endpoint(teacher)


def _caps(teacher: TeacherConfig) -> dict[str, int | None]:
    return {
        "max_train_examples": teacher.max_train_examples,
        "max_validation_examples": teacher.max_validation_examples,
        "max_test_examples": teacher.max_test_examples,
    }


def _endpoint(teacher: TeacherConfig) -> None:
    from ilm_lightning.tasks.teachers.wire import completions_url, read_key

    for key, why in FIXED.items():
        if key in teacher.body:
            raise ConfigError(f"teacher.body.{key} cannot be set: {why}; leave it out")
    if not teacher.url:
        raise ConfigError("teacher=endpoint needs teacher.url=ADDRESS, as http://127.0.0.1:8000/v1")
    completions_url(teacher.url)
    if teacher.api_key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", teacher.api_key_env):
        raise ConfigError(
            "teacher.api_key_env takes the NAME of an environment variable in capitals, as OPENAI_API_KEY; what was "
            "given is not shown, since it may be a key"
        )
    read_key(teacher.api_key_env)
