import numpy as np
import pytest
import torch
from torch import Tensor

from ilm_lightning.evaluation.retrieval import target_retrieval
from ilm_lightning.evaluation.slots import remembered, slot_accuracy, slot_score, text_slots, with_people
from ilm_lightning.evaluation.spread import teacher_spread
from ilm_lightning.evaluation.words import nearest_words


def test_retrieval_by_hand() -> None:
    targets = np.eye(3, dtype=np.float32)
    generated = np.array([[1, 0, 0], [0.8, 0.6, 0], [0.6, 0.8, 0]], dtype=np.float32)
    found = target_retrieval(generated, targets)
    # ranks 1, 2, 3
    assert found.r1 == pytest.approx(1 / 3)
    assert found.r5 == 1.0
    assert found.mrr == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert found.chance_r1 == pytest.approx(1 / 3)
    assert (found.chance_r5, found.n) == (1.0, 3)
    assert found.chance_mrr == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


@pytest.mark.parametrize("same", ["generated", "targets", "empty"])
def test_texts_that_say_nothing_score_chance(same: str) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(12, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    one = np.repeat(rows[:1], 12, axis=0)
    pairs = {"generated": (one, rows), "targets": (rows, one), "empty": (np.zeros_like(rows), rows)}
    found = target_retrieval(*pairs[same])
    assert found.r1 == pytest.approx(found.chance_r1)
    assert found.r5 == pytest.approx(found.chance_r5)
    assert found.mrr == pytest.approx(found.chance_mrr)


def test_retrieval_of_nothing_and_of_misfits() -> None:
    assert target_retrieval(np.zeros((0, 3), dtype=np.float32), np.zeros((0, 3), dtype=np.float32)).n == 0
    with pytest.raises(ValueError, match="of one shape"):
        target_retrieval(np.zeros((1, 3), dtype=np.float32), np.zeros((2, 3), dtype=np.float32))


def test_spread_by_hand() -> None:
    # two targets of movie a (0 and 90 degrees), one of b (0): pairs across movies have cosines 1 and 0
    targets = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    spread = teacher_spread(targets, ["a", "a", "b"])
    assert spread is not None
    assert (spread.other, spread.room, spread.informative, spread.n) == (50.0, 50.0, True, 3)
    alike = teacher_spread(np.array([[1, 0], [0.95, 0.3122]], dtype=np.float32), [1, 2])
    assert alike is not None
    assert alike.room == pytest.approx(5, abs=0.01)
    assert not alike.informative


def test_spread_needs_two_movies() -> None:
    assert teacher_spread(np.ones((2, 3), dtype=np.float32), ["a", "a"]) is None
    assert teacher_spread(np.ones((0, 3), dtype=np.float32), []) is None
    with pytest.raises(ValueError, match="one movie per target"):
        teacher_spread(np.ones((2, 3), dtype=np.float32), ["a"])


def mentions(text: str) -> dict[str, set[str]]:
    """A toy vocabulary: "genres=Crime,Drama years=1995"."""
    return {kind: set(values.split(",")) for kind, values in (part.split("=") for part in text.split())}


def test_slot_scores_by_hand() -> None:
    assert slot_score("genres", {"Crime", "War"}, {"Crime"}) == pytest.approx(2 / 3)
    assert slot_score("countries", {"France", "Italy"}, {"France"}) == 0.5
    assert slot_score("years", {"1997"}, {"1995"}) == 1.0
    assert slot_score("years", {"1998"}, {"1995"}) == 0.0
    assert slot_score("minutes", {"100", "150"}, {"95"}) == 0.5
    assert slot_score("genres", set(), {"Crime"}) == slot_score("genres", {"Crime"}, set()) == 0.0


def test_slot_report() -> None:
    generated = ["genres=Crime years=1994", "people=Smith", "years=1950"]
    targets = ["genres=Crime,Drama years=1995", "genres=War", "people=Smith"]
    report = slot_accuracy(generated, targets, mentions, seen={"genres"})
    assert report.kinds["genres"].n == 2
    assert report.kinds["genres"].score == pytest.approx((2 / 3 + 0) / 2)
    assert report.kinds["genres"].named == 0.5
    assert report.kinds["years"].score == 1.0
    assert report.kinds["decades"].score == 1.0  # a year names its decade
    assert (report.kinds["people"].score, report.kinds["people"].named) == (0.0, 0.0)
    assert report.seen == pytest.approx(1 / 3)
    assert report.unseen == pytest.approx(2 / 3)


def test_slots_can_be_judged_by_the_whole_truth() -> None:
    truth = [{"genres": {"Crime", "Drama"}}]
    assert slot_accuracy(["genres=Drama"], ["genres=Crime"], mentions, truth).kinds["genres"].score == pytest.approx(
        2 / 3
    )
    assert slot_accuracy(["genres=Drama"], ["genres=Crime"], mentions).kinds["genres"].score == 0
    empty = slot_accuracy([], [], mentions)
    assert (empty.kinds, empty.seen, empty.unseen) == ({}, None, None)
    with pytest.raises(ValueError, match="one target and one truth"):
        slot_accuracy(["genres=A"], ["genres=A"], mentions, [])


def test_people_are_found_and_judged_by_their_roles() -> None:
    find = with_people(lambda _: {}, {"Al Pacino", "Michael Mann", "Pelé"})
    assert find("Michael Mann's film (with Al Pacino) and Pelé!")["people"] == {"Michael Mann", "Al Pacino", "Pelé"}
    assert find("al pacino, Alan Pacino")["people"] == set()
    truth = [{"directors": {"Michael Mann"}, "cast": {"Al Pacino"}}]
    report = slot_accuracy(["Michael Mann and Pelé"], ["with Al Pacino"], find, truth)
    assert report.kinds["people"].score == 0.5
    assert list(report.kinds) == ["people"]


def test_the_longest_name_is_meant() -> None:
    find = with_people(lambda _: {}, {"Peter", "Peter Jackson", "Francis Ford", "Francis Ford Coppola", "40", "Cher"})
    assert find("By Peter Jackson and Francis Ford Coppola.")["people"] == {"Peter Jackson", "Francis Ford Coppola"}
    assert find("Peter sings with Cher’s band for 40 minutes, Francis Ford says.")["people"] == {
        "Peter",
        "Cher",
        "Francis Ford",
    }
    assert find("")["people"] == set()


def test_text_slots_agree_with_the_report() -> None:
    generated = ["genres=Crime years=1994", "people=Smith", "years=1950", "genres=War"]
    targets = ["genres=Crime,Drama years=1995", "genres=War", "people=Smith", ""]
    slots = text_slots(generated, targets, mentions, seen={"genres"})
    # a year counts as a decade too
    assert slots.all.tolist() == [
        pytest.approx(100 * (2 / 3 + 1 + 1) / 3),
        0.0,
        0.0,
        pytest.approx(np.nan, nan_ok=True),
    ]
    assert slots.seen.tolist()[:2] == [pytest.approx(200 / 3), 0.0]
    assert np.isnan(slots.seen[2])
    assert slots.unseen[0] == 100.0
    report = slot_accuracy(generated, targets, mentions, seen={"genres"})
    assert report.seen == pytest.approx(np.nanmean(slots.seen) / 100)
    with pytest.raises(ValueError, match="one target and one truth"):
        text_slots(["a=b"], [], mentions)
    assert text_slots([], [], mentions).all.shape == (0,)


def test_a_text_is_looked_into_once() -> None:
    seen: list[str] = []

    def find(text: str) -> dict[str, set[str]]:
        seen.append(text)
        return {"genres": {text}}

    once = remembered(find)
    assert [once(text)["genres"] for text in "aba"] == [{"a"}, {"b"}, {"a"}]
    assert seen == ["a", "b"]


class Words:
    all_special_ids = (0,)
    words = ("<end>", " Crime", "crime", "...", " war", "19", "\n")

    def decode(self, ids: list[int]) -> str:
        return self.words[ids[0]]


def rows(*places: float) -> Tensor:
    return torch.tensor([[np.cos(place), np.sin(place)] for place in places], dtype=torch.float32)


def test_nearest_words_skip_marks_specials_and_repeats() -> None:
    embedding = rows(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    found = nearest_words(5 * rows(0.0, 0.5), embedding, Words(), k=2)  # type: ignore[arg-type]
    assert [[word for word, _ in words] for words in found] == [["crime", "war"], ["19", "war"]]
    assert found[0][0][1] == pytest.approx(np.cos(0.1))
    everything = nearest_words(rows(0.0), embedding, Words(), k=50)  # type: ignore[arg-type]
    assert [word for word, _ in everything[0]] == ["crime", "war", "19"]


def test_nearest_words_looks_further_until_it_has_enough() -> None:
    class Mostly:
        all_special_ids = ()

        def decode(self, ids: list[int]) -> str:
            return "word" if ids[0] == 99 else "."

    embedding = rows(*np.linspace(0, 1, 100))
    assert [w for w, _ in nearest_words(rows(0.0), embedding, Mostly(), k=1)[0]] == ["word"]  # type: ignore[arg-type]


def test_nearest_words_of_another_width() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        nearest_words(torch.ones(2, 3), torch.ones(5, 2), Words())  # type: ignore[arg-type]
