"""What a teacher's settings must be, told in the first second and without showing a key."""

from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from engine.test_config import composed
from ilm_lightning.engine.config import as_config
from ilm_lightning.engine.runs import run_id
from ilm_lightning.engine.stages.teach import teacher_name
from ilm_lightning.engine.validate import validate
from ilm_lightning.tasks.teachers.prompts import PROMPT_VERSION

ENDPOINT = ["teacher=endpoint", "teacher.url=http://127.0.0.1:9/v1", "teacher.model=any"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["teacher=endpoint"], "needs teacher.model"),
        (["teacher=endpoint", "teacher.model=any"], "needs teacher.url=ADDRESS"),
        ([*ENDPOINT, "teacher.url=localhost:8000"], "no http or https address"),
        ([*ENDPOINT, "teacher.api_key_env=NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE.*not set"),
        ([*ENDPOINT, "teacher.api_key_env=sk-hidden-42"], "NAME of an environment variable"),
        ([*ENDPOINT, "teacher.concurrency=0"], "teacher.concurrency=0 must be above 0"),
        ([*ENDPOINT, "teacher.top_p=0"], r"teacher.top_p=0.0 must lie in \(0, 1\]"),
        ([*ENDPOINT, "teacher.temperature=-1"], "must not be below 0"),
        ([*ENDPOINT, "teacher.max_test_examples=10"], "evaluation.movies=40, but teacher.max_test_examples=10"),
        ([*ENDPOINT, "evaluation.split=validation"], "teacher.max_validation_examples=20"),
        ([*ENDPOINT, "++teacher.body.model=other"], "teacher.body.model cannot be set: it is teacher.model"),
        ([*ENDPOINT, "++teacher.body.messages=[]"], "teacher.body.messages cannot be set"),
        ([*ENDPOINT, "++teacher.body.stream=true"], "teacher.body.stream cannot be set: answers are read whole"),
        ([*ENDPOINT, "++teacher.body.n=2"], "teacher.body.n cannot be set: .*leave it out"),
        (["teacher.max_train_examples=10"], "teacher.max_train_examples belongs to teacher=lm or teacher=endpoint"),
        (["teacher=lm", "teacher.model=no/such/folder"], "teacher.model=no/such/folder is neither an asset"),
        ([*ENDPOINT, "tasks.names=[summary,rating]"], "leave it out for rating"),
        (["teacher.kind=oracle"], "facts, lm, endpoint"),
        (["teacher=lm", "teacher.dtype=int8"], "auto, float32, bfloat16"),
    ],
)
def test_impossible_settings_name_the_key_and_the_fix(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as told:
        validate(composed(*overrides))
    assert "hidden" not in str(told.value)


@pytest.mark.parametrize(
    ("overrides", "sampling"),
    [
        ([], "greedy"),
        (["teacher.temperature=0.7"], "temperature 0.7, seed 0"),
        (["teacher.temperature=0.7", "teacher.top_p=0.9", "teacher.seed=3"], "temperature 0.7, top_p 0.9, seed 3"),
        (["++teacher.body.temperature=1.0"], "temperature 1, no seed"),
        (["++teacher.body.temperature=1", "++teacher.body.seed=5"], "temperature 1, seed 5"),
        (["++teacher.body.temperature=null"], "endpoint's own sampling"),
        (["teacher.temperature=0.7", "++teacher.body.temperature=null"], "endpoint's own sampling, seed 0"),
        (["teacher.temperature=0.7", "++teacher.body.temperature=0"], "greedy"),
        (["teacher.temperature=0.7", "++teacher.body.seed=null"], "temperature 0.7, no seed"),
    ],
)
def test_the_teachers_name_tells_the_sampling_that_is_asked_for(overrides: list[str], sampling: str) -> None:
    context: Any = SimpleNamespace(config=composed(*ENDPOINT, *overrides))
    assert teacher_name(context) == f"endpoint any ({PROMPT_VERSION}, {sampling})"


def test_how_the_teacher_is_reached_does_not_change_the_run() -> None:
    here = composed(*ENDPOINT)
    assert run_id(composed(*ENDPOINT, "teacher.url=https://b/v1", "teacher.concurrency=2")) == run_id(here)
    assert run_id(composed(*ENDPOINT, "teacher.temperature=0.5")) != run_id(here)


def test_runs_stored_before_the_group_can_be_read() -> None:
    stored = OmegaConf.structured(composed())
    OmegaConf.set_struct(stored, False)
    plain = OmegaConf.create(OmegaConf.to_container(stored))
    plain.pop("teacher")
    plain.tasks.teacher = "facts"
    assert as_config(plain).teacher.kind == "facts"
    assert plain.tasks.teacher == "facts"
