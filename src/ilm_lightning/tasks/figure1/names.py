"""Names of the tasks of the paper's Figure 1 and of ELM's user profiles, and what each of them reads."""

LONG_SUMMARY = "long_summary"
GENOME_TAGS = "genome_tags"
RATING = "rating"
NEXT_ITEM = "next_item"
USER_PROFILE = "user_profile"
FIGURE1_TASKS = (LONG_SUMMARY, GENOME_TAGS, RATING, NEXT_ITEM, USER_PROFILE)
# Examples are about a user: split by user, and the user's latest ratings are judged.
USER_TASKS = (RATING, NEXT_ITEM, USER_PROFILE)
# Read the values of ratings, or their order in time.
VALUE_TASKS = (RATING, USER_PROFILE)
TIMED_TASKS = (NEXT_ITEM,)
# A number or a title is no prose: semantic consistency would say nothing of it.
ANSWER_TASKS = (RATING, NEXT_ITEM)
# The prompt says more than which task it is, or an answer is chosen: another vector must be generated from anew.
OWN_PROMPT_TASKS = (LONG_SUMMARY, RATING, NEXT_ITEM)
