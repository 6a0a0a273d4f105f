"""Sentence plans of the tasks about two films.

Fields of the first film start with "1.", of the second with "2."; "both." fields name what the two share, "apart."
fields what parts them and "blend." fields a mixture (see `pairs`). The notation is that of `plans_about`.
"""

from ilm_lightning.tasks.elm.grammar import Plan

PAIRS: dict[str, tuple[Plan, ...]] = {
    "similarities": (
        (
            "Both {both.fact1}[ and {both.fact2}]. | Both deal with {both.theme}.",
            "{both.line}.",
            "They share {both.draw}. | The first is {1.mood}, the second {2.mood}.",
        ),
        (
            "{both.two} turn out to be related.",
            "Both {both.fact1}[ and {both.fact2}].",
            "{both.draw} unite them. | The first is {1.mood}, the second {2.mood}.",
        ),
        (
            "{both.draw}: both films have them. | Far apart as they seem, both {both.fact1}.",
            "{both.line}.",
            "They also {both.fact2}. | The first is {1.mood}, the second {2.mood}.",
        ),
        (
            "{both.line}, yet both {both.fact1}. | {both.line}.",
            "The two {both.fact2}. | The first is {1.mood}, the second {2.mood}.",
            "Viewers find {both.draw} in each. | Viewers find {1.draw1} in the first.",
        ),
        (
            "[Alike in {both.kinds}, ]{both.two} both {both.fact1}. | Alike in {both.kinds}: {both.two}.",
            "They {both.fact2}, too.",
            "Expect {both.draw} twice. | The first is {1.mood}, the second {2.mood}.",
        ),
    ),
    "interpolation": (
        (
            "Halfway between {both.two} lies {a blend.mood} film.",
            "It mixes {blend.draw}.",
            "Its date would lie {blend.when}.",
        ),
        (
            "{blend.setting}: here {both.two} meet.",
            "The film in between would be {blend.mood} and speak of {blend.theme}.",
        ),
        (
            "Cross {a 1.card} with {both.next}.",
            "The child would be {blend.mood}, full of {blend.draw}.",
            "Its date would lie {blend.when}.",
        ),
        (
            "{blend.draw} would fill the film between {both.two}.",
            "Its theme would be {blend.theme}.",
            "It would last {blend.length}.",
        ),
        (
            "{both.part}, the blend would show {blend.setting}.",
            "The tone would be {blend.mood}.",
            "{1.director} and {2.director} might direct it together. | Its date would lie {blend.when}.",
        ),
    ),
    "why_like_nn": (
        (
            "After {a 1.card}, {both.next} is a natural step.",
            "{both.draw} come back. | The second brings {2.draw}.",
            "Both {both.fact1}.",
        ),
        (
            "Anyone who liked {1.draw1} in {a 1.card} will like {both.next}[ for {apart.draw2}].",
            "The two {both.fact1}[ and {both.fact2}].",
        ),
        (
            "The second film, {a 2.card}, speaks to the same taste as the first, {a 1.card}.",
            "It again offers {both.draw}. | It offers {2.draw}.",
            "Both {both.fact1}.",
        ),
        (
            "Fans of {a 1.card} want {1.draw1}.",
            "They can turn to {both.next}, which is {2.mood}.",
            "Both also {both.fact1}[ and {both.fact2}].",
        ),
        (
            "With its {2.mood} mood, {both.next} suits those who enjoyed {a 1.card}.",
            "{both.draw} guarantee it. | Expect {2.draw1}.",
            "Both {both.fact1}.",
        ),
    ),
    "diff_than_nn": (
        (
            "{both.line}.",
            "{apart.fact1}[; {apart.fact2}].",
            "Only the first has {apart.draw1}. | Only the second has {apart.draw2}.",
        ),
        (
            "{apart.fact1}. | Only one of them offers {apart.draw}.",
            "{both.line}.",
            "{apart.fact2}.",
            "The second alone turns to {apart.theme2}. | The first alone turns to {apart.theme1}.",
        ),
        (
            "{apart.moods}. | {both.line}.",
            "{apart.fact1}. | One adds {apart.draw}.",
            "{apart.fact2}.",
        ),
        (
            "The first film is {a 1.card}[ with {apart.draw1}], the second {both.next}[ with {apart.draw2}].",
            "{apart.fact1}.",
            "{apart.fact2}.",
        ),
        (
            "Side by side stand {both.two}.",
            "{apart.fact1}[, and {apart.fact2}].",
            "The first leans towards {apart.theme1}. | The second leans towards {apart.theme2}.",
            "The second prefers {apart.theme2}.",
        ),
    ),
    "common_with_nn": (
        (
            "{both.two} have {both.theme} in common. | {both.two} are neighbours.",
            "Each of them is {both.mood}. | The first is {1.mood}, the second {2.mood}.",
            "The pair {both.fact1}.",
        ),
        (
            "The shared ground is {both.kinds}: {both.line}. | The shared ground is narrow: {both.line}.",
            "The films {both.fact1}[ and {both.fact2}].",
            "Their theme is {both.theme}.",
        ),
        (
            "{a both.mood} spirit runs through {both.two}. | Something links {both.two}.",
            "In both we find {both.setting}. | Both {both.fact2}.",
            "Besides, they {both.fact1}.",
        ),
        (
            "{both.line}; what links them is {both.theme}. | {both.line}.",
            "They {both.fact1}[ and {both.fact2}].",
        ),
        (
            "They {both.fact1}, these two: {both.two}. | Here are {both.two}.",
            "In common they have {both.setting}. | They {both.fact2}.",
            "Both deal with {both.theme}.",
        ),
    ),
}
