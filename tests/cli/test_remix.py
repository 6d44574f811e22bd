"""`usep remix` as a user meets it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from usepcli.audio import io
from usepcli.data.manifest import Manifest
from usepcli.engine.mixing import run

Usep = Callable[..., Any]


@pytest.fixture
def usep(command: Callable[..., Usep]) -> Usep:
    """Run `usep remix ...` in an empty folder."""
    return command("remix")


def tone(path: str, level: float, hertz: float = 440, rate: int = 8000, subtype: str = "PCM_16") -> np.ndarray:
    wave = (level * np.sin(2 * np.pi * hertz * np.arange(2 * rate) / rate)).astype(np.float32)
    io.write(path, wave, rate, subtype)
    return io.read(path)[0]


def test_stems_without_gains_are_the_integer_sum(usep: Usep):
    a, b = tone("a.wav", 0.3), tone("b.wav", 0.4, 700)
    answer = usep("a.wav", "b.wav", "-o", "mix.wav", "--json")
    assert answer.code == 0, answer.err
    assert np.array_equal(io.read("mix.wav")[0] * 32768, a * 32768 + b * 32768)
    record = json.loads(answer.out)
    assert record["gains_db"] == {"a": 0, "b": 0} and record["gain_db"] == 0
    assert record["lufs_before"] == record["lufs_after"]


def test_gain_and_mute_by_name_and_number(usep: Usep):
    a = tone("a.wav", 0.3)
    tone("b.wav", 0.4, 700)
    answer = usep("a.wav", "b.wav", "--gain", "a=-6", "--mute", "2", "-o", "mix.wav")
    assert answer.code == 0 and "gains_db.a" in answer.out and "LUFS" in answer.out
    np.testing.assert_allclose(io.read("mix.wav")[0], a * 10 ** (-6 / 20), atol=2.0**-15)


def test_a_sum_that_would_clip_is_turned_down_and_said_so(usep: Usep):
    a, b = tone("a.wav", 0.9), tone("b.wav", 0.9)
    answer = usep("a.wav", "b.wav", "-o", "mix.wav", "--json")
    gain = json.loads(answer.out)["gain_db"]
    assert gain == pytest.approx(-20 * np.log10(1.8), abs=0.01) and "turned down by 5.1" in answer.err
    np.testing.assert_allclose(io.read("mix.wav")[0], (a + b) * 10 ** (gain / 20), atol=1e-4)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_file_with_model_and_no_gains_comes_back_bit_by_bit(usep: Usep, model_file: Path, subtype: str):
    tone("x.wav", 0.5, rate=44_100, subtype=subtype)
    answer = usep("x.wav", "--model", model_file, "--gain", "1=0", "-o", "deep/y.wav")
    assert answer.code == 0, answer.err
    assert Path("deep/y.wav").read_bytes() == Path("x.wav").read_bytes()


def test_file_with_model_and_other_format_keeps_every_sample(usep: Usep, model_file: Path):
    wave = tone("x.wav", 0.5, rate=44_100)
    assert usep("x.wav", "--model", model_file, "-o", "y.flac").code == 0
    assert np.array_equal(io.read("y.flac")[0], wave)


def test_file_with_model_gain_and_loudness(usep: Usep, model_file: Path):
    tone("x.wav", 0.5, rate=16_000)
    answer = usep("x.wav", "-m", model_file, "--gain", "1=-6", "--lufs", "-30", "-o", "y.wav", "--json")
    assert answer.code == 0, answer.err
    record = json.loads(answer.out)
    assert record["gains_db"]["1"] == -6 and record["lufs_after"] == pytest.approx(-30, abs=0.05)
    assert io.info("y.wav").frames == io.info("x.wav").frames and io.info("y.wav").rate == 16_000


def test_one_input_that_cannot_be_used_is_not_copied(usep: Usep):
    wave = np.zeros(8000, np.float32)
    wave[5] = np.nan
    sf.write("x.wav", wave, 8000, "FLOAT")
    assert usep("x.wav", "-o", "y.wav").code == 65 and not Path("y.wav").exists()


def test_silence_has_no_loudness_and_no_invalid_json(usep: Usep):
    io.write("x.wav", np.zeros(8000), 8000)
    answer = usep("x.wav", "--lufs", "-23", "--mute", "x", "-o", "y.wav", "--json")
    assert answer.code == 0 and "silent, so its loudness was left" in answer.err
    record = json.loads(answer.out)
    assert record["lufs_before"] is None and record["gains_db"] == {"x": None}
    assert not io.read("y.wav")[0].any()


def test_wrong_usage_and_outputs_in_the_way(usep: Usep, model_file: Path):
    tone("a.wav", 0.1)
    tone("b.wav", 0.1)
    tone("c.wav", 0.1, rate=16_000)
    both = ("a.wav", "b.wav", "-o", "y.wav")
    assert usep(*both, "--gain", "c=1").code == 2
    assert usep(*both, "--model", model_file).code == 2
    assert usep(*both, "--lufs", "5").code == 2
    assert usep("a.wav", "b.wav", "-o", "y.txt").code == 2
    assert usep("a.wav", "c.wav", "-o", "y.wav").code == 65
    assert usep("a.wav", "none.wav", "-o", "y.wav").code == 66
    assert usep("a.wav", "b.wav", "-o", "a.wav").code == 73
    assert usep("a.wav", "b.wav", "-o", "a.wav", "--overwrite").code == 73
    assert usep(*both, "--dry-run").code == 0
    assert not Path("y.wav").exists()


def test_one_file_whose_sources_are_named_is_separated_by_the_usual_model(
    usep: Usep, model_file: Path, monkeypatch: pytest.MonkeyPatch
):
    from usepcli.separator.separator import Separator

    asked: list[str] = []
    load = Separator.load

    def loaded(ref: str, *rest: object, **more: object) -> Separator:
        asked.append(ref)
        return load(model_file, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Separator, "load", loaded)
    tone("x.wav", 0.5)
    answer = usep(
        *("x.wav", "--gain", "1=-6", "--mute", "2", "--pan", "1=-0.3"),
        *("--lufs", "-23", "--true-peak", "-1", "-o", "y.wav", "--json"),
    )
    assert answer.code == 0, answer.err
    assert asked == ["default"] and "so the model 'default' separates it first" in answer.err
    record = json.loads(answer.out)
    assert record["gains_db"] == {"1": -6, "2": None}
    assert record["pans"] == {"1": -0.3} and record["lufs_after"] == pytest.approx(-23, abs=0.1)
    assert record["true_peak_after"] <= -1 and io.info("y.wav").channels == 2
    # Named by its own name, or not at all, it is a stem.
    for named in (("--gain", "x=-6"), ("--mute", "x"), ("--lufs", "-30"), ()):
        assert usep("x.wav", *named, "-o", "z.wav", "--overwrite").code == 0 and len(asked) == 1


def test_folder_with_automation(usep: Usep):
    a, b = tone("song/part 2.wav", 0.3), tone("song/part 10.wav", 0.4, 700)
    Path("rides.csv").write_text("time,source,gain\n0,part 10,0\n1,part 10,-inf\n")
    answer = usep("song", "--automation", "rides.csv", "--gain", "1=0", "-o", "mix.wav")
    assert answer.code == 0 and answer.out.index("part 2") < answer.out.index("part 10"), answer.err
    mix = io.read("mix.wav")[0]
    assert np.array_equal(mix[:, :8000], (a + b)[:, :8000]) and np.array_equal(mix[:, 8080:], a[:, 8080:])
    Path("rides.csv").write_text("time,source,gain\n0,drums,0\n")
    answer = usep("song", "--automation", "rides.csv", "-o", "mix2.wav")
    assert answer.code == 2 and "--automation rides.csv: source 'drums': no such source" in answer.err
    Path("rides.csv").write_text("time,source,gain\n0,1,0\n0,1,x\n")
    answer = usep("song", "--automation", "rides.csv", "-o", "mix2.wav")
    assert answer.code == 65 and "rides.csv: line 3: gain 'x'" in answer.err


def test_outputs_csv_brings_back_the_level(usep: Usep):
    a, b = tone("apart/x_1.wav", 0.2, subtype="FLOAT"), tone("apart/x_2.wav", 0.1, 700, subtype="FLOAT")
    lines = ["file,output,source,gain_db", "x.wav,x_1.wav,1,-6", "x.wav,x_2.wav,2,-6", "y.wav,x_1.wav,1,0"]
    Path("apart/outputs.csv").write_text("\n".join(lines) + "\n")
    assert usep("apart/outputs.csv", "-o", "y.wav").code == 2
    assert usep("apart/outputs.csv", "--file", "x", "-o", "y.wav").code == 0
    np.testing.assert_allclose(io.read("y.wav")[0], (a + b) * 10 ** (6 / 20), atol=1e-6)
    assert usep("apart/outputs.csv", "--file", "x", "--model", "default", "-o", "z.wav").code == 2
    answer = usep("apart", "-o", "z.wav")
    assert answer.code == 0 and "apart/outputs.csv: lists these files" in answer.err


def test_a_limiter_says_what_it_did(usep: Usep):
    tone("a.wav", 0.9)
    answer = usep("a.wav", "--true-peak", "-6", "--peak", "limit", "-o", "y.wav")
    assert answer.code == 0 and "limited by up to 5.1 dB" in answer.err and "limited_db" in answer.out
    record = json.loads(usep("y.wav", "-o", "z.wav", "--json").out)
    assert -6.1 < record["true_peak_before"] == record["true_peak_after"] <= -5.9
    answer = usep("a.wav", "--true-peak", "-6", "-o", "y.wav", "--overwrite", "--quiet")
    assert answer.code == 0 and not answer.err
    answer = usep("a.wav", "--true-peak", "-6", "-o", "y.wav", "--overwrite")
    assert "turned down by 5.09 dB so that the true peak stays at -6 dBTP" in answer.err


def test_options_out_of_range(usep: Usep):
    tone("a.wav", 0.1)
    for wrong in (("--true-peak", "1"), ("--peak", "soft"), ("--pan", "a=2"), ("--file", "x")):
        assert usep("a.wav", *wrong, "-o", "y.wav").code == 2
    io.write("six.wav", np.zeros((6, 100)), 8000)
    answer = usep("six.wav", "--pan", "six=1", "-o", "y.wav")
    assert answer.code == 2 and "only mono and stereo can be panned" in answer.err
    assert usep("a.wav", "--automation", "none.csv", "-o", "y.wav").code == 66
    assert not Path("y.wav").exists()


def dataset(count: int = 4, sources: bool = True) -> None:
    """Write data/manifest.csv with mixtures of two tones."""
    lines = ["id,split,mixture,sources,sample_rate,frames"]
    for i in range(count):
        parts = [tone(f"data/{i}_{k}.wav", 0.1, 200 + 130 * i + 60 * k) for k in range(2)]
        io.write(f"data/{i}.wav", parts[0] + parts[1], 8000)
        lines.append(f"r{i},train,{i}.wav,{f'{i}_0.wav;{i}_1.wav' if sources else ''},8000,16000")
    Path("data/manifest.csv").write_text("\n".join(lines) + "\n")


def test_shuffle_by_a_model_makes_a_set_and_goes_on_with_it(usep: Usep, model_file: Path):
    dataset(sources=False)
    answer = usep("--shuffle", "data", "-m", model_file, "-o", "new", "--rounds", "2", "--seconds", "1", "--json")
    assert answer.code == 0, answer.err
    facts = json.loads(answer.out)
    manifest = Manifest.read("new")
    n_src = facts["sources"]
    assert facts["mixtures"] == {"train": 8} and facts["rate"] == manifest.rows[0].sample_rate and facts["kept"] == 0
    for row in manifest.rows:
        assert len(row.sources) == row.n_src == n_src == len(row.origin.split(" + "))
        mix, *parts = [io.read(manifest.resolve(name))[0] for name in (row.mixture, *row.sources)]
        assert mix.shape == (1, row.frames) and row.frames == row.sample_rate
        np.testing.assert_allclose(sum(parts), mix, atol=1e-6)
    again = usep("--shuffle", "data", "-m", model_file, "-o", "new", "--rounds", "2", "--seconds", "1")
    assert again.code == 0 and "8 pseudo-mixtures were there already and stayed" in again.err
    assert usep("--shuffle", "data", "-m", model_file, "-o", "new", "--rounds", "1").code == 73


def test_shuffle_of_listed_sources_and_what_it_says(usep: Usep):
    dataset()
    answer = usep("--shuffle", "data/manifest.csv", "-o", "new", "--kind", "free", "--subtype", "pcm_16")
    assert answer.code == 0 and "sources         3" in answer.out, answer.err
    assert "the residual is a silent source; see --no-residual" in answer.err
    answer = usep("--shuffle", "data", "-o", "two", "--no-residual", "--no-channel-shuffle", "--dry-run")
    assert answer.code == 0 and "sources         2" in answer.out and "nothing was written" in answer.err
    assert not Path("two").exists()
    Path("data/3.wav").unlink()
    answer = usep("--shuffle", "data", "-o", "two", "--no-residual", "--quiet")
    assert answer.code == 4 and "1 mixtures could not be used" in answer.err and "r3: data/3.wav: no such" in answer.err
    assert len(Manifest.read("two")) == 3


def test_a_shuffle_says_that_it_takes_the_mean_of_channels(usep: Usep):
    dataset()
    for name in ("0.wav", "0_0.wav", "0_1.wav", "1.wav", "1_0.wav", "1_1.wav"):
        wave, rate = io.read(f"data/{name}")
        io.write(f"data/{name}", np.concatenate([wave * 1.5, wave * 0.5]), rate, overwrite=True)
    answer = usep("--shuffle", "data", "-o", "new", "--rounds", "2")
    assert answer.code == 0 and "6 files have several channels: the mean of them was taken" in answer.err, answer.err
    assert {io.info(path).channels for path in Path("new").rglob("*.wav")} == {1}
    answer = usep("--shuffle", "data", "-o", "cut", "--seconds", "0.5", "--quiet")
    assert answer.code == 0 and "channels" not in answer.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no input: name STEMs"),
        (("--shuffle", "data", "--pan", "1=1"), "--pan has no meaning with --shuffle"),
        (("--shuffle", "data", "--true-peak", "-1"), "--true-peak has no meaning with --shuffle"),
        (("a.wav", "--kind", "free"), "--kind belongs to --shuffle"),
        (("a.wav", "--seed", "3"), "--seed belongs to --shuffle"),
        (("a.wav", "--shuffle", "data"), "leave a.wav out"),
        (("--shuffle", "data", "--gain", "1=3"), "--gain has no meaning with --shuffle"),
        (("--shuffle", "data", "--lufs", "-23"), "--lufs has no meaning with --shuffle"),
        (("--shuffle", "data", "-m", "default", "--no-residual"), "--residual belongs to listed sources"),
        (("--shuffle", "data", "--kind", "fre"), "did you mean 'free'"),
        (("--shuffle", "data", "--batch", "2"), "--kind constrained needs 3 mixtures together"),
    ],
)
def test_options_of_the_two_forms_do_not_mix(usep: Usep, arguments: tuple[str, ...], said: str):
    dataset()
    answer = usep(*arguments, "-o", "new")
    assert answer.code == 2 and said in answer.err, answer.err
    assert not Path("new").exists()


def test_shuffle_of_nothing(usep: Usep):
    assert usep("--shuffle", "none", "-o", "new").code == 66
    dataset(sources=False)
    answer = usep("--shuffle", "data", "-o", "new")
    assert answer.code == 65 and "item r0 lists no sources; name a --model" in answer.err
    assert usep("--shuffle", "data", "-m", "none.safetensors", "-o", "new").code == 66
    assert not Path("new").exists()


def test_a_folder_that_takes_no_file_is_told_before_the_work(usep: Usep, monkeypatch: pytest.MonkeyPatch):
    def worked(*_: Any, **__: Any) -> None:
        raise AssertionError("the work began")

    monkeypatch.setattr(run, "remix", worked)
    tone("a.wav", 0.3)
    Path("full").write_bytes(b"a file where a folder is wanted")
    answer = usep("a.wav", "-o", "full/sub/new.wav")
    assert answer.code == 73 and "full/sub: cannot be made or written" in answer.err
    assert sorted(path.name for path in Path().iterdir()) == ["a.wav", "full"]
