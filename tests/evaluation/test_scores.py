from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilm_lightning.evaluation.semantic import SentenceScorer, cosine_rows, lcs_length, rouge_l

TOKENS = st.lists(st.sampled_from("abcd"), max_size=12)


def slow_lcs(left: list[str], right: list[str]) -> int:
    table = np.zeros((len(left) + 1, len(right) + 1), dtype=int)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            table[i + 1, j + 1] = table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
    return int(table[-1, -1])


@given(TOKENS, TOKENS)
def test_lcs_equals_the_textbook_table(left: list[str], right: list[str]) -> None:
    assert lcs_length(left, right) == slow_lcs(left, right)


def test_lcs_of_long_texts() -> None:
    left = [str(i % 7) for i in range(150)]
    right = [str(i % 5) for i in range(130)]
    assert lcs_length(left, right) == slow_lcs(left, right)


def test_rouge_by_hand() -> None:
    # "police killed the gunman" / "police kill the gunman": 3 of 4 words in order
    assert rouge_l(["police kill the gunman"], ["Police killed the gunman."]).tolist() == [75.0]
    assert rouge_l(["same text"], ["same text"]).tolist() == [100.0]
    assert rouge_l(["", "...", "word"], ["word", "word", "other"]).tolist() == [0.0, 0.0, 0.0]
    assert rouge_l([], []).shape == (0,)
    with pytest.raises(ValueError, match="one target per text"):
        rouge_l(["a"], [])


def test_cosine_of_rows() -> None:
    left = np.array([[1, 0], [1, 1], [0, 0]], dtype=np.float32)
    right = np.array([[-2, 0], [3, 3], [1, 0]], dtype=np.float32)
    np.testing.assert_allclose(cosine_rows(left, right), [-1, 1, 0], atol=1e-7)


@pytest.fixture(scope="module")
def scorer(tiny_sentence_model: Path) -> SentenceScorer:
    return SentenceScorer(tiny_sentence_model, bf16=False, name="tiny")


def test_semantic_consistency(scorer: SentenceScorer) -> None:
    scores = scorer.semantic_consistency(["a good film", "", "war"], ["a good film", "war", "the comedy is bad"])
    assert scorer.name == "tiny"
    assert scores[0] == pytest.approx(100, abs=1e-3)
    assert scores[1] == 0
    assert -100 <= scores[2] < 99
    assert scorer.semantic_consistency([], []).shape == (0,)
    with pytest.raises(ValueError, match="2 generated texts, 1 targets"):
        scorer.semantic_consistency(["a", "b"], ["a"])


def test_texts_are_embedded_once(scorer: SentenceScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    first = scorer.embed(["love", "drama", "love"])
    monkeypatch.setattr(scorer._encoder, "encode", lambda *_: pytest.fail("embedded again"))
    again = scorer.embed(["drama", "love"])
    assert np.array_equal(first[[1, 0]], again)
    assert np.array_equal(first[0], first[2])
