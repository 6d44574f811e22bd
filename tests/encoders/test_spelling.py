"""Words by their spelling: what looks alike shares pieces, and any script is read."""

from __future__ import annotations

import pytest
import torch

from usepcli.encoders.spelling import BUCKETS, Spelling, pieces
from usepcli.errors import ConfigError


def test_pieces_are_those_of_the_marked_word() -> None:
    assert len(pieces("dog")) == len(["<dog>", "<do", "dog", "og>", "<dog", "dog>"])
    assert all(0 <= place < BUCKETS for place in pieces("woodpecker"))
    shared = set(pieces("barking")) & set(pieces("barks"))
    assert len(shared) >= len(["<ba", "bar", "ark", "<bar", "bark", "<bark"])
    assert not set(pieces("rain")) & set(pieces("dog"))


def test_the_whole_is_the_mean_of_words_and_case_does_not_matter() -> None:
    made = Spelling(token_dim=4)
    tokens, mask, whole = made.encode(["A dog  barks", "a", "\N{DOG FACE}"])
    assert mask.sum(1).tolist() == [3, 1, 1] and tokens.isfinite().all()
    torch.testing.assert_close(whole[0], tokens[0].mean(0))
    torch.testing.assert_close(tokens[1, 0], tokens[0, 0])
    torch.testing.assert_close(made.encode(["barks"]).pooled[0], tokens[0, 2])


def test_one_width_for_both() -> None:
    with pytest.raises(ConfigError, match=r"model\.emb_dim: found 6, and conditioner spelling gives 4"):
        Spelling(token_dim=4, pooled_dim=6)
