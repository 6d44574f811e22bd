"""A tagger joined with a sentence encoder: its padding, its patches, what it is known by, and folders that are none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from usepcli.encoders.tagger import TaggerJudge, Tower
from usepcli.errors import BadInput, ConfigError, InputNotFound


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, encoder_makers) -> Path:  # type: ignore[no-untyped-def]
    return encoder_makers.tagger_folder(tmp_path_factory.mktemp("tagger"))


def test_stride_two_sees_no_place_before_the_first() -> None:
    tower = Tower([3, 5], [2, 1])
    patches = torch.randn(2, 1, 12, 8)
    first, alone, place = tower
    found = F.conv2d(F.pad(patches, (0, 1, 0, 1)), first.weight, first.bias, 2).relu()  # (2, 3, 6, 4)
    found = F.conv2d(found, alone.weight, alone.bias, padding=1, groups=3).relu()
    found = F.conv2d(found, place.weight, place.bias).relu()
    torch.testing.assert_close(tower(patches), found.mean((2, 3)))


def test_patches_follow_each_other_and_the_last_one_ends_in_silence(folder: Path) -> None:
    judge = TaggerJudge(str(folder))
    patch = 200 + 80 * 23  # samples of 24 frames; the next one begins 12 frames later
    waves = torch.randn(1, patch + 1)
    torch.testing.assert_close(judge.hear(waves), judge.hear(F.pad(waves, (0, 12 * 80 - 1))))
    torch.testing.assert_close(judge.hear(waves[:, :50]), judge.hear(F.pad(waves[:, :50], (0, patch - 50))))
    two = [judge.tower(judge.mel(F.pad(waves, (0, 959))[:, at : at + patch])[:, None])[0] for at in (0, 960)]
    both = torch.stack(two)
    expected = F.linear(torch.cat([both.mean(0), both.amax(0)]), judge.weight, judge.bias)
    torch.testing.assert_close(judge.hear(waves)[0], expected / expected.norm(), atol=1e-5, rtol=0)


def test_the_gradient_reaches_every_sample_at_any_rate(folder: Path) -> None:
    judge = TaggerJudge(str(folder))
    wave = torch.randn(1, 5003, requires_grad=True)
    judge.hear(wave, 11025)[0, 0].backward()
    assert wave.grad is not None and (wave.grad != 0).float().mean() > 0.99


def test_it_is_known_by_its_text_side_too(folder: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(folder, tmp_path / "own"))
    before = TaggerJudge(str(own)).sha256
    assert before == TaggerJudge(str(folder)).sha256
    settings = own / "text" / "config.json"
    settings.write_text(settings.read_text("utf-8") + "\n", "utf-8")
    with pytest.raises(BadInput, match="bring the former folder back"):
        TaggerJudge(str(own), before)


def test_what_is_no_tagger_is_one_line(folder: Path, tmp_path: Path) -> None:
    for path, kind in ((tmp_path / "none", InputNotFound), (tmp_path, BadInput), (Path(__file__), BadInput)):
        with pytest.raises(kind, match=r"expected a folder with tagger\.json, tower\.safetensors, map\.safetensors"):
            TaggerJudge(str(path))
    with pytest.raises(ConfigError, match=r"objective\.judge_path: empty"):
        TaggerJudge()
    own = Path(shutil.copytree(folder, tmp_path / "own"))
    told = json.loads((own / "tagger.json").read_text("utf-8"))
    for change, said in (
        ({"widths": [4, 7]}, "size mismatch"), ({"scale": 0}, "above 0"), ({"patch": {}}, "frames"),
        ({"front_end": 3}, "no tagger that can be opened"),
    ):  # fmt: skip
        (own / "tagger.json").write_text(json.dumps(told | change))
        with pytest.raises(BadInput, match=said) as raised:
            TaggerJudge(str(own))
        assert "\n" not in str(raised.value)
    (own / "tagger.json").write_text(json.dumps(told | {"text": "none"}))
    with pytest.raises(InputNotFound, match="none: no such folder"):
        TaggerJudge(str(own))
    (own / "tagger.json").write_text(json.dumps(told))
    save_file({"weight": torch.ones(3, 12), "bias": torch.ones(3), "centre": torch.ones(3)}, own / "map.safetensors")
    with pytest.raises(BadInput, match=r"leads to 3 numbers, and .*text gives 16"):
        TaggerJudge(str(own))
    save_file({"bias": torch.ones(3), "other": torch.ones(3)}, own / "map.safetensors")
    with pytest.raises(BadInput, match=r"map\.safetensors: bias, other; expected weight, bias, centre"):
        TaggerJudge(str(own))
