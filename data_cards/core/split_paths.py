"""Paths with spaces that were given without quotes, so that the shell split them into several words."""

import os
from collections.abc import Sequence

_MOST_WORDS = 8  # of one path: more would be slow with thousands of words


def format_split_paths(words: Sequence[str]) -> list[str]:
    """Format a question about each path that neighbouring words name together, if one of them alone does not exist."""
    return list(find_split_paths(words).values())


def find_split_paths(words: Sequence[str]) -> dict[int, str]:
    """Format the same questions, each by the number of its first word that does not exist alone."""
    exists = [os.path.lexists(word) for word in words]
    questions, start = {}, 0
    while start < len(words):
        longest = 1
        for count in range(min(_MOST_WORDS, len(words) - start), 1, -1):
            end = start + count
            if not all(exists[start:end]) and os.path.lexists(" ".join(words[start:end])):
                absent = exists.index(False, start)
                questions[absent] = f'did you mean "{" ".join(words[start:end])}"? Quote a path with spaces'
                longest = count
                break
        start += longest
    return questions
