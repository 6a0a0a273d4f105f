"""Sentence plans of the tasks that describe a film: summary, long description, viewer, pitch, lists.

A plan is a tuple of sentences. `{field}` is a piece of `Film.pieces`, `{a field}` puts the article before it.
A part in [brackets] goes where one of its pieces is missing. Of alternatives parted by " | " the first whose pieces
all exist is used; a sentence without one is left out, except the first, which the film must be able to fill.
"""

from ilm_lightning.tasks.elm.grammar import Plan

ABOUT: dict[str, tuple[Plan, ...]] = {
    "summary": (
        (
            "{a full_card} in which {premise}.",
            "{director} directed it[, with {cast} in the cast]. | It runs {minutes}.",
            "It was {verdict}. | It has {crowd}.",
        ),
        (
            "{premise}: that is the story of this {full_card}.",
            "Behind the camera: {director}. | {cast} appear in it. | It lasts {minutes}.",
        ),
        (
            "This {full_card} shows how {premise1}.",
            "Meanwhile {premise2}. | It lasts {minutes}. | It is {popular}.",
            "The director is {director}. | {cast} are among the players.",
        ),
        (
            "In this {full_card}[ by {director}] {premise}.",
            "It was {verdict}. | {cast} take part. | It is {popular}.",
        ),
        (
            "{cast} appear in {a full_card}: {premise}. | The plot of this {full_card} is quickly told: {premise}.",
            "It runs {minutes}[ and was {verdict}]. | It was {verdict}. | It is {popular}.",
        ),
    ),
    "long_description": (
        (
            "This {nation_card} takes us to {setting}.",
            "The mood is {mood}, the subject {theme}.",
            "{director} directs[ {cast}]. | {cast} are in it.",
            "It runs {minutes}[ and was {verdict}]. | It was {verdict}.",
        ),
        (
            "{mood} in tone, this {nation_card} explores {theme}.",
            "Much of it shows {setting}.",
            "At {minutes}, with {crowd}, it was {verdict}. | It was {verdict}. | It reached {crowd}.",
            "{director} made it. | {cast} act in it.",
        ),
        (
            "{setting}: there this {nation_card} takes us[ for {minutes}].",
            "It is {mood} and turns on {theme}.",
            "{cast} appear, directed by {director}. | {director} is the director.",
            "It reached {crowd}[ and was {verdict}].",
        ),
        (
            "Picture {setting}: such is this {nation_card}.",
            "In {a mood} key it deals with {theme}.",
            "It was directed by {director}[ from a script by {writer}].",
            "It lasts {minutes} and was {verdict}. | It lasts {minutes}. | It was {verdict}.",
        ),
        (
            "At the heart of this {nation_card}: {theme}.",
            "Its world: {setting}; its tone: {mood}.",
            "Made in {year}, it runs {minutes}[ and was {verdict}]. | It is {popular}.",
            "{director} directs {cast}. | {director} directs.",
        ),
    ),
    "movie_to_viewer": (
        (
            "{viewer} will enjoy this {sort}.",
            "It suits people who {taste1}[ and {taste2}].",
            "Admirers of {director} should not miss it. | Admirers of {star} should look too.",
        ),
        (
            "The right audience for {a card}: {viewer}.",
            "Best of all are those who {taste1}. | Best of all are those who follow {director}.",
        ),
        (
            "People who {taste1} should try this {sort}. | This {card} has a clear public.",
            "So should {viewer}.",
            "They may also be people who {taste2}. | Followers of {director} belong here as well.",
        ),
        (
            "Made for {viewer}, this {card} has found {crowd}.",
            "Among them are those who {taste1}. | Fans of {star} are welcome.",
        ),
        (
            "Who should see it? {viewer}.",
            "Being {a card}, it also fits those who {taste1}[ and {taste2}].",
            "Followers of {director} will be glad. | Followers of {star} will be glad.",
        ),
    ),
    "pitch": (
        (
            "{hook}.",
            "This {card}[ by {director}] sells itself[: {plus1}].",
            "{cast} appear in it.",
        ),
        (
            "Imagine {hook1}. | Imagine {hook}.",
            "Add {hook2}. | Add {plus_thing1}.",
            "It is {a card}[ from {director}][, with {cast}].",
        ),
        (
            "{a card} with {hook1}. | {a card} with {hook}.",
            "Stir in {hook2}. | Stir in {plus_thing1}.",
            "It has {star} in the cast and comes from {director}. | {plus2}.",
        ),
        (
            "{hook1}, told as {a card}.",
            "On top of that, {hook2}. | The tone is {mood}.",
            "To show for it: [{cast}, and ]{plus_thing1}.",
        ),
        (
            "{cast} in {a card} by {director}: {hook1}. | {a card}: {hook1}.",
            "{hook2}. | {plus1}.",
            "Who could refuse {plus_thing2}? | Who could refuse {plus_thing1}?",
        ),
    ),
    "five_positive_characteristics": (
        ("1. {a card} with {a mood} spirit", "2. {good1}", "3. {good2}", "4. {good3}", "5. {plus_thing1}"),
        ("- {plus_thing1}", "- {good1}", "- {good2}", "- {good3}", "- all the pleasures of {a card}"),
        ("1. {good1}", "2. {plus_thing1}", "3. {good2}", "4. the {mood} mood of {a card}", "5. {good3}"),
        ("- {good1}", "- {good2}", "- {a card} at heart", "- {plus_thing1}", "- {good3}"),
        ("what works in this {card}: {good1};", "{good2};", "{good3};", "{a mood} mood;", "{plus_thing1}"),
    ),
    "five_negative_characteristics": (
        ("1. little that is new for {a card}", "2. {bad1}", "3. {bad2}", "4. {bad3}", "5. {minus_thing1}"),
        ("- {minus_thing1}", "- {bad1}", "- {bad2}", "- {bad3}", "- the usual habits of {a card}"),
        ("1. {bad1}", "2. {minus_thing1}", "3. {bad2}", "4. {a card} by numbers", "5. {bad3}"),
        ("- {bad1}", "- {bad2}", "- {a card} without surprises", "- {minus_thing1}", "- {bad3}"),
        ("what fails in this {card}: {bad1};", "{bad2};", "{bad3};", "nothing fresh;", "{minus_thing1}"),
    ),
}
