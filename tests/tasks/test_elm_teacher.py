"""The facts teacher: what its targets say, and that they read as English."""

import re
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ilm_lightning.data.item import Item
from ilm_lightning.tasks.elm import (
    PAIR_TASKS,
    TASKS,
    CatalogContext,
    facts_of_item,
    facts_prompt,
    mentions,
    title_prompt,
)
from ilm_lightning.tasks.elm.facts import AUDIENCES, Film
from ilm_lightning.tasks.elm.grammar import Written, fields_of, render
from ilm_lightning.tasks.elm.lexicon import GenreWords
from ilm_lightning.tasks.elm.opinions import strengths, tastes, weaknesses
from ilm_lightning.tasks.elm.pairs import Pair
from ilm_lightning.tasks.elm.teacher import (
    LEAST_FACTS,
    NO_GENRE,
    NO_OPINION,
    NOTHING_APART,
    NOTHING_SHARED,
    PLANS,
    TOO_FEW_FACTS,
    FactsTeacher,
    pick,
)
from ilm_lightning.tasks.elm.vocabulary import DEMONYMS, GENRES, genre_label

RICH = Item(
    index=0,
    item_id="1",
    title="The Long Ride",
    year=1956,
    genres=("Action", "Romance", "Western"),
    directors=("Ada Stone",),
    writers=("Ben Pike",),
    cast=("Carl Dune", "Dora Lake"),
    countries=("Italy", "Spain"),
    languages=("Italian",),
    runtime=187,
    critic_score=91,
    n_reviews=40,
    oscars_won=2,
    oscar_nominations=3,
    certificate="R",
    n_ratings=120,
)
OTHER = Item(
    index=1,
    item_id="2",
    title="Night Bus",
    year=1994,
    genres=("Comedy", "Romance"),
    directors=("Eve North",),
    cast=("Dora Lake", "Finn Gray"),
    countries=("United States",),
    languages=("English",),
    runtime=88,
    critic_score=34,
    n_reviews=60,
    certificate="PG",
    n_ratings=5,
)
SPARSE = Item(index=2, item_id="3", title="Bare", year=1931, genres=("Drama",))
LISTS = ("five_positive_characteristics", "five_negative_characteristics")
KINDS = ("genres", "countries", "languages", "years", "decades", "minutes", "scores")


@pytest.fixture
def teacher() -> FactsTeacher:
    return FactsTeacher(CatalogContext())


def written(teacher: FactsTeacher, task: str, item: Item, partner: Item | None = None) -> Written:
    result = teacher.write(task, item, partner if task in PAIR_TASKS else None)
    assert isinstance(result, Written), f"{task}: {result}"
    return result


def every_plan(task: str, item: Item, partner: Item) -> list[Written]:
    """What each plan of a task gives for the film, apart from those that it cannot fill."""
    context = CatalogContext()
    film = Film.of(item, context)
    lookup = Pair.of(film, Film.of(partner, context), context).lookup if task in PAIR_TASKS else film.pieces.get
    return [done for plan in PLANS[task] if (done := render(plan, lookup)) is not None]


def assert_reads_well(text: str) -> None:
    assert "None" not in text
    assert not re.search(r"  | [,.;:!?]|\.\.|,\.|;\.|[\[\]{}|]", text), text
    assert text[-1] in ".!?", text
    for line in text.split("\n"):
        for sentence in re.split(r"(?<=[.!?]) (?!\d* ?Dune)", line):
            start = re.sub(r"^(?:- |\d\. )", "", sentence)
            assert not start or not start[0].islower(), text
    for word, after in re.findall(r"\b([Aa]n?) ([\w'-]+)", text):
        spelled = after in ("R", "NC-17", "X")
        spoken = not after.lower().startswith(("one", "uni", "eu", "use"))
        vowel = (
            spelled or (after[0].lower() in "aeiou" and spoken) or re.match(r"8|18\d0s|11\b|18\b", after) is not None
        )
        assert (word.lower() == "an") == vowel, f"{word} {after}: {text}"


def test_every_task_names_two_facts_of_each_film(teacher: FactsTeacher) -> None:
    for task in TASKS:
        target = written(teacher, task, RICH, OTHER)
        for side in ("1.", "2.") if task in PAIR_TASKS else ("",):
            assert f"{side}genre" in target.kinds
            assert sum(kind.startswith(side) for kind in target.kinds) >= LEAST_FACTS


@pytest.mark.parametrize("item", [RICH, OTHER, SPARSE], ids=["rich", "other", "sparse"])
@pytest.mark.parametrize("partner", [OTHER, RICH], ids=["to_other", "to_rich"])
def test_mentions_are_facts_of_the_films_whatever_the_plan(item: Item, partner: Item) -> None:
    for task in TASKS:
        about = [item, partner] if task in PAIR_TASKS else [item]
        facts = [facts_of_item(one) for one in about]
        for target in every_plan(task, item, partner):
            found = mentions(target.text)
            for kind in KINDS:
                assert found[kind] <= set().union(*(known[kind] for known in facts)), f"{task}: {target.text}"
            if item is not SPARSE:
                assert sum(len(names) for names in found.values()) >= 2, f"{task}: {target.text}"


@pytest.mark.parametrize("item", [RICH, OTHER, SPARSE], ids=["rich", "other", "sparse"])
def test_every_plan_reads_well_and_is_short(item: Item) -> None:
    for task in TASKS:
        for target in every_plan(task, item, RICH if item is not RICH else OTHER):
            assert_reads_well(target.text)
            assert item.title not in target.text
    for task in set(TASKS) - set(PAIR_TASKS):
        text = written(FactsTeacher(CatalogContext()), task, item).text
        assert 8 <= len(text.split()) <= 65, f"{task}: {text}"


@pytest.mark.parametrize("task", LISTS)
def test_lists_have_five_items(task: str, teacher: FactsTeacher) -> None:
    for target in every_plan(task, RICH, OTHER):
        parts = target.text.split("\n") if "\n" in target.text else target.text.split(";")
        assert len(parts) == 5
        assert len(set(parts)) == 5


def test_no_two_tasks_are_near_equal(teacher: FactsTeacher) -> None:
    for item, partner in ((RICH, OTHER), (OTHER, RICH)):
        words = {task: set(re.findall(r"\w+", written(teacher, task, item, partner).text.lower())) for task in TASKS}
        for one, two in combinations(TASKS, 2):
            shared = len(words[one] & words[two]) / len(words[one] | words[two])
            assert shared < 0.6, f"{one} and {two}: {shared:.2f}"


@pytest.mark.parametrize("task", TASKS)
def test_at_least_five_plans_all_reached_and_all_different(task: str) -> None:
    plans = PLANS[task]
    assert len(plans) >= 5
    assert {pick(len(plans), task, str(item_id)) for item_id in range(400)} == set(range(len(plans)))
    texts = [target.text for target in every_plan(task, RICH, OTHER)]
    assert len(texts) == len(plans)
    assert len(set(texts)) == len(texts)


def test_every_field_of_every_plan_exists() -> None:
    context = CatalogContext()
    twin = Item(**{**OTHER.__dict__, "directors": RICH.directors, "countries": RICH.countries, "year": 1957})
    known = set(Film.of(RICH, context).pieces) | set(Film.of(OTHER, context).pieces)
    pairs = [Pair.of(Film.of(RICH, context), Film.of(two, context), context) for two in (OTHER, twin)]
    known |= {name for pair in pairs for name in pair.pieces}
    known |= {f"{side}.{name}" for side in "12" for name in Film.of(RICH, context).pieces}
    for task, plans in PLANS.items():
        for plan in plans:
            assert fields_of(plan) <= known, f"{task}: {fields_of(plan) - known}"


def test_teacher_is_deterministic_and_follows_the_item(teacher: FactsTeacher) -> None:
    for task in TASKS:
        again = written(FactsTeacher(CatalogContext()), task, RICH, OTHER)
        assert again == written(teacher, task, RICH, OTHER)
    assert written(teacher, "summary", RICH).text != written(teacher, "summary", OTHER).text


def test_reasons_for_leaving_a_film_out(teacher: FactsTeacher) -> None:
    nameless = Item(index=5, item_id="5", title="X", year=1990)
    assert teacher.write("summary", nameless) == NO_GENRE
    assert teacher.write("similarities", RICH, nameless) == NO_GENRE
    genre_only = Item(index=6, item_id="6", title="X", genres=("Horror",), n_ratings=10)
    assert teacher.write("negative_review", genre_only) == NO_OPINION
    assert teacher.write("dissuade1", genre_only) == TOO_FEW_FACTS
    horror = Item(index=7, item_id="7", title="Y", year=2005, genres=("Horror",), n_ratings=500)
    assert teacher.write("common_with_nn", SPARSE, horror) == NOTHING_SHARED
    assert teacher.write("diff_than_nn", SPARSE, Item(**{**SPARSE.__dict__, "item_id": "8"})) == NOTHING_APART


def test_awards_are_told_without_a_number_the_source_cannot_know() -> None:
    assert "Oscars won: at least 2. Oscar nominations: at least 3." in facts_prompt(
        RICH, CatalogContext.from_items([RICH])
    )
    for won, named in ((1, 1), (8, 9), (0, 1), (0, 5)):
        film = replace(RICH, oscars_won=won, oscar_nominations=named)
        (award,) = [opinion for opinion in strengths(film, 1) if opinion.kind == "awards"]
        assert not re.search(r"\d|\ban? Oscar (win|nomination)\b|two|five|eight|nine", award.clause + award.thing)


def test_of_several_languages_none_is_called_the_films_own() -> None:
    def kinds(*languages: str) -> set[str]:
        return {opinion.kind for opinion in strengths(replace(RICH, languages=languages), 1)}

    assert "language" in kinds("Italian")
    assert "language" in kinds("Italian", "Sign Language")
    assert "language" not in kinds("German", "Italian")
    assert "language" not in kinds("English")


def test_a_nation_is_told_only_where_the_countries_say_whose_film_it_is() -> None:
    def card(*countries: str) -> str | None:
        film = Film.of(replace(RICH, countries=countries), CatalogContext.from_items([RICH]))
        return film.pieces["nation"][0] if "nation" in film.pieces else None

    assert card("Italy") == "Italian"
    assert card("Italy", "Spain") == "Italian-Spanish"
    assert card("Czech Republic", "Germany", "United States") == "American"
    assert card("France", "Germany", "Italy") is None
    context = CatalogContext()
    assert Film.of(RICH, context).pieces["card"][0].startswith("1950s Italian-Spanish")
    assert Film.of(OTHER, context).pieces["card"][0] == "1990s romantic comedy"
    assert Film.of(OTHER, context).pieces["nation_card"][0] == "1990s American romantic comedy"


def test_a_co_production_has_all_its_nations_or_none() -> None:
    def facts(one: tuple[str, ...], two: tuple[str, ...]) -> tuple[str, str]:
        films = [replace(RICH, countries=one), replace(OTHER, countries=two)]
        context = CatalogContext.from_items(films)
        pieces = Pair.of(*(Film.of(film, context) for film in films), context).pieces
        told = [
            " ".join(text for name, (text, _) in pieces.items() if name.startswith(side)) for side in ("both", "apart")
        ]
        return told[0], told[1]

    assert "the first is an Italian film, the second a French film" in facts(("Italy",), ("France",))[1]
    assert "the first is a French-American film, the second" in facts(("France", "United States"), ("Italy",))[1]
    assert "film, the second" not in facts(("France", "Germany", "Spain"), ("Italy",))[1]
    assert "are Italian productions" in facts(("Italy", "Spain"), ("Italy",))[0]
    both = facts(("France", "United States"), ("France", "United States"))[0]
    assert "French productions" not in both
    assert "are American productions" in both


def test_wrong_calls_are_refused(teacher: FactsTeacher) -> None:
    with pytest.raises(ValueError, match="unknown task 'poem'; choose from summary"):
        teacher.write("poem", RICH)
    with pytest.raises(ValueError, match="takes two movies"):
        teacher.write("similarities", RICH)
    with pytest.raises(ValueError, match="takes one movie"):
        teacher.write("summary", RICH, OTHER)


def test_opinions_follow_from_facts() -> None:
    good = {opinion.kind: opinion.clause for opinion in strengths(RICH, following=3)}
    assert good["awards"] == "it is an Oscar winner"
    assert good["reception"] == "91% of critics praised it"
    assert good["length"] == "its 187 minutes have epic sweep"
    bad = {opinion.kind: opinion.clause for opinion in weaknesses(RICH, following=3)}
    assert bad["length"] == "at 187 minutes it overstays its welcome"
    assert bad["language"] == "its Italian-language dialogue means reading subtitles"
    assert "reception" not in bad
    worse = {opinion.kind: opinion.clause for opinion in weaknesses(OTHER, following=0)}
    assert worse["reception"] == "only 34% of critics liked it"
    assert worse["certificate"] == "its PG rating keeps it tame"
    assert {opinion.kind for opinion in tastes(SPARSE)} == {"era"}
    few = Item(**{**OTHER.__dict__, "n_reviews": 2})
    assert "reception" not in {opinion.kind for opinion in weaknesses(few, following=0)}


def test_same_card_twice_is_said_once(teacher: FactsTeacher) -> None:
    twin = Item(**{**SPARSE.__dict__, "item_id": "9", "index": 9, "n_ratings": 50})
    for task in PAIR_TASKS:
        for target in every_plan(task, SPARSE, twin):
            assert not re.search(r"a 1930s drama(?: and|, the second|, part) a 1930s drama", target.text), target.text


def test_people_whose_name_reads_like_a_fact_are_passed_over() -> None:
    item = Item(**{**RICH.__dict__, "cast": ("Dawn French", "Carl Dune", "Dora Lake"), "directors": ("War Hero",)})
    pieces = Film.of(item, CatalogContext()).pieces
    assert pieces["cast"][0] == "Carl Dune and Dora Lake"
    assert "director" not in pieces


def test_context_takes_thresholds_and_credits_from_the_catalogue() -> None:
    items = [Item(index=i, item_id=str(i), title="t", n_ratings=i, cast=("Zed",)) for i in range(100)]
    context = CatalogContext.from_items(items)
    assert [context.following(items[i]) for i in (0, 50, 80, 99)] == [0, 1, 2, 3]
    film = Film.of(Item(index=0, item_id="x", title="t", cast=("Amy", "Bob", "Zed")), context)
    assert film.pieces["cast"][0] == "Zed and Amy"
    assert CatalogContext.from_items([]).following(items[0]) == 0


def test_facts_prompt_and_title_prompt() -> None:
    text = facts_prompt(RICH, CatalogContext())
    for fact in ("The Long Ride (1956)", "Western", "Italy, Spain", "Ada Stone", "Carl Dune", "187 minutes", "91%"):
        assert fact in text
    assert title_prompt(RICH) == "The Long Ride (1956)"
    assert facts_prompt(SPARSE, CatalogContext()) == "Bare (1931). Genres: Drama. Audience: a small audience."


def test_critics_who_shrugged_are_the_others() -> None:
    panned = Item(**{**RICH.__dict__, "critic_score": 15})
    assert facts_of_item(panned)["scores"] == {"15"}
    assert mentions("Win back the 85% of critics who shrugged.")["scores"] == {"15"}
    assert mentions("85% of critics liked it, only 4% of the critics did not.")["scores"] == {"85", "4"}


def test_facts_prompt_holds_whom_the_teacher_names_and_its_audience() -> None:
    crowd = [Item(index=i, item_id=str(i), title="t", n_ratings=i, cast=("Yul", "Zed")) for i in range(9)]
    item = Item(9, "x", "t", 1990, genres=("Drama",), directors=("Ann",), cast=("Amy", "Ann", "Bob", "Yul", "Zed"))
    context = CatalogContext.from_items([*crowd, item])
    film = Film.of(item, context)
    text = facts_prompt(item, context)
    assert film.pieces["cast"][0] == "Yul and Zed"
    assert "Cast: Yul, Zed, Amy" in text
    popular = Item(**{**item.__dict__, "n_ratings": 8})
    assert AUDIENCES[context.following(popular)] == "a huge audience"
    assert "a huge audience" in facts_prompt(popular, context)


def test_lexicon_phrases_name_no_foreign_fact() -> None:
    for words in GENRES.values():
        assert isinstance(words, GenreWords)
        for name, value in vars(words).items():
            if name in ("name", "pattern"):
                continue
            for phrase in value if isinstance(value, tuple) else (value,):
                found = mentions(phrase)
                assert found.pop("genres") <= {words.name}, phrase
                assert not any(found.values()), phrase
        assert words.name in mentions(f"a {genre_label((words.name,))}")["genres"]
        assert words.name in mentions(words.kind)["genres"]
        assert words.name in mentions(words.modifier)["genres"]


def test_every_demonym_is_found_again() -> None:
    for country, adjective in DEMONYMS.items():
        assert mentions(f"A 1990s {adjective} drama.")["countries"] == {country}
    assert mentions("Its French-language dialogue.")["countries"] == set()
    assert mentions("Its French-language dialogue.")["languages"] == {"French"}


@st.composite
def films(draw: st.DrawFn) -> Item:
    name = st.sampled_from(("Ada Stone", "Ben Pike", "Carl Dune Jr.", "Dora Lake", "Eve O'Neil"))
    names = st.lists(name, max_size=3, unique=True).map(tuple)
    maybe = st.none
    return Item(
        index=0,
        item_id=str(draw(st.integers(0, 10_000))),
        title="Zqx",
        year=draw(maybe() | st.integers(1895, 2024)),
        genres=tuple(draw(st.lists(st.sampled_from([*GENRES, "IMAX", "Family"]), max_size=6, unique=True))),
        directors=draw(names),
        writers=draw(names),
        cast=draw(names),
        countries=tuple(draw(st.lists(st.sampled_from([*DEMONYMS, "Nowhere"]), max_size=3, unique=True))),
        languages=tuple(
            draw(st.lists(st.sampled_from(("English", "French", "Serbo-Croatian")), max_size=2, unique=True))
        ),
        runtime=draw(maybe() | st.integers(1, 300)),
        critic_score=draw(maybe() | st.integers(0, 100)),
        n_reviews=draw(maybe() | st.integers(0, 200)),
        oscars_won=draw(st.integers(0, 11)),
        oscar_nominations=draw(st.integers(0, 14)),
        certificate=draw(maybe() | st.sampled_from(("G", "PG", "PG-13", "R", "NC-17", "M"))),
        n_ratings=draw(st.integers(0, 300)),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(films(), films())
def test_any_film_gives_good_english_and_its_own_facts(item: Item, partner: Item) -> None:
    teacher = FactsTeacher(CatalogContext())
    partner = Item(**{**partner.__dict__, "item_id": f"p{partner.item_id}"})
    facts = [facts_of_item(one) for one in (item, partner)]
    for task in TASKS:
        target = teacher.write(task, item, partner if task in PAIR_TASKS else None)
        if isinstance(target, str):
            assert target in (NO_GENRE, NO_OPINION, NOTHING_APART, NOTHING_SHARED, TOO_FEW_FACTS)
            continue
        assert_reads_well(target.text)
        found = mentions(target.text)
        for kind in KINDS:
            allowed = facts[0][kind] | (facts[1][kind] if task in PAIR_TASKS else set())
            assert found[kind] <= allowed, f"{task} {kind}: {target.text}"
        assert found["genres"], target.text


def test_films_with_a_shared_country_do_not_differ_by_country() -> None:
    context = CatalogContext()

    def differences(partner: Item) -> list[str]:
        pieces = Pair.of(Film.of(RICH, context), Film.of(partner, context), context).pieces
        return [text for name, (text, _) in pieces.items() if name.startswith("apart.fact")]

    shared = differences(Item(**{**OTHER.__dict__, "countries": ("Italy", "United States")}))
    assert len(shared) > 0
    assert not any("Italian" in text for text in shared)
    assert "the first is an Italian-Spanish film, the second an American film" in differences(OTHER)
