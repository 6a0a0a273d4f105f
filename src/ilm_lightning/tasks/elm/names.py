"""Names of the 24 tasks, in the order of the paper's tables.

The paper prints 23 rows and speaks of 24 tasks; `negative_review` as the 24th is an inference.
"""

TASKS = (
    "summary",
    "positive_review",
    "negative_review",
    "neutral_review",
    "five_positive_characteristics",
    "five_negative_characteristics",
    "long_description",
    "funnier",
    "sadder",
    "scarier",
    "improve",
    "movie_to_viewer",
    "pitch",
    "criticize",
    "convince1",
    "convince2",
    "convince3",
    "dissuade1",
    "dissuade2",
    "similarities",
    "interpolation",
    "why_like_nn",
    "diff_than_nn",
    "common_with_nn",
)
INTERPOLATION = "interpolation"
# The second movie is the nearest neighbour of the first; elsewhere among pairs it is a random one.
NEIGHBOUR_TASKS = ("why_like_nn", "diff_than_nn", "common_with_nn")
PAIR_TASKS = ("similarities", INTERPOLATION, *NEIGHBOUR_TASKS)
# Interpolation shows one slot that holds the mean of two vectors.
TWO_SLOT_TASKS = ("similarities", *NEIGHBOUR_TASKS)
