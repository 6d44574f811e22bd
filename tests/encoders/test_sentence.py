"""Sentence encoders by path: what pools, what is refused, and that a stored model asks for the folder when due."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from usepcli.encoders.sentence import Sentence, pooled
from usepcli.errors import BadInput, ConfigError, InputNotFound
from usepcli.models.cond_unet import CondUNet
from usepcli.models.fixed import Fixed
from usepcli.weights import build, fitting


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, encoder_makers) -> Path:  # type: ignore[no-untyped-def]
    return encoder_makers.sentence_folder(tmp_path_factory.mktemp("sentence"))


def test_pooling_is_the_mean_of_words_or_the_first() -> None:
    hidden = torch.tensor([[[3.0, 0], [1, 8], [9, 9]]])
    mask = torch.tensor([[True, True, False]])
    assert torch.equal(pooled(hidden, mask, "mean", False), torch.tensor([[2.0, 4.0]]))
    assert torch.equal(pooled(hidden, mask, "first", True), torch.tensor([[1.0, 0.0]]))


def test_tokens_are_the_states_of_the_words_and_the_whole_has_unit_norm(folder: Path) -> None:
    made = Sentence(str(folder))
    tokens, mask, whole = made.encode(["glass", "a dog barks"])
    assert mask.sum(1).tolist() == [3, 5] and tokens.shape == (2, 5, 16)  # with a mark at either end
    torch.testing.assert_close(whole.norm(dim=-1), torch.ones(2))
    mean = tokens[1].mean(0)
    torch.testing.assert_close(whole[1], mean / mean.norm())


def test_a_model_stores_no_encoder_and_opens_it_at_the_first_query(folder: Path, tmp_path: Path) -> None:
    made = build.model(
        {"name": "cond_unet", "preset": "tiny", "conditioner": "sentence", "conditioner_path": str(folder)}
    )
    assert isinstance(made, CondUNet) and isinstance(made.conditioner, Fixed)
    assert not [key for key in made.state_dict() if key.startswith("conditioner")]
    settings = build.config_of(made)
    assert (settings["cond_dim"], settings["emb_dim"]) == (16, 16) and made.conditioner.sha256
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    again = fitting.model({**settings, "conditioner_path": str(tmp_path / "not yet")}, made.state_dict(), "f")
    with pytest.raises(InputNotFound, match="not yet: no such folder"):
        again.bound(["glass"])
    again = fitting.model({**settings, "conditioner_path": str(moved)}, made.state_dict(), "f")
    mix = torch.randn(1, 500)
    torch.testing.assert_close(again.bound(["glass"])(mix), made.eval().bound(["glass"])(mix))
    (moved / "config.json").write_text((moved / "config.json").read_text() + "\n")
    other = fitting.model({**settings, "conditioner_path": str(moved)}, made.state_dict(), "f")
    with pytest.raises(BadInput, match="the model was trained with"):
        other.bound(["glass"])
    with pytest.raises(ConfigError, match=r"model\.cond_dim: found 768, and .* gives 16 numbers"):
        Sentence(str(folder), token_dim=768)
    with pytest.raises(ConfigError, match=r"model\.mask_padding: false"):
        CondUNet(conditioner="sentence", conditioner_path=str(folder), mask_padding=False)


def test_a_path_that_is_no_encoder_names_the_files(tmp_path: Path) -> None:
    for path, kind in ((tmp_path / "none", InputNotFound), (tmp_path, BadInput), (Path(__file__), BadInput)):
        with pytest.raises(kind, match=r"config\.json, tokenizer\.json .*model\.safetensors"):
            Sentence(str(path))
    with pytest.raises(ConfigError, match=r"model\.conditioner_path: empty"):
        Sentence()


def test_files_of_the_right_names_and_wrong_content(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(BadInput, match="no sentence encoder that can be opened") as raised:
        Sentence(str(tmp_path))
    assert "\n" not in str(raised.value)


def test_no_code_of_a_folder_is_run_and_nobody_is_asked(folder: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(folder, tmp_path / "own"))
    (own / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    settings = json.loads((own / "config.json").read_text("utf-8"))
    settings |= {"model_type": "of_its_own", "auto_map": {"AutoConfig": "code.Own", "AutoModel": "code.Own"}}
    (own / "config.json").write_text(json.dumps(settings), "utf-8")
    with pytest.raises(BadInput, match="no sentence encoder that can be opened"):
        Sentence(str(own))
    assert not (tmp_path / "ran").exists()
