"""AudioSep: its text tower taken out of the checkpoint or found by path, asked on a real command line, and refusals.

Its separator beside the maker's: test_public.py.
"""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from usepcli.audio import io
from usepcli.cli.app import app
from usepcli.encoders.clap import Clap
from usepcli.engine.exchange import foreign
from usepcli.engine.exchange.foreign_parts import Stated
from usepcli.errors import BadInput, InputNotFound, OutputError, UsageError, UsepError
from usepcli.separator.separator import Separator

RUNNER = CliRunner()
NUMBERS = 12  # of a query in the stored network
_HERE = Path(__file__)
_DRAWN = runpy.run_path(str(_HERE.with_name("drawn.py")))
_PUBLIC = runpy.run_path(str(_HERE.with_name("test_public.py")))
_MAKERS = runpy.run_path(str(_HERE.parents[2] / "encoders" / "makers.py"))
QUERIES = ["a dog barks", "rain on a roof"]


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("USEP_MODELS", raising=False)
    monkeypatch.chdir(tmp_path)


def network() -> dict[str, Tensor]:
    """Return the state of the small separator, as the maker names it."""
    held: dict[str, Tensor] = next(iter(_PUBLIC["states"](_PUBLIC["told"]("audiosep")).values()))
    return held


def checkpoint(folder: Path, reads: dict[str, Tensor]) -> Path:
    """Write a folder as its makers lay it out."""
    facts = _PUBLIC["told"]("audiosep")
    made: Path = _PUBLIC["lay_out"](facts, {name: network() | reads for name in facts["layout"]}, folder)
    return made


def tower(numbers: int = NUMBERS, tokens: int = 300) -> dict[str, Tensor]:
    """Return the names and shapes of a text tower of one layer of 16 numbers, and of ears that nobody reads."""
    shapes: dict[str, tuple[int, ...]] = {
        "text_branch.embeddings.word_embeddings.weight": (tokens, 16),
        "text_branch.embeddings.position_embeddings.weight": (130, 16),
        "text_branch.embeddings.token_type_embeddings.weight": (1, 16),
        "text_projection.0.weight": (numbers, 16), "text_projection.0.bias": (numbers,),
        "text_projection.2.weight": (numbers, numbers), "text_projection.2.bias": (numbers,),
        "audio_branch.bn0.weight": (3,), "audio_projection.0.bias": (3,), "logit_scale_a": (1,),
    }  # fmt: skip
    layer = "text_branch.encoder.layer.0."
    dense = {"attention.self.query": (16, 16), "attention.self.key": (16, 16), "attention.self.value": (16, 16),
             "attention.output.dense": (16, 16), "intermediate.dense": (32, 16), "output.dense": (16, 32)}  # fmt: skip
    for name, shape in {**{layer + k: v for k, v in dense.items()}, "text_branch.pooler.dense": (16, 16)}.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in ("embeddings", "encoder.layer.0.attention.output", "encoder.layer.0.output"):
        shapes |= {f"text_branch.{name}.LayerNorm.{end}": (16,) for end in ("weight", "bias")}
    held = {
        f"query_encoder.model.{name}": _DRAWN["tensor"](name, shape, 1.0 if "LayerNorm.weight" in name else 0.0)
        for name, shape in shapes.items()
    }
    return held | {"query_encoder.model.text_branch.embeddings.position_ids": torch.arange(130)[None]}


def tokens(folder: Path, count: int = 300) -> Path:
    """Write a folder that names so many tokens, and no more."""
    folder.mkdir()
    vocabulary = {f"w{k}": k for k in range(count)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


def roberta(folder: Path) -> tuple[Path, int]:
    """Write the tokenizer of a small RoBERTa as the Hub has that of roberta-base; return how many tokens it knows."""
    pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    folder.mkdir()
    words = tokenizers.ByteLevelBPETokenizer()
    marks = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    words.train_from_iterator(QUERIES, vocab_size=290, special_tokens=marks)
    words.save_model(str(folder))
    words._tokenizer.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    words.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text('{"model_type": "roberta"}')
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 512}')
    return folder, words.get_vocab_size()


def said(reads: dict[str, Tensor], folder: Path, count: int) -> Tensor:
    """Return what the maker's encoder says of QUERIES: RoBERTa, two layers, unit norm, all filled up to 512 tokens."""
    transformers = pytest.importorskip("transformers")
    config = transformers.RobertaConfig(
        vocab_size=count, hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=32,
        max_position_embeddings=130, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1, bos_token_id=0,
        eos_token_id=2,
    )  # fmt: skip
    branch = transformers.RobertaModel(config).eval()
    projection = nn.Sequential(nn.Linear(16, NUMBERS), nn.ReLU(), nn.Linear(NUMBERS, NUMBERS))
    for name, part in (("text_branch", branch), ("text_projection", projection)):
        own = {k.removeprefix(f"query_encoder.model.{name}."): v for k, v in reads.items() if f".{name}." in k}
        part.load_state_dict({k: v for k, v in own.items() if not k.endswith("position_ids")})
    cut = transformers.RobertaTokenizer.from_pretrained(str(folder))
    given = cut(QUERIES, padding="max_length", truncation=True, max_length=128, return_tensors="pt")
    with torch.no_grad():
        found = projection(branch(given["input_ids"], attention_mask=given["attention_mask"]).pooler_output)
    return found / found.norm(dim=-1, keepdim=True)


def run(*words: str) -> Any:
    done = RUNNER.invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done


def test_pulled_with_its_own_tower_it_is_asked_by_name(tmp_path: Path) -> None:
    words, count = roberta(tmp_path / "roberta-base")
    reads = tower(tokens=count)
    checkpoint(tmp_path / "AudioSep", reads)
    done = run("pull", "./AudioSep", "--text-encoder", "roberta-base", "--licence", "unknown", "--json")
    facts = json.loads(done.stdout)
    assert (facts["name"], facts["architecture"], facts["sample_rate"]) == ("AudioSep", "res_unet", 2000)
    assert facts["licences"]["code"] == "MIT" and facts["origin"].startswith("AudioSep, AudioSep: ")
    home = tmp_path / "cache" / "usep" / "models" / "AudioSep_text"
    own = Clap(str(home))
    torch.testing.assert_close(own.encode(QUERIES).pooled, said(reads, words, count), atol=1e-6, rtol=0)
    with pytest.raises(BadInput, match="knows words alone and hears no example"):
        own.hear(torch.zeros(1, 10), 8000)
    # What was given is needed no more.
    for path in words.iterdir():
        path.unlink()
    words.rmdir()
    wave = np.random.default_rng(0).normal(0, 0.1, (1, 6001)).astype(np.float32)
    io.write(tmp_path / "in.wav", wave, 4000, "FLOAT")
    run("separate", "in.wav", "--model", "AudioSep", "-Q", QUERIES[0], "-Q", QUERIES[1], "-o", "out")
    asked = Separator.load("AudioSep").ask(QUERIES)(torch.from_numpy(wave), 4000).sources
    for name, want in zip(("a_dog_barks", "rain_on_a_roof", "residual"), asked.squeeze(1).numpy(), strict=True):
        found, rate = io.read_mono(tmp_path / "out" / f"in_{name}.wav")
        assert rate == 4000 and np.abs(want).max() > 0.01
        np.testing.assert_allclose(found, want, atol=1e-5)
    assert (asked[0] - asked[1]).abs().max() > 1e-3
    told = json.loads(run("info", "AudioSep", "--json").stdout)
    assert told["outputs"] == 0 and told["settings"]["conditioner_path"] == str(home)
    again = run("pull", "./AudioSep", "--text-encoder", str(home), "--licence", "unknown", "--name", "second", "--json")
    assert json.loads(again.stdout)["state"] == "new" and not home.with_name("second_text").exists()


def test_a_tower_that_stands_beside_another_model_stays(tmp_path: Path) -> None:
    theirs, words = checkpoint(tmp_path / "theirs", tower()), tokens(tmp_path / "words")
    place = tmp_path / "own_text"
    for _ in range(2):  # the same tower again is no fault
        foreign.import_checkpoint(theirs, tmp_path / "own.safetensors", text_encoder=str(words), overwrite=True)
    (place / "config.json").write_text("{}")
    (tmp_path / "own.safetensors").unlink()
    with pytest.raises(OutputError, match="own_text: exists already, and is another text tower"):
        foreign.import_checkpoint(theirs, tmp_path / "own.safetensors", text_encoder=str(words))
    assert not (tmp_path / "own.safetensors").exists() and (place / "config.json").read_text() == "{}"
    foreign.import_checkpoint(theirs, tmp_path / "own.safetensors", text_encoder=str(words), overwrite=True)
    assert json.loads((place / "config.json").read_text())["projection_dim"] == NUMBERS
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_clap_by_path_is_used_where_it_lies(tmp_path: Path) -> None:
    """A checkpoint without a tower says nothing of the CLAP that it learned with, which is told."""
    theirs = checkpoint(tmp_path / "theirs", {})
    clap = _MAKERS["clap_folder"](tmp_path / "clap")
    with pytest.raises(BadInput, match=r"24 numbers for a phrase, and the network hears 12"):
        foreign.read(theirs, stated=Stated(text=str(clap)))
    clap = _DRAWN["clap"](tmp_path / "fits", NUMBERS)
    found = foreign.read(theirs, stated=Stated(text="fits"))
    assert found.model["conditioner_path"] == str(clap) and found.tower is None
    assert found.notes == ["nothing in the checkpoint tells whether fits is the CLAP that it learned with"]
    model = foreign.import_checkpoint(theirs, tmp_path / "own.safetensors", text_encoder=str(clap)).model
    with pytest.raises(UsepError, match="fits: no CLAP"):
        model.bound(["a dog"])  # type: ignore[union-attr, operator]


Change = Callable[[dict[str, Tensor]], Any]


@pytest.mark.parametrize(
    ("change", "text", "fault", "said"),
    [
        (None, "", UsageError, "say with --text-encoder the folder of RoBERTa's tokenizer"),
        (None, "nowhere", InputNotFound, "--text-encoder nowhere: no such folder; expected the folder of"),
        (None, "empty", BadInput, "neither a CLAP nor a tokenizer; expected the folder of"),
        (None, "few", BadInput, "a tokenizer of 7 tokens, and the tower in the checkpoint knows 300"),
        (None, "other", BadInput, "another CLAP than the one in the checkpoint, by which it learned"),
        (lambda reads: reads.clear(), "words", BadInput, "holds no CLAP, and .*words is none"),
        (lambda reads: reads.update(tower(24)), "words", BadInput, "24 numbers for a phrase, and the network hears 12"),
        (
            lambda reads: reads.pop("query_encoder.model.text_branch.pooler.dense.bias"), "words", BadInput,
            r"no whole text tower: missing text_model\.pooler\.dense\.bias; unknown none",
        ),
        (
            lambda reads: reads.update({"query_encoder.model.text_branch.encoder.layer.0.more": torch.ones(1)}),
            "words", BadInput, r"missing none; unknown text_model\.encoder\.layer\.0\.more",
        ),
        (
            lambda reads: reads.update({"query_encoder.model.nose.weight": torch.ones(1)}), "words", BadInput,
            r"1 tensors belong to no part .*query_encoder\.model\.nose\.weight",
        ),
    ],
)  # fmt: skip
def test_what_does_not_read_its_words_is_said_in_a_line(
    change: Change | None, text: str, fault: type[UsepError], said: str, tmp_path: Path
) -> None:
    reads = tower()
    if change:
        change(reads)
    theirs = checkpoint(tmp_path / "theirs", reads)
    tokens(tmp_path / "words"), tokens(tmp_path / "few", 7), (tmp_path / "empty").mkdir()
    _DRAWN["clap"](tmp_path / "other", NUMBERS)
    with pytest.raises(fault, match=said) as caught:
        foreign.import_checkpoint(theirs, tmp_path / "own.safetensors", text_encoder=text)
    assert "\n" not in str(caught.value) and not (tmp_path / "own.safetensors").exists()


def test_options_that_say_nothing_of_it_are_refused(tmp_path: Path) -> None:
    theirs, words = checkpoint(tmp_path / "theirs", tower()), str(tokens(tmp_path / "words"))
    own = tmp_path / "own.safetensors"
    with pytest.raises(UsageError, match="leave --fit-level out"):
        foreign.import_checkpoint(theirs, own, text_encoder=words, fit_level=True)
    with pytest.raises(UsageError, match="leave --mask and --blocks out"):
        foreign.import_checkpoint(theirs, own, text_encoder=words, mask="relu")
    stored = _HERE.parent / "foreign" / "convtasnet.pth"
    with pytest.raises(UsageError, match="separates without words; leave --text-encoder out"):
        foreign.import_checkpoint(stored, own, text_encoder=words)


@pytest.mark.parametrize(
    ("config", "rate", "said"),
    [
        ("data: {sampling_rate: 44100}", 0, "sampling_rate is 44100, and a window of 128 is known with 2000 alone"),
        ("data: {}", 2000, ""),
        ("data: {}", 8000, "states 2000 Hz, and --sample-rate 8000"),
        ("", 0, ""),
    ],
)
def test_the_rate_belongs_to_the_window(config: str, rate: int, said: str, tmp_path: Path) -> None:
    theirs, words = checkpoint(tmp_path / "theirs", tower()), str(tokens(tmp_path / "words"))
    path = theirs / "config" / "audiosep_base.yaml"
    path.write_text(config) if config else path.unlink()
    stated = Stated(sample_rate=rate, text=words)
    if said:
        with pytest.raises(UsepError, match=said):
            foreign.read(theirs, stated=stated)
    else:
        model = foreign.read(theirs, stated=stated).model
        assert (model["sample_rate"], model["n_fft"], model["hop"], model["time_levels"]) == (2000, 128, 20, 5)
