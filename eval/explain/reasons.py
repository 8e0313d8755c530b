"""Words for the reasons of "unsure", by the values of `eval.verdict.decide.Reason`, and which make a score invalid."""

# With these reasons, a score is not a probability: the detector was not tested on such pictures, or failed the tests.
INVALID_SCORE = frozenset(
    {"small", "blank", "grey", "few_levels", "far", "contradicted", "untried", "unproven", "may_be_damaged"}
)

REASON_WORDS = {
    "in_band": "score not clear enough",
    "flips": "changes after {flips}",
    "frames_disagree": "frames contradict each other",
    "may_be_damaged": "large areas of one value, perhaps damage",
    "small": "too small",
    "blank": "hardly any contrast",
    "grey": "too little colour",
    "few_levels": "few levels: very dark or posterised",
    "far": "unlike the training pictures",
    "contradicted": "experts contradict each other",
    "untried": "not tested on other sources",
    "unproven": "tests too small, or classes not separated in them",
}
