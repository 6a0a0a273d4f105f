"""Prompts for a language model as teacher, and which of its answers become targets."""

import pytest

from ilm_lightning.data.item import Item
from ilm_lightning.tasks.elm.names import PAIR_TASKS, TASKS
from ilm_lightning.tasks.teachers.prompts import FIVE, TASK_PROMPTS, describe_film, teacher_prompt
from ilm_lightning.tasks.teachers.request import Answer
from ilm_lightning.tasks.teachers.rules import clean, names_title, note_on, target_of

HEAT = Item(
    0, "6", "Heat", 1995, genres=("Crime", "Thriller"), tags=("heist",), directors=("Michael Mann",),
    genome_tags=("cat and mouse",), cast=("Al Pacino", "Robert De Niro"), countries=("United States",),
    languages=("English",), runtime=170, critic_score=88, oscar_nominations=2, certificate="R",
    text="A thief\n plans one last robbery.",
)  # fmt: skip
BARE = Item(1, "7", "Unknown Film")
PROSE = "It follows people who want more than life will give them and who pay for it dearly in the end. " * 2


def test_every_task_has_a_prompt_of_its_own() -> None:
    assert set(TASK_PROMPTS) == set(TASKS)
    assert len({prompt.ask for prompt in TASK_PROMPTS.values()}) == len(TASKS)
    # what is asked for can be written within the evaluation's default of 96 tokens, about 1.33 a word
    assert all(0 < prompt.least < prompt.most <= 72 for prompt in TASK_PROMPTS.values())


@pytest.mark.parametrize("task", TASKS)
def test_a_prompt_holds_the_films_facts_the_task_and_the_rules(task: str) -> None:
    partner = BARE if task in PAIR_TASKS else None
    text = teacher_prompt(task, HEAT, partner)
    assert TASK_PROMPTS[task].ask in text
    assert "Title: Heat (1995)" in text
    assert ("Title: Unknown Film" in text) == (partner is not None)
    assert "Never write the film" in text
    assert f"{TASK_PROMPTS[task].least} to {TASK_PROMPTS[task].most} words" in text
    assert "Never write" not in teacher_prompt(task, HEAT, partner, allow_title=True)
    assert teacher_prompt(task, HEAT, partner, note="Again.").endswith("\n\nAgain.")


def test_the_facts_that_are_known_and_no_others() -> None:
    text = describe_film(HEAT)
    for fact in (
        "Crime, Thriller",
        "heist",
        "cat and mouse",
        "Michael Mann",
        "Al Pacino",
        "170 minutes",
        "88%",
        "2",
        "R",
        "last robbery",
    ):
        assert fact in text
    assert "\n plans" not in text
    assert describe_film(BARE) == "Title: Unknown Film"
    long = Item(2, "8", "Long", tags=tuple(f"tag{n}" for n in range(99)), text="word " * 5000)
    assert len(describe_film(long)) < 2300


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("  A film.\n\nWith two\tparts. ", "A film. With two parts."),
        ("<think>\nThe user wants\n</think>\n\nA film.", "A film."),
        ("<think>never ends", ""),
        ("I keep it brief.</think>\n\nA film.", "A film."),
        ("<thinking>one</thinking>two</thinking>A film.", "A film."),
        ("A film. <think>hm</think>Its end.", "A film. Its end."),
        ("```text\nA film.\n```", "A film."),
        ("Sure! Here is the summary:\n\nA film.", "A film."),
        ("Here's a summary of it:\nA film.", "A film."),
        ("Here is the summary: A film.", "A film."),
        ("Sure! Here is a short review of the film: A film.", "A film."),
        ("Okay. Here's my balanced review of this movie: A film.", "A film."),
        ("**Here is the pitch:** A film.", "A film."),
        ("**Summary:** A film.", "A film."),
        ("Here is the text:\n\n**Positive review:** A film.", "A film."),
        ("## Plot summary\n\nA film.", "A film."),
        # what is no introduction stays, colons or not
        ("Here is a film with everything: a heist, a chase.", "Here is a film with everything: a heist, a chase."),
        ("Picture this: a heist.", "Picture this: a heist."),
        ("Two thieves: one old, one young.", "Two thieves: one old, one young."),
        ("Summary justice rules: a judge kills.", "Summary justice rules: a judge kills."),
        ("Sure, it is slow: but it pays.", "Sure, it is slow: but it pays."),
        ('"A film."', "A film."),
        ('"A film" and "another"', '"A film" and "another"'),
        ("**A** film.\n# Heading", "A film. Heading"),
        ("It’s fine.", "It's fine."),
        ("", ""),
    ],
)
def test_cleaning(raw: str, text: str) -> None:
    assert clean(raw) == text


def test_lists_keep_their_lines() -> None:
    assert clean("1. One\n\n 2.  Two \n", lines=True) == "1. One\n2. Two"


@pytest.mark.parametrize(
    ("text", "title", "named"),
    [
        ("Heat is a crime film.", "Heat", True),
        ("I loved Heat and its cast.", "Heat", True),
        ("Watch 'Heat' tonight.", "Heat", True),
        ("Heat (1995) is long.", "Heat", True),
        ("Heat's cast is strong.", "Heat", True),
        ("The heat of the city.", "Heat", False),
        ("Heat rises. Once more.", "Heat", False),
        ("Preheat the oven; Heathrow.", "Heat", False),
        ("Once is enough.", "Once", True),
        ("Once there was a film.", "Once", False),
        ("a love story about love", "Love Story", False),
        ("Love Story moves you.", "Love Story", True),
        ("In the Godfather's world", "The Godfather", True),
        ("the godfather of crime", "The Godfather", False),
        ("A Star Wars film.", "Star Wars: Episode IV - A New Hope", True),
        ("A war among the stars.", "Star Wars: Episode IV - A New Hope", False),
        ("It lasts 10 minutes.", "10", False),
        ("In 1984 (1984) it is cold.", "1984", True),
        ("What (is) [this]+?", "(500) Days of Summer", False),
        ("See (500) Days of Summer now.", "(500) Days of Summer", True),
        ("Schindler's List moved me.", "Schindler’s List", True),
        ("It follows two men. It's long.", "It", False),
        ("Her is lonely.", "Her", False),
        ("They watch It together.", "It", True),
        ("It (2017) is long.", "It", True),
        ("anything", "", False),
    ],
)
def test_titles_are_found_as_names_only(text: str, title: str, named: bool) -> None:
    assert names_title(text, title) is named


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (Answer(PROSE), None),
        (Answer(""), "empty"),
        (Answer("<think>hm</think>"), "empty"),
        (Answer(PROSE, "length"), "cut off"),
        (Answer("<think>still thinking", "length"), "cut off"),
        (Answer(PROSE, "content_filter"), "refused"),
        (Answer("I'm sorry, but I cannot help with that."), "refused"),
        (Answer("Unfortunately, I do not have enough information about this film. " * 4), "refused"),
        (Answer("As an AI language model, I have no taste. " * 5), "refused"),
        (Answer("Sorry to say that it is dull. " + PROSE), None),
        (Answer("A short one."), "too short"),
        (Answer(PROSE * 3), "too long"),
        (Answer("Heat is a film. " + PROSE), "names the title"),
    ],
)
def test_what_makes_an_answer_unfit(answer: Answer, fault: str | None) -> None:
    assert target_of("summary", answer, (HEAT,))[1] == fault
    if fault:
        assert note_on(fault, "summary")


@pytest.mark.parametrize(
    "opening",
    [
        "I can't help but love this film.",
        "I cannot help smiling at it.",
        "I can’t help secretly rooting for the thief.",
        "I'm sorry, but I can't help finding it dull.",
        "A man meets a woman revealed as an AI with plans of her own.",
        "She shines as an AI I came to love.",
        "Unfortunately, what I found here is a cold film.",
        "I'm sorry to say this film is cold.",
        "I'm sorry I waited so long to see it.",
        "I'm afraid I can't recommend it.",
        "I am unable to forget it.",
        "Sorry, but I can tell you how it ends.",
    ],
)
def test_a_viewers_words_are_no_refusal(opening: str) -> None:
    assert target_of("summary", Answer(f"{opening} {PROSE}"), (HEAT,)) == (
        f"{opening} {PROSE}".replace("’", "'").strip(),
        None,
    )


@pytest.mark.parametrize(
    "opening",
    [
        "I can't help with this.",
        "I cannot help you with a review.",
        "I’m sorry, but I can’t discuss this film.",
        "Sorry, I won't be able to do that.",
        "I am unable to summarise it.",
        "I'm not able to provide a review.",
        "Unfortunately, I am unable to find it.",
        "I'm sorry, but I'm not familiar with it.",
        "Sorry, I don't have access to films.",
        "As an AI, I have no taste.",
        "As an AI I do not watch films.",
        "As an AI language model, it is not for me to say.",
        "I do not have any specific information about it.",
    ],
)
def test_refusals_are_found(opening: str) -> None:
    assert target_of("summary", Answer(f"{opening} {PROSE}"), (HEAT,))[1] == "refused"


def test_a_film_that_is_called_it_can_be_written_about() -> None:
    it = Item(4, "10", "It", 2017)
    assert target_of("summary", Answer(PROSE), (it,)) == (PROSE.strip(), None)
    assert target_of("summary", Answer(f'I saw "It" twice. {PROSE}'), (it,))[1] == "names the title"


def test_lists_have_five_points() -> None:
    four = "\n".join(f"{n}. A clear and simple point" for n in range(1, 5))
    five = f"{four}\n5. A clear and simple point"
    assert target_of(FIVE[0], Answer(five), (HEAT,)) == (five, None)
    assert target_of(FIVE[0], Answer(four), (HEAT,))[1] == "not five points"
    assert note_on("not five points", FIVE[0])


def test_options_admit_titles_and_other_lengths() -> None:
    named = Answer("Heat is a film. " + PROSE)
    assert target_of("summary", named, (HEAT,), allow_title=True)[1] is None
    assert target_of("similarities", named, (BARE, HEAT))[1] == "names the title"
    assert target_of("summary", Answer("A short one."), (HEAT,), slack=1.0)[1] is None
    assert target_of(
        "summary", Answer("It is known as Colour here. " + PROSE), (Item(3, "9", "Other", aliases=("Colour",)),)
    )[1]
