"""Captions as phrases: the paper's examples, what must stay whole, prompts, and a fixed number with weights."""

import sys

import numpy as np
import pytest

from usepcli.data.manifest import Phrase
from usepcli.data.phrases import fixed, phrases, template
from usepcli.errors import BadInput, InputNotFound, MissingDependency


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        (
            "A young female speaks, followed by spraying and a female screaming",
            ["A young female speaks", "Spraying", "A female screaming"],
        ),
        (
            "Motor noise is followed by a horn honking and a siren wailing",
            ["Motor noise", "A horn honking", "A siren wailing"],
        ),
        (
            "Rustling occurs, ducks quack and water splashes, followed by an adult female and adult male speaking and "
            "duck calls being blown",
            [
                "Rustling",
                "Ducks quack",
                "Water splashes",
                "An adult female and adult male speaking",
                "Duck calls being blown",
            ],
        ),
        (
            "An audience gives applause as a man yells and a group sings",
            ["An audience gives applause", "A man yells", "A group sings"],
        ),
        ("A man speaks over intermittent keyboard taps", ["A man speaks", "Intermittent keyboard taps"]),
        ("An airplane engine runs", ["An airplane engine runs"]),
    ],
)
def test_captions_of_the_papers_table_3(caption, expected):
    assert phrases(caption) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a guitar and a piano", ["A guitar", "A piano"]),
        ("thunder, rain and wind", ["Thunder", "Rain", "Wind"]),
        ("pots and pans clanging", ["Pots and pans clanging"]),
        ("rock and roll music", ["Rock and roll music"]),
        ("A man talks loudly and clearly, with birds in the distance", ["A man talks loudly and clearly", "Birds"]),
        ("A dog is barking, then it stops. A car passes by nearby", ["A dog is barking", "A car passes by"]),
        ("rain, Rain,  the rain", ["Rain"]),
        ("The sound mixture of guitar, piano, and violin", ["Guitar", "Piano", "Violin"]),
        ("a crowd of 1,000 people cheering", ["A crowd of 1,000 people cheering"]),
        ("a dog barking", ["A dog barking"]),
    ],
)
def test_an_and_cuts_between_events_and_not_inside_one(caption, expected):
    assert phrases(caption) == expected


@pytest.mark.parametrize(
    "caption",
    ["Ein Hund bellt und ein Mann spricht", "Un perro ladra, un gato", "犬が吠える、雨", "🐶, rain", ",,,", "and then"],
)
def test_other_languages_pictures_and_captions_without_a_phrase_stay_whole(caption):
    assert phrases(caption) == [caption]


def test_an_empty_caption_has_no_phrase():
    assert phrases("  \n") == []


def test_what_the_templates_make_comes_apart_again():
    assert template(["acoustic_guitar"]) == "The sound of acoustic guitar"
    assert template(["guitar", "piano"]) == "The sound mixture of guitar and piano"
    assert template(["a", "b", "c", "d"]) == "The sound mixture of a, b, c, and d"
    names = ["Accordion", "Cello", "Flute", "Tuba"]
    assert all(phrases(template(names[:k])) == names[:k] for k in (1, 2, 3, 4))
    with pytest.raises(BadInput, match="none of them empty"):
        template(["guitar", " "])


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_of_few_phrases_some_come_again_and_weigh_one_together(count):
    found = [Phrase("rain"), Phrase("a dog", 0.25), Phrase("wind", 0.5), Phrase("a dog", 0.75), Phrase("wind", 0.5)]
    chosen = fixed(found, count, np.random.default_rng(4))
    assert len(chosen.phrases) == count and chosen == fixed(found, count, np.random.default_rng(4))
    weights = {text: sum(p.weight for p in chosen.phrases if p.text == text) for text in ("rain", "a dog", "wind")}
    assert chosen.incomplete == (count < 3)
    if chosen.incomplete:
        assert all(p.weight == 1 for p in chosen.phrases) and len({p.text for p in chosen.phrases}) == count
    else:
        assert weights == pytest.approx(dict.fromkeys(weights, 1.0))


def test_the_seed_chooses_the_phrases():
    found = [Phrase(f"sound {k}") for k in range(9)]
    assert len({fixed(found, 2, np.random.default_rng(seed)).phrases for seed in range(20)}) > 10


def test_spacy_is_asked_for_by_path(tmp_path, monkeypatch):
    with pytest.raises(InputNotFound, match="spaCy model"):
        phrases("a dog barks", spacy=str(tmp_path / "none"))
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(MissingDependency, match="pip install spacy"):
        phrases("a dog barks", spacy=str(tmp_path))
