"""Pairs of mixtures that have nothing in common."""

from usepcli.data.partners import partners


def test_partners_share_no_phrase_and_those_without_one_are_left_out() -> None:
    words = [frozenset(x.split()) for x in ("dog", "dog", "cat rain", "rain", "dog rain")]
    assert partners(words, [0, 1, 2, 3, 4]) == [(0, 2), (1, 3)]
    assert partners(words[:2], [1, 0]) == []
    pairs = partners([frozenset([str(k)]) for k in range(8)], [3, 1, 0, 2, 7, 6, 5, 4])
    assert sorted(k for pair in pairs for k in pair) == list(range(8))
