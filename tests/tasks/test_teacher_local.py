"""A language model that runs here as teacher, on tiny models."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "lm"))

import torch
from lm_tiny import CHAT, byte_tokenizer, tiny_gpt2, tiny_llama
from transformers import AutoModelForCausalLM, AutoTokenizer

from ilm_lightning.tasks.teachers.errors import TeacherError
from ilm_lightning.tasks.teachers.local import TOO_LONG_PROMPT, LocalTeacher
from ilm_lightning.tasks.teachers.request import Answer, Request
from ilm_lightning.tasks.teachers.store import AnswerStore
from tasks.parrot import SAYING, parrot

GREEDY = {"max_tokens": 12, "temperature": 0.0}
SAMPLED = {"max_tokens": 12, "temperature": 1.0, "top_p": 0.9, "seed": 0}


def questions(count: int, settings: dict[str, Any]) -> list[Request]:
    return [Request("tiny@0", "Why " + "so " * (n * 5 % 7) + f"{n}?", settings) for n in range(count)]


def answers(path: Path, asked: Sequence[Request], batch_size: int, lm: torch.nn.Module | None = None) -> list[Answer]:
    teacher = LocalTeacher(lm or tiny_llama(), byte_tokenizer(CHAT), batch_size)  # type: ignore[arg-type]
    with AnswerStore(path / f"{batch_size}.sqlite") as store:
        assert teacher.answer(asked, store) == {}
        found = [store.get(request) for request in asked]
    assert all(answer is not None for answer in found)
    return [answer for answer in found if answer is not None]


@pytest.mark.parametrize("architecture", [tiny_llama, tiny_gpt2])
def test_greedy_answers_are_the_likeliest_tokens_whatever_the_batch(architecture: Any, tmp_path: Path) -> None:
    lm, tokenizer, asked = architecture(), byte_tokenizer(CHAT), questions(5, GREEDY)
    found = answers(tmp_path, asked, 4, lm)
    for request, answer in zip(asked, found, strict=True):
        prompt = tokenizer.apply_chat_template(request.messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(prompt, add_special_tokens=False).input_ids
        asked_tokens = len(ids)
        for _ in range(12):
            with torch.inference_mode():
                ids.append(int(lm(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == tokenizer.eos_token_id:
                break
        new = ids[asked_tokens:]
        ended = new[-1] == tokenizer.eos_token_id
        assert answer.text == tokenizer.decode(new[:-1] if ended else new, skip_special_tokens=True)
        assert answer.finish == ("stop" if ended else "length")
        assert (answer.prompt_tokens, answer.source) == (asked_tokens, "local")


def test_sampled_answers_depend_on_the_question_and_seed_alone(tmp_path: Path) -> None:
    asked = questions(6, SAMPLED)
    first = [answer.text for answer in answers(tmp_path, asked, 6)]
    assert [answer.text for answer in answers(tmp_path, asked[::-1], 2)][::-1] == first
    other = [answer.text for answer in answers(tmp_path, questions(6, SAMPLED | {"seed": 1}), 3)]
    greedy = [answer.text for answer in answers(tmp_path, questions(6, GREEDY), 4)]
    assert len({*first}) > 1
    assert other != first != greedy


def test_sampling_follows_the_models_probabilities(tmp_path: Path) -> None:
    lm = tiny_llama()
    with torch.no_grad():
        lm.get_input_embeddings().weight.mul_(0.02)  # type: ignore[operator]
    asked = [
        Request("tiny", "Why?", {"max_tokens": 1, "temperature": 1.0, "top_p": 1.0, "seed": n}) for n in range(600)
    ]
    tokenizer = byte_tokenizer(CHAT)
    prompt = tokenizer.apply_chat_template(asked[0].messages, tokenize=False, add_generation_prompt=True)
    with torch.inference_mode():
        logits = lm(**tokenizer(prompt, add_special_tokens=False, return_tensors="pt")).logits[0, -1]
    likeliest = int(logits.argmax())
    expected = float(logits.softmax(-1)[likeliest])
    found = answers(tmp_path, asked, 100, lm)
    share = sum(answer.text == tokenizer.decode([likeliest]) for answer in found) / len(found)
    assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / len(found)) ** 0.5)


def test_interrupted_work_goes_on_from_the_last_batch_to_the_same_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = questions(9, SAMPLED)
    whole = answers(tmp_path, asked, 3)
    lm = tiny_llama()
    teacher = LocalTeacher(lm, byte_tokenizer(CHAT), 3)  # type: ignore[arg-type]
    written: list[int] = []
    original = LocalTeacher._write

    def write(self: LocalTeacher, requests: list[Request], prompts: list[list[int]]) -> list[Answer]:
        written.append(len(requests))
        if len(written) == 2:
            raise KeyboardInterrupt
        return original(self, requests, prompts)

    monkeypatch.setattr(LocalTeacher, "_write", write)
    with AnswerStore(tmp_path / "broken.sqlite") as store:
        with pytest.raises(KeyboardInterrupt):
            teacher.answer(asked, store)
        assert len(store) == 3
        assert teacher.answer(asked, store) == {}
        assert len(written) == 4
        found = [store.get(request) for request in asked]
    assert [answer and answer.text for answer in found] == [answer.text for answer in whole]


def test_a_prompt_beyond_the_models_reach_is_left_out(tmp_path: Path) -> None:
    long = Request("tiny@0", "word " * 200, GREEDY)
    teacher = LocalTeacher(tiny_llama(), byte_tokenizer(CHAT))  # type: ignore[arg-type]
    with AnswerStore(tmp_path / "a.sqlite") as store:
        assert teacher.answer([long, *questions(1, GREEDY)], store) == {long.key: TOO_LONG_PROMPT}
        assert len(store) == 1


def test_models_without_chat_template_continue_the_text(tmp_path: Path) -> None:
    teacher = LocalTeacher(tiny_llama(), byte_tokenizer())  # type: ignore[arg-type]
    assert teacher.tokenizer.decode(teacher._prompt_ids(Request("m", "Why?", GREEDY))) == "Why?\n\n"


def test_a_tokenizer_without_end_token_is_refused(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(CHAT)
    tokenizer.eos_token = None
    lm = tiny_llama()
    lm.generation_config.eos_token_id = None  # type: ignore[union-attr]
    with AnswerStore(tmp_path / "a.sqlite") as store, pytest.raises(TeacherError, match="no end token"):
        LocalTeacher(lm, tokenizer).answer(questions(1, GREEDY), store)  # type: ignore[arg-type]


@pytest.fixture(params=[True, False])
def saying(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, bool]:
    return parrot(tmp_path / "parrot", end=request.param), request.param


def test_whole_answers_end_and_others_are_cut_off(saying: tuple[Path, bool], tmp_path: Path) -> None:
    folder, ends = saying
    teacher = LocalTeacher(AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))
    asked = [Request("parrot", "What is it?", {"max_tokens": 60, "temperature": 0.0})]
    with AnswerStore(tmp_path / "a.sqlite") as store:
        teacher.answer(asked, store)
        answer = store.get(asked[0])
    assert answer is not None
    assert answer.text.startswith(SAYING)
    assert (answer.finish, answer.text == SAYING) == (("stop", True) if ends else ("length", False))
    assert answer.answer_tokens == (len(SAYING.split()) if ends else 60)
