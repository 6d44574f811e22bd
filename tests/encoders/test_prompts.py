"""Learned prompts before the words of a CLAP: the tower's own answers, gradients, files, and what takes none."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from usepcli.audio import io
from usepcli.cli.app import app
from usepcli.data.manifest import Manifest, Phrase, Row
from usepcli.data.phrases import template
from usepcli.encoders import clap
from usepcli.encoders.clap import Clap, ClapJudge
from usepcli.encoders.prompts import context_of
from usepcli.encoders.templates import bare
from usepcli.errors import BadInput, ConfigError, InputNotFound
from usepcli.models.cond_unet import CondUNet
from usepcli.weights import build, cards, store


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, encoder_makers) -> Path:  # type: ignore[no-untyped-def]
    return encoder_makers.clap_folder(tmp_path_factory.mktemp("clap"))


def made(folder: Path, **options: object) -> CondUNet:
    torch.manual_seed(1)
    settings = {"name": "cond_unet", "preset": "tiny", "conditioner": "clap", "conditioner_path": str(folder)}
    model = build.model({**settings, **options})
    assert isinstance(model, CondUNet)
    return model


def stored(model: CondUNet, path: Path) -> Path:
    card = cards.Card(name="toy", model=build.config_of(model), sample_rate=model.sample_rate)
    store.save_model(path, model.state_dict(), card)
    return path


@pytest.mark.parametrize("names", [["a_dog"], ["a dog", "rain"], ["a dog", "rain", "glass"]])
def test_a_template_is_taken_off_and_nothing_else(names: list[str]) -> None:
    said = {1: "a dog", 2: "a dog and rain", 3: "a dog, rain, and glass"}[len(names)]
    assert bare(template(names)) == said and bare(said) == said
    assert bare("the sound of rain") == "rain" and bare("The sound of ") == "The sound of "
    assert bare("A man hears the sound of rain") == "A man hears the sound of rain"


def test_vectors_of_words_before_words_are_those_words(folder: Path) -> None:
    """Behind the vectors of "a dog barks" the rest is read as if all were words, padding and places included."""
    tower = Clap(str(folder))
    tokenizer, network = tower.opened()
    ids = tokenizer("a dog barks")["input_ids"][1:-1]
    context = network.text_model.get_input_embeddings()(torch.tensor(ids))
    for rest in (" glass", " rain on a roof"):
        whole, part = tower.read([f"a dog barks{rest}"]), tower.behind(context, [rest])
        assert torch.equal(whole.mask, part.mask) and whole.tokens.shape == part.tokens.shape == (1, 77, 16)
        torch.testing.assert_close(part.tokens, whole.tokens, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(part.pooled, whole.pooled, atol=1e-6, rtol=1e-5)


def test_new_vectors_learn_and_the_tower_does_not(folder: Path) -> None:
    model = made(folder, context=8)
    names = [name for name, p in model.named_parameters() if name.startswith("conditioner")]
    assert names == ["conditioner.context"] and model.words.vectors == 8
    condition = model.words.encode(["The sound of glass", "a dog barks"])
    condition.pooled[:, 0].sum().backward()
    assert model.words.context.grad is not None and (model.words.context.grad != 0).all()
    assert all(p.grad is None for p in model.words.tower.opened()[1].parameters())
    one, other = model.words.encode(["The sound of glass", "glass"]).pooled
    torch.testing.assert_close(one, other)
    assert not torch.allclose(one, Clap(str(folder)).encode(["glass"]).pooled[0])


def test_a_file_of_vectors_serves_other_models_and_judges(folder: Path, tmp_path: Path) -> None:
    learned = made(folder, context=16)
    path = stored(learned, tmp_path / "best.safetensors")
    torch.testing.assert_close(context_of(str(tmp_path)).vectors, learned.words.context.detach())
    model = made(folder, prompts=str(path), ngf=8)
    assert not model.words.context.requires_grad and build.config_of(model)["context"] == 16
    want = learned.words.encode(["The sound of glass"]).pooled.detach()
    assert torch.equal(model.words.encode(["glass"]).pooled, want)
    judge = ClapJudge(str(folder))
    plain = judge.read(["glass"])
    judge.prompted(str(path))
    torch.testing.assert_close(judge.read(["The sound of glass"]), want)
    assert not torch.allclose(plain, want)
    kept = stored(model, tmp_path / "kept.safetensors")
    path.unlink()  # a stored model has its vectors
    again, _ = store.load_any(kept)
    assert isinstance(again, CondUNet) and torch.equal(again.words.encode(["glass"]).pooled, want)
    assert build.config_of(again) == build.config_of(model)


def test_other_vectors_are_read_anew_and_the_same_ones_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(folder, context=4)
    model.words.context.requires_grad_(False)
    seen: list[str] = []
    said = clap.said_behind
    monkeypatch.setattr(clap, "said_behind", lambda c, t, n, some: seen.extend(some) or said(c, t, n, some))
    first = model.words.encode(["glass", "rain"]).pooled
    model.words.encode(["rain"])
    assert seen == ["glass", "rain"]
    state = model.state_dict()
    other = -state["conditioner.context"]  # a constant more would be lost in the norm of embeddings
    model.load_state_dict({**state, "conditioner.context": other})
    assert not torch.allclose(model.words.encode(["glass", "rain"]).pooled, first) and len(seen) == 4


def test_what_does_not_fit_is_one_line(folder: Path, tmp_path: Path, encoder_makers) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=r"model\.context: found 70; expected at most 64, for 77 tokens"):
        made(folder, context=70)
    with pytest.raises(InputNotFound, match="no such file; expected a model or a run of objective prompt_tuning"):
        made(folder, prompts=str(tmp_path / "none"))
    (tmp_path / "text.safetensors").write_text("hello")
    bare_model = stored(by_labels(), tmp_path / "labels.safetensors")
    for path in (tmp_path / "text.safetensors", bare_model):
        with pytest.raises(BadInput, match="holds no learned prompts"):
            made(folder, prompts=str(path))
    path = stored(made(folder, context=8), tmp_path / "eight.safetensors")
    with pytest.raises(ConfigError, match=r"model\.context: found 16, and .* holds 8 vectors"):
        made(folder, prompts=str(path), context=16)
    (tmp_path / "other").mkdir()
    other = encoder_makers.clap_folder(tmp_path / "other", parts=True)
    for use in (lambda: made(other, prompts=str(path)), lambda: ClapJudge(str(other)).prompted(str(path))):
        with pytest.raises(ConfigError, match="was learned with a tower of sha256"):
            use()


def recordings(root: Path) -> Path:
    """Write six recordings of two classes and six mixtures, and list them."""
    draw, rows = np.random.default_rng(0), []
    for k in range(6):
        name = ("glass", "rain")[k % 2]
        wave = draw.standard_normal(8000) * (0.1 if k % 2 else np.linspace(0.1, 0, 8000))
        io.write(root / f"{k}.wav", wave.astype(np.float32), 8000)
        said = {"queries": (f"The sound of {name}",), "label": name}
        rows.append(Row(f"single{k}", "valid", f"{k}.wav", (f"{k}.wav",), "", 8000, 8000, 1, **said))  # type: ignore[arg-type]
    for k in range(6):
        names = ("glass", "rain") if k % 2 else ("a dog barks", "wind")
        said = {"queries": names, "caption": " and ".join(names), "phrases": tuple(map(Phrase, names))}
        split = "train" if k < 2 else "test"
        rows.append(Row(f"mix{k}", split, "", (f"{2 * k % 6}.wav", f"{2 * k % 6 + 1}.wav"), "", 8000, 8000, 2, **said))  # type: ignore[arg-type]
    Manifest(rows, root, root / "manifest.csv").write()
    return root


@pytest.mark.slow
def test_learned_by_a_run_they_go_before_the_words_of_another_and_of_its_judge(folder: Path, tmp_path: Path) -> None:
    """By real command lines; what the first has written separates nothing."""
    data = recordings(tmp_path / "data")
    common = ["model.sample_rate=8000", f"data.manifest={data}", "data.segment_s=0.5", "train.threads=1"]
    common += [f"model.conditioner_path={folder}", "train.batch_size=2", "train.epochs=1"]

    def train(profile: str, *more: str) -> Path:
        run = tmp_path / profile
        sets = [word for one in (*common, *more) for word in ("--set", one)]
        done = CliRunner().invoke(app, ["train", "--profile", profile, *sets, "-o", str(run)])
        assert done.exit_code == 0, f"{done.output}{done.exception}"
        return run

    run = train("small_prompts", "data.epoch_items=4", "model.context=2", "data.shots=1", "optim.lr=0.1")
    with open(run / "valid.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert 0 < float(row["held_loss"]) < 10 and 0 <= float(row["held_right"]) <= 1
    card = cards.read_card(run / "best.safetensors")[0]
    assert card.model["classes"] == ["glass", "rain"] and card.model["context"] == 2
    assert card.model["conditioner_sha256"] == card.fixed["judge"]["sha256"]
    asked = ["separate", str(data / "0.wav"), "-m", str(run), "--query", "rain", "-o", str(tmp_path / "out")]
    refused = CliRunner().invoke(app, asked)
    assert isinstance(refused.exception, BadInput) and "has trained no separator" in str(refused.exception)
    assert not (tmp_path / "out").exists()
    weak = train(
        "small_words", f"objective.judge_path={folder}", "model.conditioner=clap", "model.preset=tiny",
        f"model.prompts={run}", f"objective.judge_prompts={run}", "data.valid_split=test", "data.epoch_items=2",
    )  # fmt: skip
    torch.testing.assert_close(context_of(str(weak)).vectors, context_of(str(run)).vectors)
    again, _ = store.load_any(weak / "best.safetensors")
    assert isinstance(again, CondUNet) and again.words.vectors == 2


def by_labels() -> CondUNet:
    model = build.model({"name": "cond_unet", "preset": "tiny", "classes": ["a", "b"]})
    assert isinstance(model, CondUNet)
    return model
