import numpy as np
import pytest
from lm_tiny import CHAT, QUERIES, byte_tokenizer

from ilm_lightning.lm import PLACEHOLDER_ID, PromptTokenizer, chat_template

ROW = {"example_id": "x", "prompt": "Pitch {item}!", "slots": [[4]], "target": "Good."}


def text(tokenizer: PromptTokenizer, ids: np.ndarray) -> str:
    pieces = [str(tokenizer.tokenizer.decode([i])) if i != PLACEHOLDER_ID else "_" for i in ids.tolist()]
    return "".join(pieces)


def test_plain_template_and_end_token() -> None:
    tokenizer = PromptTokenizer(byte_tokenizer(), QUERIES)
    (example,) = tokenizer.encode([ROW])
    assert text(tokenizer, example.prompt_ids) == "Pitch ___!\n"
    assert example.target_ids[-1] == tokenizer.eos_id
    assert text(tokenizer, example.target_ids[:-1]) == "Good."
    assert example.slots == ((4,),)
    assert len(example) == len(example.prompt_ids) + len(example.target_ids)


def test_chat_template_without_its_default_system_prompt() -> None:
    tokenizer = byte_tokenizer(CHAT)
    assert chat_template(tokenizer) == "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    assert chat_template(tokenizer, "Be brief.").startswith("<|im_start|>system\nBe brief.<|im_end|>\n")
    prompts = PromptTokenizer(tokenizer, 1)
    ids = prompts.prompt_ids("Hi {item}")
    assert ids[0] == 0
    assert text(prompts, ids) == "<|im_start|>user\nHi _<|im_end|>\n<|im_start|>assistant\n"
    assert chat_template(byte_tokenizer(), "Be brief.") == "Be brief.\n{prompt}\n"


def test_chat_template_without_a_system_role() -> None:
    template = (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('none') }}{% endif %}"
        "<{{ m['role'] }}>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<model>{% endif %}"
    )
    assert chat_template(byte_tokenizer(template)) == "<|im_start|><user>{prompt}<model>"


def test_system_message_folded_into_the_users_turn_is_not_kept() -> None:
    template = (
        "{% if messages[0]['role'] == 'system' and messages|length > 1 %}[{{ messages[0]['content'] }}|"
        "{{ messages[1]['content'] }}]{% elif messages[0]['role'] == 'user' %}[{{ messages[0]['content'] }}]{% endif %}"
    )
    assert chat_template(byte_tokenizer(template)) == "[{prompt}]"


def test_distinct_pieces_are_tokenised_once() -> None:
    tokenizer = PromptTokenizer(byte_tokenizer(), QUERIES)
    calls: list[list[str]] = []
    inner = tokenizer.tokenizer

    class Counting:
        eos_token_id = inner.eos_token_id

        def __call__(self, texts: list[str], **kwargs: object) -> object:
            calls.append(texts)
            return inner(texts, **kwargs)

    tokenizer.tokenizer = Counting()
    tokenizer.encode([ROW | {"target": None}] * 5)
    tokenizer.encode([ROW | {"target": None}])
    assert calls == [["Pitch ", "!\n"]]


def test_prompt_without_target_and_several_slots() -> None:
    tokenizer = PromptTokenizer(byte_tokenizer(), 2)
    row = {"example_id": "x", "prompt": "{item}{item}", "slots": [[1], [2, 3]]}
    (example,) = tokenizer.encode([row])
    assert len(example.target_ids) == 0
    assert (example.prompt_ids == PLACEHOLDER_ID).sum() == 4


@pytest.mark.parametrize("slots", [[], [[1], [2]], [[]]])
def test_markers_and_slots_must_agree(slots: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"'x' has 1 markers \(\{item\} or \{user\}\)"):
        PromptTokenizer(byte_tokenizer(), 2).encode([ROW | {"slots": slots}])


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        PromptTokenizer(byte_tokenizer(), 0)
    with pytest.raises(ValueError, match="exactly once"):
        PromptTokenizer(byte_tokenizer(), 1, template="no field")
    with pytest.raises(ValueError, match="more than the 5 allowed"):
        PromptTokenizer(byte_tokenizer(), 1, max_length=5).encode([ROW])
    endless = byte_tokenizer()
    endless.eos_token = None
    with pytest.raises(ValueError, match="end token"):
        PromptTokenizer(endless, 1)


def test_decode_leaves_special_tokens_out() -> None:
    tokenizer = PromptTokenizer(byte_tokenizer(), 1)
    (example,) = tokenizer.encode([ROW])
    assert tokenizer.decode(example.target_ids.tolist()) == "Good."


def test_users_and_items_share_one_prompt() -> None:
    tokenizer = PromptTokenizer(byte_tokenizer(), QUERIES)
    row = {"example_id": "x", "prompt": "{user} saw {item} and {item}.", "slots": [[9], [4], [5]], "target": "Yes."}
    (example,) = tokenizer.encode([row])
    assert text(tokenizer, example.prompt_ids) == "___ saw ___ and ___.\n"
    assert example.slots == ((9,), (4,), (5,))
    with pytest.raises(ValueError, match="has 3 markers"):
        tokenizer.encode([row | {"slots": [[4], [5]]}])
