"""Sentence plans of the tasks that talk somebody into or out of a film; the notation is that of `plans_about`."""

from ilm_lightning.tasks.elm.grammar import Plan

PERSUADE: dict[str, tuple[Plan, ...]] = {
    "convince1": (
        ("Tonight, {tonight}.", "This {card} is just {mood} enough for the sofa.", "And {plus1}."),
        (
            "Put on this {card} and {tonight1}. | Put on this {card}: {tonight}.",
            "{tonight2}.",
            "{minutes} well spent. | An evening well spent.",
        ),
        ("{tonight}: that is what {a card} can do.", "Bring popcorn; {plus1}. | Bring popcorn."),
        (
            "Need something {mood}?",
            "Choose this {card}, where {tonight}.",
            "It asks for {minutes} only. | It asks for one evening.",
        ),
        ("Cancel your plans for this {card}.", "{tonight}.", "Besides, {plus1}."),
    ),
    "convince2": (
        (
            "The record of this {card} speaks for itself: {plus1}[, and {plus2}].",
            "In its favour: {draw1}.",
        ),
        (
            "{plus1}. | Look at the case.",
            "{plus2}.",
            "Add {draw1}, and this {card} needs no other witness.",
        ),
        (
            "Exhibit one for this {card}: {plus_thing1}.",
            "Exhibit two: {plus_thing2}.",
            "Exhibit three: {draw1}.",
        ),
        (
            "Facts, then: {a card}[, {verdict}], with {plus_thing1}.",
            "Sceptics also get {draw}.",
        ),
        (
            "With {plus_thing1}[ and {plus_thing2}], this {card} has earned trust.",
            "Note {draw1}. Note {draw2}. | Note {draw1}.",
        ),
    ),
    "convince3": (
        (
            "Even if {plural} are not your thing, {surprise}.",
            "Its subject is {theme1}[, seen from {decade}].",
            "Besides, {plus1}.",
        ),
        ("You think this {card} is not for you?", "But {surprise}.", "Give {theme1} a chance[: {plus1}]."),
        (
            "{surprise1}. | {surprise}.",
            "{surprise2}.",
            "So forget what you expect of {a card} and think of {theme1}.",
            "After all, {plus1}.",
        ),
        (
            "Doubters of {plural} may relax: {surprise}.",
            "It is {a mood} look at {theme1}[ from {decade}].",
            "In addition, {plus1}.",
        ),
        (
            "This {card} is about {theme1}, and {surprise1}.",
            "Besides, {surprise2}.",
            "It converts people who avoid {plural}[, since {plus1}].",
        ),
    ),
    "dissuade1": (
        ("Spare yourself: {warn}.", "This {card} is {mood} in all the wrong ways.", "And {minus1}."),
        ("{warn}: that is an evening with this {card}.", "Also, {minus1}."),
        ("Leave this {card} on the shelf, for {warn}.", "Think of {risk1}[, and of {minus_thing1}]."),
        (
            "Tonight calls for something other than {a card}.",
            "Here {warn}.",
            "Do you want {risk1}[, and {minus_thing1}]?",
        ),
        (
            "If you put on this {card}, {warn}.",
            "You have better uses for {minutes}. | You have better uses for the evening.",
            "Know too that {minus1}.",
        ),
    ),
    "dissuade2": (
        (
            "This {card} is not for {skip}.",
            "The practical side: {minus_thing1}[ and {minus_thing2}].",
        ),
        (
            "{skip} should stay away from this {card}.",
            "Count against it {bad1}, {bad2}[, {minus_thing1}] and {bad3}.",
        ),
        (
            "Consider {minus_thing1} before choosing this {card}. | Think before choosing this {card}.",
            "It will annoy {skip}.",
            "They would notice {bad1}.",
        ),
        ("{a card} for {skip}? No.", "Expect {bad1}, {bad2}[ and {minus_thing1}]."),
        (
            "Avoid this {card} if you are among {skip}.",
            "What will trouble you is {bad1}[, then {minus_thing1}].",
        ),
    ),
}
