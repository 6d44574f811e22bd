"""Phrases by the words in them: which are heard, endings, unknown ones, and a model that is stored with its words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from usepcli.encoders.lexicon import Lexicon, forms
from usepcli.encoders.vectors import vectors_of
from usepcli.errors import BadInput, ConfigError
from usepcli.losses.magnitude import MagnitudeL1
from usepcli.objectives.weak_sup import WeakSup
from usepcli.weights import build

VECTORS = "5 2\ndog 3 4\nbark 0 2\nhum 1 1\nsiren -1 0\nvoice -2 0\n"


@pytest.fixture
def words(tmp_path: Path) -> Path:
    (tmp_path / "words.vec").write_text(VECTORS)
    return tmp_path / "words.vec"


def test_a_phrase_is_the_words_that_are_known(words: Path) -> None:
    made = Lexicon(str(words))
    tokens, mask, pooled = made.encode(["The sound of a DOG, barking!", "siren"])
    assert mask.tolist() == [[True, True], [True, False]]
    assert torch.equal(tokens, torch.tensor([[[3.0, 4], [0, 2]], [[-1, 0], [0, 0]]]))
    # (3, 4) + (0, 2) = (3, 6), whose norm is sqrt(45)
    torch.testing.assert_close(pooled, torch.tensor([[3 / 45**0.5, 6 / 45**0.5], [-1.0, 0]]))
    assert made.known("a barking dog near a window") == ["bark", "dog"]


@pytest.mark.parametrize(
    ("said", "heard"),
    [("dogs", "dog"), ("dog's", "dog"), ("humming", "hum"), ("barked", "bark"), ("voices", "voice"),
     ("Sirens", "siren")],
)  # fmt: skip
def test_words_are_heard_without_their_endings(words: Path, said: str, heard: str) -> None:
    assert Lexicon(str(words)).known(f"some {said}") == [heard]


def test_a_word_comes_before_what_its_ending_leaves_of_it() -> None:
    assert next(forms("glass")) == "glass" and list(forms("is")) == ["is"]
    assert "carry" in forms("carries") and "stop" in forms("stopped")


@pytest.mark.parametrize("query", ["an accordion", "犬が吠える", "🐕", "x" * 900])
def test_a_phrase_without_a_known_word_is_one_line(words: Path, query: str) -> None:
    with pytest.raises(BadInput, match=r"none of its words is among the 5 that this model knows") as raised:
        Lexicon(str(words)).encode(["a dog", query])
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300


def test_words_are_no_closed_list(words: Path) -> None:
    model = build.model(
        {"name": "cond_unet", "preset": "tiny", "conditioner": "lexicon", "conditioner_path": str(words)}
    )
    assert model.classes == () and len(model.settled()["classes"]) == 5
    with pytest.raises(ConfigError, match=r"objective\.classes: empty, and the model has no closed list"):
        WeakSup(model, MagnitudeL1(), classifier=0)


def test_a_line_of_another_length_is_told(tmp_path: Path) -> None:
    (tmp_path / "w.vec").write_text("dog 1 2\ncat 1\n")
    with pytest.raises(BadInput, match="'cat': 1 numbers; expected 2"):
        vectors_of(tmp_path / "w.vec")


def test_a_model_holds_its_words(words: Path) -> None:
    made = build.model(
        {"name": "cond_unet", "preset": "tiny", "conditioner": "lexicon", "conditioner_path": str(words)}
    )
    again = build.model({**build.config_of(made), "conditioner_path": "gone.vec"})
    again.load_state_dict(made.state_dict())
    mix = torch.randn(1, 2000, generator=torch.Generator().manual_seed(0))
    one, other = (model.eval().bound(["dogs", "a humming voice"])(mix) for model in (made, again))
    assert torch.equal(one, other) and not torch.equal(one[:, 0], one[:, 1])
