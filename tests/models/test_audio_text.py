"""A model of sounds and words: by path as judge and conditioner, with frozen towers, and what is no such model."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from usepcli.errors import BadInput, ConfigError, InputNotFound
from usepcli.models.audio_text import AudioText
from usepcli.models.audio_text_opened import AudioTextJudge, AudioTextWords
from usepcli.weights import build, cards, fitting, store


@pytest.fixture(scope="module")
def makers() -> ModuleType:
    where = Path(__file__).parents[1] / "encoders" / "makers.py"
    spec = importlib.util.spec_from_file_location("makers", where)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_judge_and_conditioner_are_the_model(makers: ModuleType, tmp_path: Path) -> None:
    folder = makers.audio_text_file(tmp_path)
    model, _ = store.load_any(folder / "best.safetensors")
    judge, words = AudioTextJudge(str(folder)), AudioTextWords(str(folder))
    waves = torch.randn(2, 3000)
    with torch.no_grad():
        assert torch.equal(judge.hear(waves), model.hear(waves))
        read = model.read(["a dog", "rain"])
    assert torch.equal(judge.read(["a dog", "rain"]), read) and judge.scale == pytest.approx(
        float(model.scale.detach())
    )
    assert torch.equal(words.encode(["a dog", "rain"]).pooled, read) and judge.sha256 == words.sha256
    assert torch.equal(words.hear(waves, 0).pooled, judge.hear(waves)) and judge.scale < model.most_scale


def test_a_separator_conditioned_by_it_stores_none_of_it(makers: ModuleType, tmp_path: Path) -> None:
    folder = makers.audio_text_file(tmp_path)
    made = build.model(
        {"name": "cond_unet", "preset": "tiny", "conditioner": "audio_text", "conditioner_path": str(folder)}
    )
    settings = build.config_of(made)
    assert not [key for key in made.state_dict() if key.startswith("conditioner")]
    assert settings["cond_dim"] == settings["emb_dim"] == 8
    again = fitting.model(settings, made.state_dict(), "f")
    mix = torch.randn(1, 500)
    torch.testing.assert_close(again.bound(["a dog"])(mix), made.eval().bound(["a dog"])(mix))
    makers.audio_text_file(tmp_path, hop=100)
    with pytest.raises(BadInput, match="was trained with"):
        fitting.model(settings, made.state_dict(), "f").bound(["a dog"])


def test_frozen_towers_by_path_are_stored_nowhere(makers: ModuleType, tmp_path: Path) -> None:
    tower, folder = tmp_path / "tower", tmp_path / "run"
    for one in (tower, folder):
        one.mkdir()
    makers.tagger_folder(tower)
    path = str(tower / "text")
    makers.audio_text_file(
        folder, conditioner="sentence", conditioner_path=path, tower="tagger", tower_path=str(tower), cond_dim=0,
        emb_dim=0,
    )  # fmt: skip
    judge = AudioTextJudge(str(folder))
    assert sum(p.numel() for p in judge.network.parameters()) < 2000
    wave = torch.randn(1, 4000, requires_grad=True)
    judge.hear(wave, 11025)[0, 0].backward()
    assert wave.grad is not None and wave.grad.abs().sum() > 0 and judge.read(["glass"]).shape == (1, 8)
    settings = tower / "text" / "config.json"
    settings.write_text(settings.read_text("utf-8") + "\n", "utf-8")
    with pytest.raises(BadInput, match="bring the former folder back"):
        AudioTextJudge(str(folder))


def test_what_is_no_such_model_is_one_line(makers: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("nothing of the kind")
    separator = tmp_path / "separator"
    separator.mkdir()
    made = build.model({"name": "conformer_mask", "preset": "tiny", "n_src": 2, "sample_rate": 8000})
    store.save_model(separator / "best.safetensors", made.state_dict(), cards.Card(model=build.config_of(made)))
    for part in (AudioTextJudge, AudioTextWords):
        for path, kind, said in (
            (tmp_path / "none", InputNotFound, "no such file or folder"), (tmp_path, BadInput, "no best.safetensors"),
            (tmp_path / "text.safetensors", BadInput, "no model audio_text"),
            (separator, BadInput, "a model conformer_mask"),
        ):  # fmt: skip
            with pytest.raises(kind, match=said) as raised:
                part(str(path))
            assert "\n" not in str(raised.value) and "small_clap" in str(raised.value)
        with pytest.raises(ConfigError, match="_path: empty"):
            part()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tower_path": "x"}, r"model\.tower: empty"), ({"tower": "tagger"}, r"model\.tower_path: empty"),
        ({"widths": ()}, r"model\.widths"), ({"dim": 0}, r"model\.dim"), ({"bands": 2}, r"model\.bands"),
        ({"most_scale": 0.0}, r"model\.most_scale"),
    ],
)  # fmt: skip
def test_settings_that_are_none(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        AudioText(**json.loads("{}"), **settings)  # type: ignore[arg-type]
