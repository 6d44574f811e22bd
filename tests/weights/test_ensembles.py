"""Names joined by +: which files they mean, the card of all of them, and what is refused before torch is imported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from usepcli.errors import InputNotFound, UsageError
from usepcli.models.ensemble import Ensemble
from usepcli.separator.separator import Separator
from usepcli.weights import build, cards, ensembles, reach, store


def saved(path: Path, rate: int = 8000, licence: str = "", seed: int = 0, **options: object) -> Path:
    torch.manual_seed(seed)
    model = build.model({"name": "convtasnet", "preset": "tiny", "sample_rate": rate, **options})
    card = cards.Card(
        name=path.stem, about=f"the model {path.stem}", model=model.config, sample_rate=rate, n_src=model.n_src,
        licence=licence, cost=build.cost_of(model),
    )  # fmt: skip
    store.save_model(path, model.state_dict(), card)
    return path


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    saved(tmp_path / "models/one.safetensors", licence="CC0")
    saved(tmp_path / "models/two.safetensors", 16000, "CC BY-NC 4.0", seed=1)
    return tmp_path


def test_a_name_is_one_model(pair: Path) -> None:
    meant = ensembles.find("one")
    assert [member.ref for member in meant.members] == ["one"]
    assert meant.card == cards.read_card(Path("models/one.safetensors"))[0]


def test_names_and_paths_are_joined(pair: Path) -> None:
    meant = ensembles.find("one+models/two.safetensors")
    one, two = (cards.read_card(Path(f"models/{name}.safetensors")) for name in ("one", "two"))
    assert meant.sha256 == f"{one[1]}+{two[1]}" and ensembles.find(meant.path).sha256 == meant.sha256
    assert (meant.card.name, meant.card.sample_rate, meant.card.n_src) == ("one+two", 16000, 2)
    assert meant.card.licence == "one: CC0; two: CC BY-NC 4.0" and cards.barred(meant.card)
    assert cards.Card.from_json(meant.card.to_json()) == meant.card
    told, costs = cards.cost(meant.card), [cards.cost(card) for card in (one[0], two[0])]
    assert told is not None and told.flops_per_second == pytest.approx(sum(cost.flops_per_second for cost in costs))
    model, card = store.load_any("one+two")
    assert isinstance(model, Ensemble) and card == meant.card
    assert (model.receptive_field_samples, model.sample_rate) == (told.receptive_field_samples, card.sample_rate)
    assert model.flops_per_second() == pytest.approx(told.flops_per_second)
    said = ensembles.purpose("one+two", lambda ref, card: [f"{ref} {card.licence}"])
    assert said == ["one CC0", "two CC BY-NC 4.0"]


def test_outputs_that_a_training_named_are_found_by_their_names(pair: Path) -> None:
    """Two models of one kind beside noise: the cards name their outputs, the second has them the other way round."""
    for name, seed, kinds in (("near", 3, ["speech", "rain"]), ("far", 4, ["rain", "speech"])):
        path = saved(pair / f"models/{name}.safetensors", seed=seed)
        card = cards.read_card(path)[0]
        card.objective, card.profile = "fixed", {"objective": {"name": "fixed", "kinds": kinds}}
        path.write_bytes(cards.with_card(path.read_bytes(), card))
    near, far, both = (Separator.load(name) for name in ("near", "far", "near+far"))
    assert both.names() == ensembles.find("near+far").card.sources == ("speech", "rain") and far.names() == (
        "rain",
        "speech",
    )
    wave = 0.1 * np.random.default_rng(0).standard_normal((1, 4000)).astype(np.float32)
    expected = (near.rows(wave) + far.rows(wave)[:, ::-1]) / 2
    assert np.abs(both.rows(wave) - expected).max() < 1e-6


def test_a_file_whose_name_holds_a_plus_is_one_model(pair: Path) -> None:
    saved(pair / "models/one+two.safetensors", seed=2)
    assert [path.name for _, path in reach.find_models("one+two")] == ["one+two.safetensors"]
    assert len(reach.find_models("models/one+two.safetensors")) == 1


def test_what_is_refused(pair: Path) -> None:
    saved(pair / "models/three.safetensors", n_src=3)
    for joined, said in (
        ("one+three", "one gives 2 outputs, three 3 outputs; models joined by [+] have the same outputs"),
        ("one+one", "one is joined to itself"),
        ("one+", "expected names or files with one [+] between each two"),
    ):
        with pytest.raises(UsageError, match=said):
            ensembles.find(joined)
    with pytest.raises(InputNotFound, match="unknown model 'four'"):
        ensembles.find("one+four")
    with pytest.raises(InputNotFound, match=r"'one\+two': one model is needed here"):
        reach.find_model("one+two")


def test_models_by_query_cannot_be_joined(pair: Path) -> None:
    model = build.model({"name": "cond_unet", "preset": "tiny", "classes": ["dog", "rain"]})
    card = cards.Card(name="asked", model=model.config, sample_rate=model.sample_rate)
    store.save_model(pair / "models/asked.safetensors", model.state_dict(), card)
    with pytest.raises(UsageError, match="asked separates what it is asked for, and only models with outputs of their"):
        ensembles.find("one+asked")
