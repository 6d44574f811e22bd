"""Checkpoints of other toolkits: the same output as theirs, and a line where that cannot be."""

from __future__ import annotations

import hashlib
import io as bytesio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from usepcli.audio import io
from usepcli.engine.exchange import foreign, foreign_level, foreign_source
from usepcli.engine.exchange.foreign_parts import Stated
from usepcli.errors import BadInput, InputNotFound, OutputError, UsageError
from usepcli.weights import cards, store

STORED = Path(__file__).parent / "foreign"
NAMES = sorted(path.stem for path in STORED.glob("*.pth"))
TORCHAUDIO = Stated(sample_rate=8000, mask="relu", blocks=3)


@pytest.fixture(scope="session")
def talk() -> torch.Tensor:
    """Three seconds of the recording of two talkers that comes with the package, at 8 kHz."""
    from importlib import resources

    wave, rate = io.read(Path(str(resources.files("usepcli"))) / "samples" / "two_talkers.flac")
    assert rate == 8000
    return torch.from_numpy(np.ascontiguousarray(wave[:1, 8000:32005]))


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Any], Path]:
    """Write an object as a torch file."""

    def write(thing: Any, name: str = "theirs.pth") -> Path:
        torch.save(thing, tmp_path / name)
        return tmp_path / name

    return write


def stored(name: str) -> dict[str, Any]:
    return foreign_source.load_plain(STORED / f"{name}.pth")


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_output_is_what_asteroid_stored(name: str, tmp_path: Path):
    done = foreign.import_model(STORED / f"{name}.pth", tmp_path / "own.safetensors")
    data = np.load(STORED / f"{name}.npz")
    # From the written file, not from memory.
    model, card = store.load_model(done.path)
    got = model(torch.from_numpy(data["mix"])).numpy()
    assert got.shape == data["est"].shape and np.abs(data["est"]).max() > 0.1
    np.testing.assert_allclose(got, data["est"], atol=1e-5, rtol=0)
    assert (card.n_src, card.sample_rate) == (model.n_src, model.sample_rate)


def test_five_stored_models_cover_both_architectures_and_all_norms():
    models = [foreign.read(STORED / f"{name}.pth").model for name in NAMES]
    assert {m["name"] for m in models} == {"convtasnet", "dprnn"}
    assert {m["norm"] for m in models} == {"gln", "cumln", "channel"}
    assert {m["mask"] for m in models} == {"relu", "sigmoid", "softmax"}
    assert {m["activation"] for m in models} == {"relu", "linear"}
    assert {m["causal"] for m in models} == {True, False}
    assert sum(path.stat().st_size for path in STORED.iterdir() if path.is_file()) < 200_000


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ConvTasNet", {}),
        ("ConvTasNet", {"causal": True, "norm_type": "cgLN", "mask_act": "relu", "encoder_activation": "relu"}),
        ("DPRNNTasNet", {"n_repeats": 2}),
        ("DPTNet", {"n_repeats": 2, "ff_hid": 32}),
    ],
)
@torch.no_grad()
def test_asteroids_own_code_on_speech(name: str, options: dict[str, Any], talk: torch.Tensor, saved, tmp_path: Path):
    theirs = getattr(pytest.importorskip("asteroid.models"), name)
    torch.manual_seed(0)
    peer = theirs(2, **options).eval()
    done = foreign.import_model(saved(peer.serialize()), tmp_path / "own.safetensors")
    assert done.model.n_params == sum(p.numel() for p in peer.parameters())
    want = peer(talk[:, None])
    torch.testing.assert_close(done.model(talk), want, atol=1e-5 * float(want.abs().max()) + 1e-6, rtol=0)


@pytest.mark.parametrize(("mask", "kernel"), [("relu", 16), ("sigmoid", 21)])
@torch.no_grad()
def test_torchaudios_own_code_on_speech(mask: str, kernel: int, talk: torch.Tensor, saved, tmp_path: Path):
    theirs = pytest.importorskip("torchaudio.models").ConvTasNet
    torch.manual_seed(0)
    peer = theirs(3, kernel, 64, 3, 24, 40, 3, 2, mask).eval()
    path = saved(peer.state_dict())
    done = foreign.import_model(path, tmp_path / "own.safetensors", "torchaudio", Stated(8000, mask, 3))
    for length in (1, 7, 8000, 24005):
        want = peer(talk[:, None, :length])
        torch.testing.assert_close(done.model(talk[:, :length]), want, atol=1e-5 * float(talk.abs().max()), rtol=1e-4)
    # Other stacks of the same six blocks are another network: that the option matters can be heard.
    other = foreign.import_model(path, tmp_path / "other.safetensors", "", Stated(8000, mask, 6)).model
    assert (other(talk) - done.model(talk)).abs().max() > 1e-3 * talk.abs().max()


def test_the_card_says_where_it_came_from(tmp_path: Path):
    done = foreign.import_model(STORED / "convtasnet.pth", tmp_path / "toy.safetensors")
    card, _ = cards.read_card(done.path)
    assert card.name == "toy" and card.about == "imported from a checkpoint of asteroid ConvTasNet"
    sha256 = hashlib.sha256((STORED / "convtasnet.pth").read_bytes()).hexdigest()
    assert card.origin == f"convtasnet.pth, asteroid ConvTasNet, sha256 {sha256}"
    assert card.training_data == "Toy2Mix sep_clean"
    assert card.licence == "CC BY 4.0 (Toy corpus); CC BY-NC 4.0, non-commercial (Toy noises)"
    assert card.credits == "C. Player; A. Toymaker; B. Rattle"
    assert card.versions["asteroid"] == "0.7.0"
    (score,) = card.scores
    assert (score["metric"], score["value"]) == ("si_sdr_imp", 1.25) and "not measured" in score["protocol"]
    assert card.licences == {"code": "MIT", "weights": "unstated"} and "non-commercial" in cards.barred(card)
    assert [note for note in done.notes if "licence" in note] == [
        "nothing states the licence of the weights (--licence-weights); the card now says 'unstated'"
    ]


def test_what_the_file_does_not_say_is_unstated_or_said_by_the_user(tmp_path: Path):
    done = foreign.import_model(STORED / "dprnn.pth", tmp_path / "a.safetensors")
    assert (done.card.licence, done.card.training_data) == ("unstated", "unstated")
    assert any("licence" in note for note in done.notes)
    words = foreign.Words("mine", "CC0-1.0", "toys")
    done = foreign.import_model(STORED / "dprnn.pth", tmp_path / "b.safetensors", words=words)
    assert (done.card.name, done.card.licence, done.card.training_data) == ("mine", "CC0-1.0", "toys")
    with pytest.raises(UsageError, match=r"states 'CC BY 4\.0.*leave --licence out"):
        foreign.import_model(STORED / "convtasnet.pth", tmp_path / "c.safetensors", words=words)


def test_prefixes_of_wrappers_and_usual_keys_are_seen_through(saved, tmp_path: Path):
    theirs = pytest.importorskip("torchaudio.models").ConvTasNet(2, 16, 8, 3, 8, 8, 3, 1, "relu")
    state = {f"module.{name}": tensor for name, tensor in theirs.state_dict().items()}
    assert foreign.read(saved({"epoch": 3, "state_dict": state}), "", TORCHAUDIO).model["repeats"] == 1
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    assert foreign.read(tmp_path / "theirs.safetensors", "", TORCHAUDIO).model["n_src"] == 2


def test_an_old_file_without_settings_gets_asteroids_defaults_and_says_so(saved):
    raw = stored("dprnn")
    for key in ("encoder_activation", "sample_rate", "use_mulcat"):
        del raw["model_args"][key]
    path = saved(raw)
    with pytest.raises(UsageError, match="--sample-rate"):
        foreign.read(path)
    found = foreign.read(path, "", Stated(sample_rate=8000))
    assert found.model["activation"] == "linear" and "encoder_activation=None" in found.notes[0]


class Mischief:
    """Would make a file when unpickled."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (self.target, "w")


def test_no_code_in_a_file_is_run(saved, tmp_path: Path):
    marker = tmp_path / "made_by_the_file"
    raw = {**stored("dprnn"), "infos": Mischief(str(marker))}
    with pytest.raises(BadInput, match=r"Python object \w*io\.open.*plain values"):
        foreign.read(saved(raw))
    assert not marker.exists()


def changed(name: str, **args: object) -> dict[str, Any]:
    raw = stored(name)
    return {**raw, "model_args": {**raw["model_args"], **args}}


def without(name: str, tensor: str) -> dict[str, Any]:
    raw = stored(name)
    return {**raw, "state_dict": {k: v for k, v in raw["state_dict"].items() if k != tensor}}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({**stored("dprnn"), "model_name": "DeMask"}, r"unknown asteroid model 'DeMask'.*ConvTasNet, .*DPRNNTasNet"),
        (changed("convtasnet", fb_name="STFTFB"), "fb_name is 'STFTFB'"),
        (changed("convtasnet", norm_type="BN"), "norm_type is 'BN'.*gLN"),
        (changed("convtasnet", mask_act="tanh"), "mask_act is 'tanh'"),
        (changed("convtasnet", n_repeats=9), "weights of 4 blocks, but the settings speak of 18"),
        (
            changed("convtasnet", n_filters=10**6, in_chan=None, out_chan=None),
            "larger ones than the 57 tensors in the file",
        ),
        (changed("convtasnet", kernel_size=16.5), "kernel_size is '16.5'; expected a whole number"),
        (changed("convtasnet", who_is_pinv="decoder"), "settings that usep does not have: who_is_pinv"),
        (changed("convtasnet", out_chan=3), "out_chan is 3; expected n_filters, 16"),
        (changed("dprnn", use_mulcat=True), "use_mulcat"),
        (changed("dprnn", n_repeats=10**9), "from 1 to 1000000"),
        (changed("dprnn", stride=64), r"model\.stride"),
        (without("dprnn", "masker.mask_net.weight"), "1 tensors do not fit.*head.weight"),
        (without("convtasnet", "masker.TCN.0.res_conv.bias"), "block 0 of 4 has no residual"),
        ({"pytorch-lightning_version": "2.0", "loops": {}}, "training state of Lightning.*serialize"),
        ({"a": torch.ones(1), "b": torch.ones(1)}, r"2 tensors of an unknown kind \(a, b\); known are"),
        ([1, 2], "holds a list; expected a dictionary"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(raw: Any, said: str, saved, tmp_path: Path):
    with pytest.raises(BadInput, match=said) as caught:
        foreign.import_model(saved(raw), tmp_path / "own.safetensors")
    assert "theirs.pth" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "own.safetensors").exists()


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(1).expand(10**12), torch.ones(3, 3).to_sparse(), torch.ones(3, dtype=torch.complex64),
     torch.empty(3, device="meta")],
)  # fmt: skip
def test_tensors_that_are_no_plain_arrays_are_refused(tensor: torch.Tensor, saved):
    raw = stored("dprnn")
    name = next(iter(raw["state_dict"]))
    with pytest.raises(BadInput, match=f"'{name}' holds no plain array"):
        foreign.read(saved({**raw, "state_dict": {**raw["state_dict"], name: tensor}}))


def test_sizes_that_no_tensor_tells_are_bounded_and_scores_are_numbers(saved):
    with pytest.raises(BadInput, match=r"chunk_size is '1000000000000'.* to 10000"):
        foreign.read(saved(changed("dprnn", chunk_size=10**12)))
    metrics = {"a": float("nan"), "b": 10**400, "c": 3.5}
    found = foreign.read(saved({**stored("dprnn"), "infos": {"final_metrics": metrics}}))
    assert [(score["metric"], score["value"]) for score in found.scores] == [("c", 3.5)]


def test_nan_in_the_weights_is_refused(saved):
    raw = stored("dprnn")
    raw["state_dict"]["masker.mask_net.weight"][0, 0] = torch.nan
    with pytest.raises(BadInput, match=r"1 tensors hold NaN.*mask_net"):
        foreign.read(saved(raw))


def test_damaged_missing_and_own_files(tmp_path: Path):
    whole = (STORED / "dprnn.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pth").write_text("no model")
    (tmp_path / "text.safetensors").write_text("no model")
    for name in ("cut.pth", "text.pth", "text.safetensors"):
        with pytest.raises(BadInput, match="not a readable"):
            foreign.read(tmp_path / name)
    with pytest.raises(InputNotFound, match="no such checkpoint"):
        foreign.read(tmp_path / "none.pth")
    with pytest.raises(BadInput, match=r"3 files of no known maker.*known are"):
        foreign.read(tmp_path)
    own = foreign.import_model(STORED / "dprnn.pth", tmp_path / "own.safetensors").path
    with pytest.raises(BadInput, match="a model file of usep already"):
        foreign.read(own)
    with pytest.raises(OutputError, match="--overwrite"):
        foreign.import_model(STORED / "dprnn.pth", own)
    foreign.import_model(STORED / "convtasnet.pth", own, overwrite=True)
    assert cards.read_card(own)[0].model["name"] == "convtasnet"


def test_options_that_do_not_go_together(saved, tmp_path: Path):
    theirs = pytest.importorskip("torchaudio.models").ConvTasNet(2, 16, 8, 3, 8, 8, 3, 1, "relu")
    path = saved(theirs.state_dict())
    with pytest.raises(UsageError, match=r"do not tell --sample-rate, --mask, --blocks.*3 blocks in all"):
        foreign.read(path)
    with pytest.raises(UsageError, match="--blocks 2 does not divide"):
        foreign.read(path, "", Stated(8000, "relu", 2))
    with pytest.raises(UsageError, match="unknown mask 'rleu'"):
        foreign.read(path, "", Stated(8000, "rleu", 3))
    with pytest.raises(BadInput, match="a checkpoint of torchaudio, not of asteroid"):
        foreign.read(path, "asteroid", TORCHAUDIO)
    with pytest.raises(UsageError, match="unknown kind of checkpoint 'nemo'"):
        foreign.import_model(path, tmp_path / "a.safetensors", "nemo")
    with pytest.raises(UsageError, match=r"ends in \.safetensors"):
        foreign.import_model(path, tmp_path / "a.pt")
    with pytest.raises(UsageError, match="states 8000 Hz, and --sample-rate 16000"):
        foreign.read(STORED / "dprnn.pth", "", Stated(sample_rate=16000))
    with pytest.raises(UsageError, match="leave --mask and --blocks out"):
        foreign.read(STORED / "dprnn.pth", "", TORCHAUDIO)


def test_texts_from_a_file_cannot_drive_the_terminal(saved):
    buffer = bytesio.BytesIO()
    torch.save({**stored("dprnn"), "dataset": "\x1b[2Jred\nline " + "x" * 9999}, buffer)
    path = saved(None)
    path.write_bytes(buffer.getvalue())
    said = foreign.read(path).training_data
    assert said.startswith("[2Jred line xxx") and said.isprintable() and len(said) <= 500


def shares(gain: float) -> torch.nn.Module:
    """A Conv-TasNet whose outputs are all the same share of its input, and add up to `gain` times it."""
    theirs = pytest.importorskip("torchaudio.models").ConvTasNet(2, 16, 16, 3, 8, 8, 3, 1, "sigmoid")
    with torch.no_grad():
        theirs.mask_generator.output_conv.weight.zero_()
        theirs.mask_generator.output_conv.bias.zero_()
        for layer in (theirs.encoder, theirs.decoder):
            layer.weight.copy_(torch.eye(16)[:, None])
        # Every sample lies in two frames, and each of two outputs has masks of one half.
        theirs.decoder.weight.mul_(gain / 2)
    return theirs


@pytest.mark.parametrize("gain", [0.125, 1.0, -4.0])
@torch.no_grad()
def test_the_level_is_measured_and_brought_to_the_input(gain: float, talk: torch.Tensor, saved, tmp_path: Path):
    path, stated = saved(shares(gain).state_dict()), Stated(8000, "sigmoid", 3)
    kept = foreign.import_model(path, tmp_path / "kept.safetensors", "", stated)
    torch.testing.assert_close(kept.model(talk).sum(1), gain * talk, atol=1e-5, rtol=1e-4)
    said = [note for note in kept.notes if "--fit-level" in note]
    assert bool(said) == (gain != 1) and (not said or f"{20 * math.log10(abs(gain)):+.1f} dB" in said[0])
    fitted = foreign.import_model(path, tmp_path / "fitted.safetensors", "", stated, fit_level=True)
    torch.testing.assert_close(store.load_model(fitted.path)[0](talk).sum(1), talk, atol=1e-5, rtol=1e-4)
    assert f"outputs times {1 / gain:.4g}" in fitted.card.origin


def test_a_sum_unlike_the_input_gets_no_gain(saved, tmp_path: Path):
    theirs = shares(1.0)
    theirs.decoder.weight.data.zero_()
    path, stated = saved(theirs.state_dict()), Stated(8000, "sigmoid", 3)
    with pytest.raises(BadInput, match="leave --fit-level out"):
        foreign.import_model(path, tmp_path / "own.safetensors", "", stated, fit_level=True)
    assert "something else" in foreign_level.Level(1.0, 0.4).note and not foreign_level.Level(1.1, 0.9).note
