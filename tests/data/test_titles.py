"""Titles as the releases write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilm_lightning.data.titles import ParsedTitle, normalise_title, parse_title, title_group

WORDS = st.text(alphabet=st.characters(categories=["Lu", "Ll"], max_codepoint=0x17F), min_size=2, max_size=9)
PLAIN = st.lists(WORDS, min_size=1, max_size=4).map(" ".join)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Client, The (1993)", ("The Client", 1993, ())),
        ("Enfer, L' (1994)", ("L'Enfer", 1994, ())),
        ("Seven (a.k.a. Se7en) (1995)", ("Seven", 1995, ("Se7en",))),
        ("Postman, The (Postino, Il) (1994)", ("The Postman", 1994, ("Il Postino",))),
        ("Babies (Bébé(s)) (2010)", ("Babies", 2010, ("Bébé(s)",))),
        ("Bye Bye, Love (1995)", ("Bye Bye, Love", 1995, ())),
        ("(500) Days of Summer (2009)", ("(500) Days of Summer", 2009, ())),
        ("The (Dead Mothers) Club (2014)", ("The (Dead Mothers) Club", 2014, ())),
        ("Birdman: Or (The Unexpected Virtue) (2014)", ("Birdman: Or (The Unexpected Virtue)", 2014, ())),
        ("Spy(ies) (2009)", ("Spy(ies)", 2009, ())),
        ("Mona (Mona ja aika) (1983))", ("Mona", 1983, ("Mona ja aika",))),
        ("Fargo (2014-)", ("Fargo", 2014, ())),
        ("Land Before Time III, The (1995) (V)", ("The Land Before Time III", 1995, ())),
        ("2001: A Space Odyssey", ("2001: A Space Odyssey", None, ())),
        ("(1984)", ("(1984)", None, ())),
        ("   ", ("", None, ())),
    ],
)
def test_known_titles(raw: str, expected: tuple[str, int | None, tuple[str, ...]]) -> None:
    assert parse_title(raw) == ParsedTitle(*expected)


@given(PLAIN, st.integers(1900, 2030), st.sampled_from(["", "The", "An", "Les"]), st.lists(PLAIN, max_size=2))
def test_what_movielens_writes_is_read_back(title: str, year: int, article: str, aliases: list[str]) -> None:
    raw = (f"{title}, {article}" if article else title) + "".join(f" ({a})" for a in aliases) + f" ({year})"
    if title.lower().endswith((" or", " and")) or title.lower() in ("or", "and"):
        return
    parsed = parse_title(raw)
    assert (parsed.title, parsed.year) == (f"{article} {title}" if article else title, year)
    assert len(parsed.aliases) == len(aliases)
    assert normalise_title(parsed.title) == normalise_title(f"{title}, {article}" if article else title)


@given(st.text(max_size=40))
def test_any_text_is_parsed_and_normalising_twice_changes_nothing(raw: str) -> None:
    parsed = parse_title(raw)
    assert parsed.title == parsed.title.strip()
    assert bool(parsed.title) == bool(raw.strip())
    assert normalise_title(raw) == normalise_title(raw.upper().lower()) or not raw.isascii()
    assert title_group(raw, None, "1") == title_group(raw, None, "2") or not raw.strip()


def test_groups_join_duplicates_and_keep_untitled_items_apart() -> None:
    assert title_group("The Client", 1993, "1") == title_group("Client, The", 1993, "2")
    assert title_group("Heat", 1995, "1") != title_group("Heat", 1986, "1")
    assert title_group("", None, "1") != title_group(" ", None, "2")
    assert title_group("寄生獣", 2014, "1") != title_group("東京物語", 2014, "1")
