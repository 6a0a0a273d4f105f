"""Opinions that follow from a film's plain facts: awards, reviews, length, language, audience, certificate, age.

Each opinion is (kind of fact, clause, noun phrase); the most telling comes first.
"""

from dataclasses import dataclass

from ilm_lightning.data.item import Item
from ilm_lightning.tasks.elm.vocabulary import known_languages
from ilm_lightning.tasks.elm.wording import article

ERAS = {
    1880: "the flickering 1880s",
    1890: "the flickering 1890s",
    1900: "the flickering 1900s",
    1910: "the silent-screen 1910s",
    1920: "the silent-screen 1920s",
    1930: "the early-talkie 1930s",
    1940: "the black-and-white 1940s",
    1950: "the widescreen 1950s",
    1960: "the restless 1960s",
    1970: "the gritty 1970s",
    1980: "the neon-lit 1980s",
    1990: "the video-store 1990s",
    2000: "the digital 2000s",
    2010: "the streaming 2010s",
}
TAME = ("G", "PG")
ADULT = ("R", "NC-17", "X")
RATED = (*TAME, "PG-13", *ADULT)
MIN_REVIEWS = 5
BRISK, SLIGHT, LONG, EPIC = 95, 82, 125, 140  # minutes


@dataclass(frozen=True)
class Opinion:
    """A judgement and the fact it rests on.

    Attributes:
        kind: Kind of fact ("length", "reception", ...).
        clause: A full clause.
        thing: The same as a noun phrase.
    """

    kind: str
    clause: str
    thing: str


def critic_score(item: Item) -> int | None:
    """Share of positive reviews in per cent, None where fewer than `MIN_REVIEWS` critics are counted."""
    if item.critic_score is None or (item.n_reviews is not None and item.n_reviews < MIN_REVIEWS):
        return None
    return item.critic_score


def foreign_language(item: Item) -> str | None:
    """The film's language where it has one alone, and not English; otherwise None.

    Of several the source does not say which one is spoken most.
    """
    languages = known_languages(item.languages)
    # "Sign Language" would read "Sign Language-language".
    spoken = [name for name in languages if not name.lower().endswith("language")]
    return spoken[0] if len(spoken) == 1 and "English" not in languages else None


def era(year: int) -> str:
    """A decade with its flavour, such as "the neon-lit 1980s"."""
    decade = year // 10 * 10
    return ERAS.get(decade, f"the {decade}s")


def strengths(item: Item, following: int) -> tuple[Opinion, ...]:
    """What speaks for a film, from its facts.

    Args:
        item: The film.
        following: Size of its audience, 0 (small) to 3 (huge).

    Returns:
        Opinions, most telling first.
    """
    found: list[Opinion] = []
    if item.oscars_won:
        # no number: the source knows a part of the awards
        found.append(Opinion("awards", "it is an Oscar winner", "Oscar glory"))
    elif item.oscar_nominations:
        found.append(Opinion("awards", "it was in the running for an Oscar", "the Academy's attention"))
    score = critic_score(item)
    if score is not None and score >= 60:
        verb = "praised" if score >= 80 else "liked"
        found.append(Opinion("reception", f"{score}% of critics {verb} it", f"approval from {score}% of critics"))
    if language := foreign_language(item):
        words = f"{language}-language dialogue"
        found.append(Opinion("language", f"its {words} adds flavour", f"flavourful {words}"))
    if item.runtime and item.runtime <= BRISK:
        brisk = article(f"brisk {item.runtime} minutes")
        found.append(Opinion("length", f"it is over in {brisk}", brisk))
    elif item.runtime and item.runtime >= EPIC:
        found.append(Opinion("length", f"its {item.runtime} minutes have epic sweep", f"{item.runtime} epic minutes"))
    if following >= 2:
        crowd = "a huge audience" if following == 3 else "a large audience"
        found.append(Opinion("audience", f"{crowd} has discovered it", crowd))
    if item.certificate in TAME:
        rating = f"{item.certificate} rating"
        found.append(Opinion("certificate", f"its {rating} lets kids watch too", f"{article(rating)} fit for kids"))
    if item.year is not None:
        when = era(item.year)
        found.append(Opinion("era", f"it captures the spirit of {when}", f"the flavour of {when}"))
    if following == 0:
        found.append(Opinion("audience", "it is a discovery few have made", "the charm of a little-seen discovery"))
    return tuple(found)


def weaknesses(item: Item, following: int) -> tuple[Opinion, ...]:
    """What speaks against a film, from its facts; arguments and result as for `strengths`."""
    found: list[Opinion] = []
    score = critic_score(item)
    if score is not None and score < 60:
        share = f"only {score}% of critics" if score else "not one critic"
        found.append(Opinion("reception", f"{share} liked it", f"weak reviews ({share} liked it)"))
    if language := foreign_language(item):
        words = f"{language}-language dialogue"
        found.append(Opinion("language", f"its {words} means reading subtitles", f"subtitles for {words}"))
    if item.runtime and item.runtime >= LONG:
        clause = f"at {item.runtime} minutes it overstays its welcome"
        found.append(Opinion("length", clause, f"a tiring {item.runtime} minutes"))
    elif item.runtime and item.runtime <= SLIGHT:
        clause = f"at {item.runtime} minutes it is slight"
        found.append(Opinion("length", clause, f"a skimpy {item.runtime} minutes"))
    if item.year is not None and item.year < 1990:
        decade = f"{item.year // 10 * 10}s"
        look = "an antique" if item.year < 1950 else "a dated"
        found.append(Opinion("era", f"its {decade} style shows its age", f"{look} {decade} look"))
    if following == 0:
        found.append(Opinion("audience", "hardly anybody has sought it out", "a tiny audience"))
    if item.certificate in ADULT:
        rating = f"{item.certificate} rating"
        found.append(
            Opinion("certificate", f"its {rating} shuts younger viewers out", f"{article(rating)} that shuts kids out")
        )
    elif item.certificate in TAME:
        rating = f"{item.certificate} rating"
        found.append(Opinion("certificate", f"its {rating} keeps it tame", f"{article(rating)} that keeps it tame"))
    if item.year is not None and item.year >= 1990:
        when = era(item.year)
        found.append(Opinion("era", f"it never escapes the fashions of {when}", f"fashions of {when}"))
    if following == 3:
        found.append(
            Opinion("audience", "its huge audience has worn out its surprises", "surprises a huge audience wore out")
        )
    return tuple(found)


def remedies(item: Item) -> tuple[Opinion, ...]:
    """How to mend the film's plain faults, as imperatives; same order and shape as `weaknesses`."""
    found: list[Opinion] = []
    if item.runtime and item.runtime >= LONG:
        found.append(Opinion("length", f"trim its {item.runtime} minutes to under two hours", "a shorter cut"))
    elif item.runtime and item.runtime <= SLIGHT:
        found.append(Opinion("length", f"stretch its {item.runtime} minutes to a full evening", "a longer cut"))
    score = critic_score(item)
    if score is not None and score < 60:
        found.append(Opinion("reception", f"win back the {100 - score}% of critics who shrugged", "a rewrite"))
    if language := foreign_language(item):
        found.append(Opinion("language", f"offer better subtitles for the {language}-language dialogue", "subtitles"))
    if item.year is not None and item.year < 1990:
        decade = f"{item.year // 10 * 10}s"
        what = "picture" if item.year < 1930 else "picture and sound"
        found.append(Opinion("era", f"restore its {decade} {what}", "a restoration"))
    if item.certificate in ADULT:
        found.append(
            Opinion("certificate", f"soften the {item.certificate} rating for a wider audience", "a softer cut")
        )
    elif item.certificate in TAME:
        found.append(
            Opinion("certificate", f"risk a bolder cut than the {item.certificate} rating allows", "a bolder cut")
        )
    if item.year is not None:
        found.append(Opinion("era", f"keep the flavour of {era(item.year)}", "its flavour"))
    return tuple(found)


def tastes(item: Item) -> tuple[Opinion, ...]:
    """What a fitting viewer is like, as clauses that follow "who"; same shape as `strengths`."""
    found: list[Opinion] = []
    if language := foreign_language(item):
        found.append(Opinion("language", f"enjoy {language}-language dialogue with subtitles", "subtitle readers"))
    if item.runtime and item.runtime >= EPIC:
        found.append(Opinion("length", f"have the patience for {item.runtime} minutes", "patient viewers"))
    elif item.runtime and item.runtime <= BRISK:
        found.append(Opinion("length", f"have only {item.runtime} minutes to spare", "busy viewers"))
    if item.year is not None:
        age = "old pictures from" if item.year < 1980 else "the look of"
        found.append(Opinion("era", f"are fond of {age} {era(item.year)}", "lovers of the period"))
    if item.certificate in ADULT:
        found.append(Opinion("certificate", f"are grown up enough for {article(item.certificate)} rating", "adults"))
    elif item.certificate in TAME:
        found.append(
            Opinion("certificate", f"want {article(item.certificate)} rating because kids are watching", "parents")
        )
    return tuple(found)
