"""Sentence plans of reviews, criticism and changed versions; the notation is that of `plans_about`."""

from ilm_lightning.tasks.elm.grammar import Plan

OPINION: dict[str, tuple[Plan, ...]] = {
    "positive_review": (
        ("{praise}.", "{a card} to treasure[, and {plus1}].", "Better still, {plus2}."),
        ("What {a card}!", "{praise}.", "No wonder {plus1}. | A delight.", "Also, {plus2}."),
        (
            "I loved this {card}: {praise1}. | I loved this {card}: {praise}.",
            "{praise2}.",
            "{plus1}[, and {plus2}].",
        ),
        (
            "{plus1}, which is one reason to see it. | Warmly recommended.",
            "In this {card} {praise}.",
            "What is more, {plus2}.",
        ),
        ("As {a card} it shines: {praise}.", "{plus1}[; {plus2}].", "Warmly recommended."),
    ),
    "negative_review": (
        ("{fault}.", "{a card} to forget[, and {minus1}].", "Worse, {minus2}."),
        ("A disappointing {card}.", "{fault}.", "On top of that, {minus1}.", "Besides, {minus2}."),
        (
            "I could not warm to this {card}: {fault1}. | This {card} left me cold.",
            "{fault2}.",
            "{minus1}[, and {minus2}].",
        ),
        (
            "{minus1}, which is reason enough to stay away. | A letdown.",
            "In this {card} {fault}.",
            "To make it worse, {minus2}.",
        ),
        ("As {a card} it fails: {fault}.", "{minus1}[; {minus2}].", "Not recommended."),
    ),
    "neutral_review": (
        (
            "This {card} offers {draw}, but also {risk}.",
            "{liked}. | It has {crowd}.",
            "{minutes}, neither great nor bad.",
        ),
        (
            "On one side {draw}; on the other {risk}.",
            "A middling {card}[, {verdict}].",
            "It lasts {minutes}.",
        ),
        (
            "{a card} of the expected kind: {draw}.",
            "Against it: {risk}.",
            "It [was {verdict} and ]has {crowd}.",
        ),
        (
            "{draw} make up for {risk}, more or less.",
            "{a card} that was {verdict}. | {a card} with {crowd}.",
            "{minutes} pass well enough.",
        ),
        (
            "Those who seek {draw} get them; those who dislike {risk} are warned.",
            "It is {a card}[ of {minutes}][, {verdict}].",
        ),
    ),
    "criticize": (
        (
            "{gripe}.",
            "For {a card} that is a serious flaw[; moreover, {minus1}].",
        ),
        (
            "The trouble with this {card} is plain: {gripe}.",
            "Then add {minus_thing1}[ and {minus_thing2}].",
        ),
        (
            "{gripe1}. | {gripe}.",
            "{gripe2}.",
            "{a card} should know better[, given {minus_thing1}].",
        ),
        (
            "Seen coldly, this {card} has a fault: {gripe}.",
            "Among its lesser sins: {minus_thing1}[ and {minus_thing2}].",
        ),
        (
            "Charge one against this {card}: {gripe1}. | The charge against this {card}: {gripe}.",
            "Charge two: {gripe2}. | Charge two: {minus_thing2}.",
            "Final charge: {minus_thing1}.",
        ),
    ),
    "funnier": (
        (
            "Played for laughs, this {card} would change: {gag}.",
            "{theme} would become a running joke.",
            "Even its {minutes} would fly by.",
        ),
        (
            "{gag}: so goes the silly cut of this {card}.",
            "Its {mood} tone would not survive.",
            "{star} would wear a red nose. | {crowd} would howl.",
        ),
        (
            "In the hilarious version of this {card} {gag}.",
            "{cast} would keep straight faces. | The {dec} hairdos would be part of the joke.",
        ),
        (
            "{gag1}. | {gag}.",
            "{gag2}.",
            "That is this {card}, rewritten by a clown, with {setting1} as his playground.",
            "{star} would get the custard pie.",
        ),
        (
            "Take the {mood} tone of this {card} and turn it upside down.",
            "Now {gag}.",
            "{crowd} would giggle[ for {minutes}].",
        ),
    ),
    "sadder": (
        (
            "A more sorrowful take on this {card}: {sorrow}.",
            "Tears would blur {setting1}[, and {star} would be left alone].",
        ),
        (
            "{sorrow}.",
            "Thus ends the tearful version of this {card}, its {mood} tone turned to grief.",
            "{director} would film it in the rain. | {crowd} would cry.",
        ),
        (
            "To break hearts, this {card} would need one change: {sorrow}.",
            "No comfort would follow in its {minutes}. | No comfort would follow.",
            "{star} would never smile again.",
        ),
        (
            "{sorrow1}. | {sorrow}.",
            "{sorrow2}.",
            "As a tragedy, this {card} would leave nothing of {theme1} but regret.",
            "Its {minutes} would end in silence.",
        ),
        (
            "Slow the music and dim the light: in this {card} {sorrow}.",
            "{crowd} would go home weeping[ after {minutes}].",
        ),
    ),
    "scarier": (
        (
            "As a nightmare, this {card} would go further: {dread}.",
            "Fear would haunt {setting1}[, and {star} most of all].",
        ),
        (
            "{dread}.",
            "That is the terrifying cut of this {card}, all its {mood} moments turned to ice.",
            "{crowd} would scream[ for {minutes}].",
        ),
        (
            "To chill the blood, this {card} needs darkness: {dread}.",
            "Its {minutes} would feel endless. | The night would feel endless.",
            "{star} would not survive it.",
        ),
        (
            "{dread1}. | {dread}.",
            "{dread2}.",
            "So this {card} would become a bad dream about {theme1}.",
            "{director} would keep the lamps off.",
        ),
        (
            "Turn off the lamps in this {card}; {dread}.",
            "{crowd} would sleep with the light on[ after these {minutes}].",
        ),
    ),
    "improve": (
        ("To lift this {card}, {fix}.", "Then {remedy1}[ and {remedy2}]."),
        (
            "{fix1}. | {fix}.",
            "{fix2}.",
            "As for the rest of this {card}, {remedy1}. | That would make a stronger {card}.",
        ),
        ("[{remedy1}; ]above all, {fix}.", "So this {card} would gain."),
        ("A better cut of this {card} is easy to imagine.", "{fix}.", "While at it, {remedy1}."),
        ("Notes on this {card}: {fix}[; {remedy1}][; {remedy2}].",),
    ),
}
