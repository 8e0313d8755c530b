"""Words for the parts of a detector: its experts and its network."""

from train.model.detector import NETWORK_PART

# Keys are those of `Judgement.parts`.
PART_WORDS = {
    "light": "light and content",
    "colour": "colours",
    "harmonics": "regular patterns in brightness",
    "tints": "regular patterns in colour",
    "comb": "periodic grid",
    NETWORK_PART: "network",
}
