"""Word errors: counts that a reader can check, and the textbook recursion."""

from __future__ import annotations

import math
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usepcli.metrics.wer import Counts, align, pool, wer, words

LISTS = st.lists(st.sampled_from("abc"), max_size=7)


@pytest.mark.parametrize(
    ("hypothesis", "reference", "counts"),
    [
        ("the cat sat", "the cat sat", (0, 0, 0, 3)),
        ("the bat sat", "the cat sat", (1, 0, 0, 3)),
        ("the sat", "the cat sat", (0, 1, 0, 3)),
        ("the fat cat sat", "the cat sat", (0, 0, 1, 3)),
        ("", "the cat sat", (0, 3, 0, 3)),
        ("the cat", "", (0, 0, 2, 0)),
        ("b c", "a b", (2, 0, 0, 2)),  # or one deletion and one insertion: substitutions are preferred
        ("a x c y", "a b c d e", (2, 1, 0, 5)),
    ],
)
def test_counts(hypothesis: str, reference: str, counts: tuple[int, ...]) -> None:
    assert align(hypothesis.split(), reference.split()) == Counts(*counts)


@given(LISTS, LISTS)
def test_errors_are_the_edit_distance(hypothesis: list[str], reference: list[str]) -> None:
    @cache
    def distance(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        swap = distance(i - 1, j - 1) + (hypothesis[i - 1] != reference[j - 1])
        return min(swap, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    found = align(hypothesis, reference)
    heard, said = len(hypothesis), len(reference)
    assert (found.errors, found[3]) == (distance(heard, said), said)
    assert found.D + heard == found.I + said and min(found) >= 0


@given(LISTS, LISTS)
def test_deletions_and_insertions_change_places(hypothesis: list[str], reference: list[str]) -> None:
    there, back = align(hypothesis, reference), align(reference, hypothesis)
    assert there.errors == back.errors and there.D - there.I == back.I - back.D


def test_rates_are_pooled_over_words_not_over_utterances() -> None:
    """1 of 1 wrong and 0 of 3 wrong: 25 %, where the mean of the rates would be 50 %."""
    found = wer(["x", "one two three"], ["a", "one two three"])
    assert found == Counts(1, 0, 0, 4) and found.rate == 25
    assert pool([]) == Counts() and math.isnan(Counts().rate)
    with pytest.raises(ValueError, match="longer"):
        wer(["a"], ["a", "b"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The CAT, sat.\n", "the cat sat"),
        ("It's 5 o'clock - NOW!", "its 5 oclock now"),
        ("it’s", "its"),
        ("well-known,hyphen", "well known hyphen"),
        ("Größe 10 ﬁn", "größe 10 fin"),
        ("नमस्ते दुनिया", "नमस्ते दुनिया"),
        ("...", ""),
    ],
)
def test_normalisation(text: str, expected: str) -> None:
    assert words(text) == expected.split()
