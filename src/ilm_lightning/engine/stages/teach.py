"""Targets by a language model, as a stage before the examples; every answer is kept beside the assets' cache."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ilm_lightning.engine.artifacts import Artifact
from ilm_lightning.engine.config_teacher import TeacherConfig
from ilm_lightning.engine.stages.context import Context
from ilm_lightning.engine.stages.data import example_layout
from ilm_lightning.engine.stages.generate import movie_order

if TYPE_CHECKING:
    from ilm_lightning.tasks.teachers.endpoint import EndpointTeacher
    from ilm_lightning.tasks.teachers.lesson import Lesson, Outcome, Teacher
    from ilm_lightning.tasks.teachers.local import LocalTeacher
    from ilm_lightning.tasks.teachers.request import Request
    from ilm_lightning.tasks.teachers.store import AnswerStore

log = logging.getLogger("ilm_lightning")
CODE = 1


def answers_folder() -> Path:
    """Where all teachers' answers are: they outlive artefacts and runs."""
    from ilm_lightning.assets.cache import cache_folder

    return cache_folder() / "teachers"


def check_teacher(context: Context) -> None:
    """Knock at the endpoint before anything is computed.

    Raises:
        TeacherError: it is not there or refuses the key, and no answer of this model was ever kept.
    """
    from ilm_lightning.tasks.teachers.errors import TeacherError
    from ilm_lightning.tasks.teachers.store import AnswerStore, store_path

    teacher = context.config.teacher
    if teacher.kind == "lm":
        context.asset(str(teacher.model))
    if teacher.kind != "endpoint":
        return
    try:
        _endpoint(context).wire.check()
    except TeacherError as error:
        path = store_path(answers_folder(), str(teacher.model))
        kept = 0
        if path.is_file():
            with AnswerStore(path) as store:
                kept = len(store)
        if not kept:
            raise
        log.warning("%s", error)
        log.warning("going on with the %d answers in %s until one is missing", kept, path)


def teacher_name(context: Context) -> str:
    """What is printed beside every number: kind, model, version of the prompts, sampling as it is really asked for."""
    from ilm_lightning.tasks.teachers.prompts import PROMPT_VERSION

    teacher = context.config.teacher
    model = context.asset(str(teacher.model)).name if teacher.kind == "lm" else teacher.model
    return f"{teacher.kind} {model} ({PROMPT_VERSION}, {_sampling(_sent(teacher))})"


def _sampling(settings: Mapping[str, Any]) -> str:
    """How answers are drawn, in words; a setting of null is not sent."""
    temperature, top_p, seed = (settings.get(key) for key in ("temperature", "top_p", "seed"))
    if temperature == 0:
        return "greedy"
    words = "endpoint's own sampling" if temperature is None else f"temperature {_short(temperature)}"
    if top_p not in (None, 1):
        words += f", top_p {_short(top_p)}"
    return words + (f", seed {seed}" if seed is not None else ", no seed" if temperature is not None else "")


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _sent(teacher: TeacherConfig) -> dict[str, Any]:
    """The settings that a question carries, the user's own fields over ours."""
    settings: dict[str, Any] = {"max_tokens": teacher.max_answer_tokens, "temperature": teacher.temperature}
    if teacher.temperature:
        settings |= {"top_p": teacher.top_p, "seed": teacher.seed}
    return settings | dict(teacher.body) if teacher.kind == "endpoint" else settings


def request_settings(context: Context) -> dict[str, Any]:
    """What determines an answer beside model and message."""
    teacher = context.config.teacher
    if teacher.kind == "endpoint":
        return _sent(teacher)
    from ilm_lightning.lm.backbone import resolve_dtype

    return _sent(teacher) | {"dtype": str(resolve_dtype(teacher.dtype)).removeprefix("torch.")}


def teach(context: Context, prepared: Artifact, embedded: Artifact) -> Artifact | None:
    """Ask a language model for the targets of the examples that are needed.

    Returns:
        The artefact, with ``targets.parquet`` (``example_id``, ``target``, ``reason``, ``faults``, ``key``); None for
        the ``facts`` teacher, which writes its targets where the examples are built.
    """
    config, teacher = context.config, context.config.teacher
    if teacher.kind == "facts":
        return None
    from ilm_lightning.tasks.teachers.prompts import PROMPT_VERSION
    from ilm_lightning.tasks.teachers.rules import RULES_VERSION

    lesson = _lesson(context)
    settings = {
        "code": CODE,
        "teacher": teacher_name(context),
        "model": lesson.model,
        "request": lesson.settings,
        "prompts": PROMPT_VERSION,
        "rules": RULES_VERSION,
        "tries": teacher.tries,
        "allow_title": teacher.allow_title,
        "length_slack": teacher.length_slack,
        "most": _caps(context),
        "names": sorted(config.tasks.names),
        "neighbour_space": config.tasks.neighbour_space,
    }
    inputs: dict[str, Artifact | str] = {"prepare": prepared, "embed": embedded}

    def build(folder: Path) -> dict[str, Any]:
        outcomes, report = _ask(context, prepared, embedded, lesson)
        _table(outcomes).write_parquet(folder / "targets.parquet")
        told = ", ".join(f"{reason} {count:,}" for reason, count in report["left_out"].items())
        log.info("teacher: %d targets for %d examples%s", report["targets"], report["asked"], told and f"; {told}")
        keep = ("model", "request", "tries", "allow_title", "length_slack", "most")
        return {"teacher": settings["teacher"], "settings": {key: settings[key] for key in keep}, **report}

    return context.store.get("teach", settings, inputs, build)


def _caps(context: Context) -> dict[str, int | None]:
    teacher = context.config.teacher
    return {
        "train": teacher.max_train_examples,
        "validation": teacher.max_validation_examples,
        "test": teacher.max_test_examples,
    }


def _lesson(context: Context) -> "Lesson":
    from ilm_lightning.tasks.teachers.lesson import Lesson

    teacher = context.config.teacher
    model = str(teacher.model)
    if teacher.kind == "lm":
        # a folder's name does not say what is in it
        asset = context.asset(model)
        model = f"{asset.name}@{asset.sha256[:16]}"
    return Lesson(
        model,
        request_settings(context),
        tries=teacher.tries,
        allow_title=teacher.allow_title,
        slack=teacher.length_slack,
        max_requests=teacher.max_requests,
        max_left_out_share=teacher.max_left_out_share,
        requests_per_minute=teacher.requests_per_minute if teacher.kind == "endpoint" else 0,
    )


def _ask(
    context: Context, prepared: Artifact, embedded: Artifact, lesson: "Lesson"
) -> "tuple[dict[str, Outcome], dict[str, Any]]":
    from ilm_lightning.tasks.elm.build import draft_examples
    from ilm_lightning.tasks.teachers.lesson import needed
    from ilm_lightning.tasks.teachers.lesson import teach as ask
    from ilm_lightning.tasks.teachers.store import AnswerStore, store_path

    layout = example_layout(context, prepared, embedded)
    items = list(layout["catalog"])
    drafts, _ = draft_examples(**layout)
    chosen = needed(drafts, items, _caps(context), movie_order)
    with AnswerStore(store_path(answers_folder(), lesson.model)) as store:
        return ask(chosen, items, _Lazy(context), store, lesson)


class _Lazy:
    """Opens the teacher when the first question has no answer yet: what is kept needs no weights."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.teacher: Teacher | None = None
        self.kept: Request | None = None

    def answer(self, requests: "Sequence[Request]", store: "AnswerStore") -> dict[str, str]:
        if all(request in store for request in requests):
            self.kept = next(iter(requests), self.kept)
            return {}
        if self.teacher is None:
            local = self.context.config.teacher.kind == "lm"
            self.teacher = _local(self.context) if local else _endpoint(self.context, self.kept)
        return self.teacher.answer(requests, store)


def _endpoint(context: Context, proof: "Request | None" = None) -> "EndpointTeacher":
    from ilm_lightning.tasks.teachers.endpoint import endpoint_teacher
    from ilm_lightning.tasks.teachers.wire import read_key

    teacher = context.config.teacher
    return endpoint_teacher(
        str(teacher.url),
        read_key(teacher.api_key_env),
        concurrency=teacher.concurrency,
        requests_per_minute=teacher.requests_per_minute,
        tokens_per_minute=teacher.tokens_per_minute,
        timeout=teacher.timeout_s,
        attempts=teacher.attempts,
        proof=proof,
    )


def _local(context: Context) -> "LocalTeacher":
    import torch
    from transformers import AutoTokenizer

    from ilm_lightning.lm.backbone import causal_lm, load_backbone
    from ilm_lightning.tasks.teachers.local import LocalTeacher

    teacher = context.config.teacher
    asset = context.asset(str(teacher.model))
    model = causal_lm(load_backbone(asset.path, "frozen", teacher.dtype, name=asset.name).lm)
    if context.config.trainer.accelerator != "cpu" and torch.cuda.is_available():
        model = model.to("cuda")
    return LocalTeacher(model, AutoTokenizer.from_pretrained(asset.path), teacher.batch_size)


def _table(outcomes: "dict[str, Outcome]") -> pl.DataFrame:
    rows = [
        {"example_id": name, "target": one.target, "reason": one.reason, "faults": one.faults, "key": one.key}
        for name, one in outcomes.items()
    ]
    schema: dict[str, Any] = {
        "example_id": pl.String,
        "target": pl.String,
        "reason": pl.String,
        "faults": pl.List(pl.String),
        "key": pl.String,
    }
    return pl.DataFrame(rows, schema=schema)
