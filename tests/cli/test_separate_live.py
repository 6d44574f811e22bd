"""`usep separate --live`: the model's own sources, whatever the pipe does, and what was heard is never lost."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from usepcli.audio import io, pcm
from usepcli.separator.separator import How, Separator
from usepcli.weights import build, cards, store

Usep = Callable[..., Any]
CAUSAL = {"causal": True, "input_norm": "none", "sample_rate": 8000, "n_src": 2}
MODELS = {
    "convtasnet": {"norm": "cumln"}, "dprnn": {"norm": "channel"}, "tasnet": {}, "upit": {}, "band_path": {},
}  # fmt: skip


def made(name: str, **options: Any) -> Path:
    torch.manual_seed(0)
    model = build.model({"name": name, "preset": "tiny", **MODELS.get(name, {}), **CAUSAL, **options})
    card = cards.Card(name=name, model=model.config, sample_rate=8000, n_src=2, cost=build.cost_of(model))
    path = Path("models", f"{name}.safetensors")
    store.save_model(path, model.state_dict(), card)
    return path


@pytest.fixture
def usep(command: Usep) -> Usep:
    made("convtasnet")
    return command("separate", "--live")


def noise(*shape: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


def bytes_of(wave: np.ndarray, code: str = "f32le") -> bytes:
    return pcm.encode(np.atleast_2d(wave), code)[0]


@torch.no_grad()
def whole(name: str, wave: np.ndarray) -> np.ndarray:
    """The sources (N, T) of one call of the model."""
    model = Separator.load(f"models/{name}.safetensors").model
    found: np.ndarray = model(torch.from_numpy(wave)[None])[0].numpy()
    return found


def files(*names: str) -> np.ndarray:
    return np.stack([io.read(name)[0][0] for name in names])


def table() -> list[dict[str, str]]:
    with open("out/outputs.csv", newline="") as file:
        return list(csv.DictReader(file))


class Feeder(threading.Thread):
    """Writes bytes into a pipe in odd pieces."""

    def __init__(self, where: str | int, data: bytes, longest: int = 3001) -> None:
        super().__init__(daemon=True)
        self.where, self.data, self.longest = where, data, longest
        self.start()

    def run(self) -> None:
        draw, at = np.random.default_rng(0), 0
        handle = os.open(self.where, os.O_WRONLY) if isinstance(self.where, str) else self.where
        try:
            while at < len(self.data):
                size = int(draw.integers(1, self.longest))
                os.write(handle, self.data[at : at + size])
                at += size
        except BrokenPipeError:
            pass
        finally:
            os.close(handle)


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """Gives what writes bytes into standard input, in odd pieces."""
    opened = []

    def give(data: bytes) -> None:
        ear, mouth = os.pipe()
        file = os.fdopen(ear, "rb", buffering=0)
        opened.append(file)
        monkeypatch.setattr(sys, "stdin", file)
        Feeder(mouth, data)

    yield give
    for file in opened:
        file.close()


@pytest.mark.parametrize("name", MODELS)
def test_a_stream_in_odd_pieces_gives_the_model_s_own_sources(
    usep: Usep, stdin: Callable[[bytes], None], name: str
) -> None:
    made(name)
    wave = noise(9001)
    stdin(bytes_of(wave))
    answer = usep("-", "--pcm", "8000:1:f32le", "-m", name, "-o", "out", "--block-ms", "7", "--json")
    assert answer.code == 0, answer.err
    want = whole(name, wave)
    got = files("out/stdin_1.wav", "out/stdin_2.wav")
    assert got.shape == want.shape and np.abs(got - want).max() <= 1e-5 * np.abs(want).max()
    told = json.loads(answer.out)
    model = Separator.load(name).model
    assert told["live"]["latency_s"] == model.latency_samples / 8000 and told["live"]["blocks"] > 0
    rows = table()
    assert [row["output"] for row in rows] == ["stdin_1.wav", "stdin_2.wav"]
    assert {row["file"] for row in rows} == {"-"} and all(float(row["p99_ms"]) > 0 for row in rows)
    assert f"latency {1e3 * (model.latency_samples / 8000 + 0.007):.1f} ms" in answer.err


def test_of_whole_files_the_batch_gives_the_same(usep: Usep, command: Usep) -> None:
    io.write("talk.wav", noise(9000), 8000, "FLOAT")
    assert usep("talk.wav", "-m", "convtasnet", "-o", "out", "--block-ms", "33").code == 0
    assert command("separate")("talk.wav", "-m", "convtasnet", "-o", "batch", "--rest", "leave").code == 0
    names = ["talk_1.wav", "talk_2.wav"]
    np.testing.assert_allclose(files(*(f"out/{n}" for n in names)), files(*(f"batch/{n}" for n in names)), atol=1e-5)


def test_another_rate_and_channels_go_through_a_named_pipe(usep: Usep) -> None:
    """Stereo at 16 kHz: what `Separator.live` gives, whose numbers are compared with the whole elsewhere."""
    wave = noise(2, 16000)
    os.mkfifo("in.fifo")
    Feeder("in.fifo", bytes_of(wave, "s24le"))
    answer = usep("in.fifo", "--pcm", "16000:2:s24le", "-m", "convtasnet", "-o", "out", "--residual", "--name", "{i}")
    assert answer.code == 0, answer.err
    live = Separator.load("convtasnet").live(16000, How("each", "source"))
    heard = pcm.Pcm(16000, 2, "s24le").decode(bytes_of(wave, "s24le"))
    want = np.concatenate([live.push(heard), live.finish()], axis=2)
    got = np.stack([io.read(f"out/{name}.wav")[0] for name in ("1", "2", "residual")])
    np.testing.assert_allclose(got, want, atol=1e-6)
    assert "2 channels, each separated by itself" in answer.err and "above 4 kHz is in the residual" in answer.err


class Reader(threading.Thread):
    """Reads a pipe to its end, or so many bytes of it."""

    def __init__(self, where: str, most: int = -1) -> None:
        super().__init__(daemon=True)
        self.where, self.most, self.data = where, most, b""
        self.start()

    def run(self) -> None:
        with open(self.where, "rb", buffering=0) as file:
            while (part := file.read(4096)) and not 0 <= self.most <= len(self.data):
                self.data += part


def test_pipes_get_raw_samples_of_one_source_and_of_all(usep: Usep, patience_s: int) -> None:
    io.write("talk.wav", noise(8000), 8000)
    for name in ("one", "all", "main"):
        os.mkfifo(name)
    readers = [Reader(name) for name in ("one", "all", "main")]
    words = ["--keep", "2", "--pipe", "1=one", "--pipe", "all=all", "--block-ms", "100"]
    answer = usep("talk.wav", "-m", "convtasnet", "-o", "main", *words)
    assert answer.code == 0 and not Path("outputs.csv").exists(), answer.err
    for reader in readers:
        reader.join(patience_s)
    one, both, main = (np.frombuffer(reader.data, "<i2") for reader in readers)
    want = pcm.codes(whole("convtasnet", io.read("talk.wav")[0][0]), 16)
    assert np.abs(one - want[0]).max() <= 1 and np.abs(main - want[1]).max() <= 1
    assert np.array_equal(both.reshape(-1, 2).T, np.stack([one, main]))
    assert "one: source 1 as raw samples: 8000 Hz, 1 channel, s16le" in answer.err


@pytest.mark.parametrize("code", ["s16be", "s24be", "f64be", "u8", "mulaw", "alaw"])
def test_a_pipe_gets_samples_as_they_came(
    usep: Usep, stdin: Callable[[bytes], None], patience_s: int, code: str
) -> None:
    sound = noise(4000)
    stdin(bytes_of(sound, code))
    os.mkfifo("main")
    reader = Reader("main")
    answer = usep("-", "--pcm", f"8000:1:{code}", "-m", "convtasnet", "--keep", "1", "-o", "main")
    assert answer.code == 0 and f"8000 Hz, 1 channel, {code}" in answer.err
    reader.join(patience_s)
    want = whole("convtasnet", pcm.decode(bytes_of(sound, code), code))[0]
    found = pcm.decode(reader.data, code)
    # Eight bits are steps of 1/128; a law's widest step is 1/32 of full scale.
    assert np.abs(found - want).max() < {"u8": 2 / 256, "mulaw": 1 / 32, "alaw": 1 / 32}.get(code, 2.0**-14)


def test_what_a_table_says_of_a_stream_is_what_its_files_hold(usep: Usep, stdin: Callable[[bytes], None]) -> None:
    stdin(bytes_of(40 * noise(8000)))
    answer = usep("-", "--pcm", "8000:1:f32le", "-m", "convtasnet", "-o", "out", "--subtype", "PCM_16")
    assert answer.code == 0 and "beyond full scale were limited" in answer.err
    for row in table():
        wave = io.read(Path("out", row["output"]))[0]
        assert float(row["peak"]) == pytest.approx(float(np.abs(wave).max()), abs=1e-4)
        assert float(row["level_db"]) == pytest.approx(10 * np.log10(np.square(wave, dtype=float).mean()), abs=0.051)


def test_a_reader_who_leaves_ends_its_pipe_and_not_the_files(usep: Usep) -> None:
    io.write("long.wav", noise(80000), 8000)
    os.mkfifo("pipe")
    Reader("pipe", 10)
    answer = usep("long.wav", "-m", "convtasnet", "-o", "out", "--pipe", "1=pipe", "--block-ms", "500")
    assert answer.code == 4 and "pipe: its reader has left" in answer.err
    assert io.info("out/long_1.wav").frames == io.info("out/long_2.wav").frames == 80000
    Reader("pipe", 10)
    answer = usep("long.wav", "-m", "convtasnet", "-o", "pipe", "--block-ms", "500")
    assert answer.code == 141 and answer.err.count("its reader has left") == 1


@pytest.mark.parametrize(
    ("words", "data", "code", "said"),
    [
        (["--pcm", "8000"], bytes(4001), 0, "ended inside a frame: 1 bytes"),
        (["--pcm", "8000:1:f32le"], bytes_of(noise(4000)) + b"\xff\xff\xff\x7f" * 9, 65, "after 0.500 s"),
        ([], b"", 65, "is empty"), (["--pcm", "8000"], b"", 65, "ended before the first sample"),
        ([], b"hello", 65, "begins with b'hell'"),
    ],
)  # fmt: skip
def test_what_ends_oddly_is_told_and_what_came_is_kept(
    usep: Usep, stdin: Callable[[bytes], None], words: list[str], data: bytes, code: int, said: str
) -> None:
    stdin(data)
    answer = usep("-", *words, "-m", "convtasnet", "-o", "out", "--block-ms", "5")
    assert answer.code == code and said in answer.err
    if len(data) > 5:
        assert io.info("out/stdin_1.wav").frames == io.info("out/stdin_2.wav").frames >= 2000
        assert len(table()) == 2
    else:
        assert not list(Path().glob("out/*.wav"))


def test_a_header_that_promises_more_is_told(usep: Usep, stdin: Callable[[bytes], None]) -> None:
    io.write("talk.wav", noise(8000), 8000)
    stdin(Path("talk.wav").read_bytes()[:-8000])
    answer = usep("-", "-m", "convtasnet", "-o", "out")
    assert answer.code == 0 and "standard input: 0.5 s shorter than its header says" in answer.err
    assert io.info("out/stdin_1.wav").frames == 4000


def test_what_is_not_for_commercial_use_is_said_live_too(usep: Usep, stdin: Callable[[bytes], None]) -> None:
    path = Path("models", "convtasnet.safetensors")
    card, _ = cards.read_card(path)
    card.licence = "CC BY-NC 4.0 (noises)"
    path.write_bytes(cards.with_card(path.read_bytes(), card))
    io.write("talk.wav", noise(800), 8000)
    stdin(Path("talk.wav").read_bytes())
    answer = usep("-", "-m", "convtasnet", "-o", "out")
    assert answer.code == 0
    assert "model convtasnet: Not for commercial use: what it learned from (CC BY-NC 4.0 (noises))." in answer.err


def test_nothing_is_written_over(usep: Usep) -> None:
    io.write("talk.wav", noise(4000), 8000)
    words = ["talk.wav", "-m", "convtasnet", "-o", "out", "--block-ms", "250"]
    assert usep(*words).code == 0
    before = Path("out/talk_1.wav").stat().st_ino
    answer = usep(*words)
    assert answer.code == 73 and "exists already" in answer.err and Path("out/talk_1.wav").stat().st_ino == before
    assert usep(*words, "--overwrite", "-q").code == 0
    assert len(table()) == 2
    answer = usep("talk.wav", "-m", "convtasnet", "-o", ".", "--name", "{stem}", "--overwrite")
    assert answer.code == 2


REFUSED = [
    (["-m", "default"], 2, "conformer_mask hears whole recordings, or looks ahead; models that can: convtasnet"),
    (["--report"], 2, "--report: takes whole recordings"), (["--channels", "x"], 2, "channel policy 'x'"),
    (["--rest", "share"], 2, "--rest share"), (["--format", "flac"], 2, "--format flac"),
    (["--pipe", "3=-"], 2, "a source of 1, 2, all"), (["--pipe", "1=none"], 2, "'none' is no pipe"),
    (["--subtype", "ULAW"], 2, "--subtype"), (["--block-ms", "2000"], 2, "--block-ms"),
    (["talk.wav"], 2, "hears one stream, found 2"), (["--keep", "3"], 2, "--keep 3"),
    (["--dry-run"], 0, ""), (["-o", "-", "--json"], 2, "--json: standard output carries the sound"),
    (["--clip", "error", "--subtype", "PCM_16"], 65, "would leave the range"),
]  # fmt: skip


def test_what_does_not_go_live_is_said_in_one_line(usep: Usep) -> None:
    io.write("talk.wav", 9 * noise(8000), 8000, "FLOAT")
    for words, code, said in REFUSED:
        given = words if "-m" in words else ["-m", "convtasnet", *words]
        answer = usep("talk.wav", *([] if "-o" in words else ["-o", "out"]), *given, "-q")
        assert answer.code == code and said in answer.err and len(answer.err.splitlines()) <= 1, words
        assert code == 65 or not list(Path().rglob("talk_*.wav"))


def test_options_of_streams_alone_need_live(command: Usep) -> None:
    answer = command("separate")("a.wav", "--pcm", "8000", "-o", "out")
    assert answer.code == 2 and "add --live" in answer.err


class Device:
    """A microphone in the place of PortAudio's, which gives 0.4 s in 10 ms blocks and then does as it is told."""

    class PortAudioError(Exception):
        pass

    def __init__(self, then: str) -> None:
        self.then, self.closed, self.asked = then, False, {}

    def check_input_settings(self, **asked: Any) -> None:
        if self.then == "rate":
            raise self.PortAudioError("Invalid sample rate")

    def query_devices(self, device: Any, kind: str) -> dict[str, float]:
        return {"default_samplerate": 16000.0}

    def InputStream(self, **asked: Any) -> Device:
        if self.then == "none":
            raise ValueError("No input device matching 'USB'")
        self.asked = asked
        return self

    @property
    def active(self) -> bool:
        if self.then == "break":
            raise self.PortAudioError("Device unavailable [PaErrorCode -9985]")
        return self.then != "vanish"

    def __enter__(self) -> None:
        size = self.asked["blocksize"]
        overflow = SimpleNamespace(input_overflow=True)
        for k in range(40):
            self.asked["callback"](np.full((size, 1), 0.1, np.float32), size, None, overflow if k == 3 else None)

    def __exit__(self, *fault: Any) -> None:
        pass

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("then", ["vanish", "break", "rate", "none", "stop"])
def test_a_microphone(usep: Usep, monkeypatch: pytest.MonkeyPatch, then: str) -> None:
    device = Device(then)
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    monkeypatch.setattr("usepcli.versions.lacking", lambda modules: [])
    if then in ("stop", "rate"):
        monkeypatch.setattr(Device, "active", property(lambda self: os.kill(os.getpid(), signal.SIGINT) or True))
    answer = usep("mic:USB", "-m", "convtasnet", "-o", "out")
    if then == "none":
        assert answer.code == 69 and "microphone USB: cannot be opened at 8000 Hz with 1 channels" in answer.err
        return
    assert device.closed and device.asked["device"] == "USB"
    rate = 16000 if then == "rate" else 8000
    assert io.info("out/mic_1.wav").frames == io.info("out/mic_2.wav").frames == 40 * round(rate * 0.01)
    assert io.info("out/mic_1.wav").rate == rate and "0.01 s came faster" in answer.err
    if then in ("vanish", "break"):
        said = "gives nothing any more" if then == "vanish" else "Device unavailable"
        assert answer.code == 74 and f"microphone USB: {said}" in answer.err
    else:
        assert answer.code == 130 and "usep: stopped by Ctrl-C: 0.40 s were heard, whole in out/mic_1.wav" in answer.err


def test_a_microphone_needs_its_package(usep: Usep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    answer = usep("mic:", "-m", "convtasnet", "-o", "out")
    assert answer.code == 69 and "pip install 'usepcli[live]'" in answer.err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_signals_leave_whole_files(usep: Usep, until: Usep, number: int, code: int) -> None:
    words = ["separate", "-", "--live", "--pcm", "8000", "-m", "convtasnet", "-o", "out"]
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-m", "usepcli", *words], stdin=pipe, stderr=pipe, bufsize=0) as run:
        assert run.stdin and run.stderr
        run.stdin.write(bytes_of(noise(16000), "s16le"))
        until(lambda: Path("out/stdin_2.wav").exists() and io.info("out/stdin_2.wav").frames > 8000)
        run.send_signal(number)
        said = run.stderr.read().decode()
        assert run.wait() == code and ("whole in out/stdin_1.wav" in said) == (code > 0)
    frames = [io.info(f"out/stdin_{k}.wav").frames for k in (1, 2)]
    assert frames[0] == frames[1] >= (16000 if code > 0 else 8000)
