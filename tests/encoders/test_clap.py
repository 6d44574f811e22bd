"""CLAP by path: either layout, the stock model's own answers, gradients, memory of phrases, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from usepcli.audio import io
from usepcli.dsp.logmel import filled
from usepcli.encoders import clap
from usepcli.encoders.clap import Clap, ClapJudge
from usepcli.errors import BadInput, ConfigError, InputNotFound
from usepcli.models.cond_unet import CondUNet
from usepcli.separator.how import USUAL
from usepcli.separator.separator import Separator


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, encoder_makers) -> tuple[Path, Path]:  # type: ignore[no-untyped-def]
    made = [tmp_path_factory.mktemp(name) for name in ("v4", "v5")]
    return encoder_makers.clap_folder(made[0], parts=True), encoder_makers.clap_folder(made[1])


def test_both_layouts_answer_as_the_stock_model_does(folders: tuple[Path, Path]) -> None:
    transformers = pytest.importorskip("transformers")
    stock = transformers.ClapModel.from_pretrained(str(folders[1]), local_files_only=True).eval()
    ears = transformers.ClapFeatureExtractor(**clap.front_end(folders[1]))
    waves = 0.1 * torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        given = ears(list(waves.numpy()), sampling_rate=8000, return_tensors="pt")
        found = stock.get_audio_features(input_features=given["input_features"])
        expected = getattr(found, "pooler_output", found)
        for folder in folders:
            judge = ClapJudge(str(folder))
            heard = judge.hear(waves)
            torch.testing.assert_close(heard, expected / expected.norm(dim=-1, keepdim=True), atol=1e-4, rtol=0)
            assert judge.scale == pytest.approx(float(stock.logit_scale_a.exp()))
            tokens, mask, pooled = Clap(str(folder)).encode(["glass"])
            assert tokens.shape == (1, 77, 16) and 2 < mask.sum() < 77
            torch.testing.assert_close(pooled, judge.read(["glass"]))


def test_a_clip_is_repeated_at_its_own_rate_and_its_gradient_reaches_it(folders: tuple[Path, Path]) -> None:
    judge = ClapJudge(str(folders[0]))
    wave = torch.randn(1, 3000, requires_grad=True)
    torch.testing.assert_close(judge.hear(wave), judge.hear(filled(wave, 8000)))
    judge.hear(wave, 11025)[0, 0].backward()
    judge.hear(wave, 11025)
    assert wave.grad is not None and (wave.grad != 0).float().mean() > 0.99 and list(judge._resamplers) == [11025]
    assert all(p.grad is None for p in judge.parameters())


def test_a_model_is_asked_by_a_clip(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """What the clip sounds like is the whole of its condition, beside words that name nothing; and it is stored so."""
    net = CondUNet(**CondUNet.PRESETS["tiny"], conditioner="clap", conditioner_path=str(folders[0]))
    wave = 0.1 * torch.randn(2, 6000, generator=torch.Generator().manual_seed(0))
    io.write(tmp_path / "clip.wav", wave.numpy(), 16000, "FLOAT")
    asked = Separator(net).ask(["rain", tmp_path / "clip.wav", "glass"])
    assert asked.queries == ("rain", "like clip", "glass") and asked.names(USUAL) == ("1", "2", "3", "residual")
    tokens, mask, pooled = (part for _, part in asked.model.named_buffers() if part.shape[:2] == (1, 3))
    torch.testing.assert_close(pooled[0, 1:2], ClapJudge(str(folders[0])).hear(wave.mean(0)[None], 16000))
    said = net.words.encode(["rain", "a sound", "glass"])
    torch.testing.assert_close(tokens[0], said.tokens)
    assert torch.equal(mask[0], said.mask) and torch.equal(pooled[0, [0, 2]], said.pooled[[0, 2]])
    mixture = torch.randn(4000, generator=torch.Generator().manual_seed(1))
    alone = Separator(net).ask([tmp_path / "clip.wav"])(mixture, 8000).sources[0]
    torch.testing.assert_close(asked(mixture, 8000).sources[1], alone, atol=1e-5, rtol=0)
    assert not any("ears" in name or "network" in name for name in net.state_dict())
    sizes = {**CondUNet.PRESETS["tiny"], "condition_head": "none"}
    deaf = CondUNet(**sizes, conditioner="clap", conditioner_path=str(folders[0]))
    with pytest.raises(BadInput, match="condition_head none: an example reaches nothing"):
        Separator(deaf).ask([tmp_path / "clip.wav"])


def test_a_phrase_is_read_once(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    said = clap.said
    monkeypatch.setattr(clap, "said", lambda t, n, phrases: seen.extend(phrases) or said(t, n, phrases))
    for part in (Clap(str(folders[0])).encode, ClapJudge(str(folders[0])).read):
        seen.clear()
        part(["glass", "rain", "glass"])
        part(["rain"])
        assert seen == ["glass", "rain"]


def test_what_is_no_clap_is_one_line(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for made in (Clap, ClapJudge):
        for path, kind in ((tmp_path / "none", InputNotFound), (tmp_path, BadInput), (Path(__file__), BadInput)):
            with pytest.raises(kind, match=r"config\.json, model\.safetensors and tokenizer\.json"):
                made(str(path))
        with pytest.raises(ConfigError, match="_path: empty"):
            made()
        with pytest.raises(BadInput, match="the former"):
            made(str(folders[0]), sha256="0" * 64).read(["glass"])
    with pytest.raises(ConfigError, match=r"model\.cond_dim: found 768, and .* gives 16"):
        Clap(str(folders[0]), token_dim=768)
    for name, text in (("model.safetensors", "x"), ("tokenizer.json", "{}"), ("config.json", '{"model_type": "bert"}')):
        (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match="model_type bert, expected clap"):
        Clap(str(tmp_path))
    with pytest.raises(BadInput, match=r"expected preprocessor_config\.json or processor_config\.json"):
        ClapJudge(str(tmp_path))
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"truncation": "fusion", "max_length_s": 1, "sampling_rate": 8000})
    )
    with pytest.raises(BadInput, match="only unfused"):
        ClapJudge(str(tmp_path))


def test_a_tower_with_fewer_places_pads_to_these(tmp_path: Path, encoder_makers) -> None:  # type: ignore[no-untyped-def]
    made = Clap(str(encoder_makers.clap_folder(tmp_path, places=42)))
    tokens, mask, _ = made.encode(["glass " * 100, "rain"])
    assert made.length == 40 and tokens.shape[:2] == (2, 40) and mask[0].all() and not mask[1].all()


def test_a_front_end_of_another_tower_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    own = Path(shutil.copytree(folders[0], tmp_path / "own"))
    settings = own / "preprocessor_config.json"
    told = json.loads(settings.read_text("utf-8"))
    for change, said in (
        ({"nb_max_samples": 8000 * 3}, "151 frames of 32 bands, and the tower takes at most 128 of 32"),
        ({"feature_size": 16}, "51 frames of 16 bands"),
    ):
        settings.write_text(json.dumps(told | change))
        with pytest.raises(BadInput, match=said):
            ClapJudge(str(own))


def test_another_tokenizer_is_another_clap(folders: tuple[Path, Path], tmp_path: Path) -> None:
    own = Path(shutil.copytree(folders[0], tmp_path / "own"))
    before = Clap(str(own)).sha256
    settings = own / "tokenizer_config.json"
    settings.write_text(settings.read_text("utf-8") + " ", "utf-8")
    assert Clap(str(own)).sha256 != before
    with pytest.raises(BadInput, match="was trained with"):
        Clap(str(own), token_dim=0, pooled_dim=0, sha256=before).encode(["a dog barks"])
