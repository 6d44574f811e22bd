from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from usepcli.audio import io
from usepcli.errors import BadInput, UsageError, WorkerDied
from usepcli.models.separator import SeparationModel
from usepcli.separator.separator import How, Separation, Separator, Trace
from usepcli.weights import build
from usepcli.weights.store import Card

EDGE_HZ = 1000


class BandSplit(SeparationModel):
    """Two outputs, below and above 1 kHz, which sum to the input; given in a random order at every call."""

    def __init__(self, sample_rate: int = 8000, swap: bool = True) -> None:
        super().__init__(n_src=2, sample_rate=sample_rate, hop=64)
        self.draw = np.random.default_rng(0)
        self.swap, self.swaps, self.calls = swap, 0, 0
        self.largest = 10**9  # samples that "fit in memory"

    def estimate(self, mix: Tensor) -> Tensor:
        self.calls += 1
        if mix.shape[1] > self.largest:
            raise torch.OutOfMemoryError("too long")
        spectrum = torch.fft.rfft(mix)
        frequency = torch.fft.rfftfreq(mix.shape[1], 1 / self.sample_rate)
        low = torch.fft.irfft(spectrum * (frequency < EDGE_HZ), n=mix.shape[1])
        both = torch.stack([low, mix - low], 1)
        flips = self.draw.integers(0, 2, len(mix)) if self.swap else np.zeros(len(mix), int)
        self.swaps += int(flips.sum())
        return torch.stack([est.flip(0) if flip else est for est, flip in zip(both, flips, strict=True)])


class Leaky(BandSplit):
    """Two outputs that do not sum to the input: the model lacks consistency."""

    def __init__(self) -> None:
        super().__init__(swap=False)

    def estimate(self, mix: Tensor) -> Tensor:
        return super().estimate(mix) * torch.tensor([0.6, 0.9])[:, None]


def talkers(seconds: float, rate: int, pause_s: float, seed: int = 0) -> np.ndarray:
    """Two "talkers" (2, T), one below and one above 1 kHz, each with words and pauses of up to `pause_s`."""
    draw, count = np.random.default_rng(seed), int(seconds * rate)
    noise = np.fft.rfft(draw.standard_normal((2, count)))
    frequency = np.fft.rfftfreq(count, 1 / rate)
    noise[0, (frequency < 100) | (frequency > 900)] = 0
    noise[1, (frequency < 1100) | (frequency > 3500)] = 0
    waves = 0.3 * np.fft.irfft(noise, count) * [[1], [0.4]]
    for wave in waves:
        at = 0
        while at < count:
            at += int(draw.uniform(0.5, 3) * rate)
            stop = at + int(draw.uniform(0, pause_s) * rate)
            wave[at:stop] = 0
            at = stop
    return waves.astype(np.float32)


def test_every_swap_injected_between_chunks_is_repaired():
    true = talkers(240, 8000, pause_s=2.5)
    true[:, 8000 * 100 : 8000 * 103] = 0  # nobody speaks where two chunks meet
    model, trace = BandSplit(), Trace()
    found = np.concatenate(list(Separator(model, chunk_s=8).stream([true.sum(0)], 8000, trace=trace)), axis=1)
    seams = trace.seams
    assert model.swaps > 10  # of 34 chunks
    assert sum(seam.swapped for seam in seams) > 10
    order = [0, 1] if found[0] @ true[0] > found[1] @ true[0] else [1, 0]
    error = np.square(found[order] - true).reshape(2, 240, 8000).sum(2)
    power = np.square(true.sum(0)).reshape(240, 8000).sum(1).mean()
    assert (error < 0.05 * power).all()  # second by second: one swap left would show as an error of 1
    assert all(seam.lead > 0.05 for seam in seams)


def test_neighbour_rule_alone_would_fail_where_nobody_speaks_in_the_overlap(monkeypatch: pytest.MonkeyPatch):
    # The counterpart of the test above: without the memory of spectra the same signal does lose its order.
    from usepcli.separator import stitch

    true = talkers(160, 8000, pause_s=2.5)
    for seam in range(6, 160, 6):  # chunks of 8 s that overlap by 2 s
        true[:, 8000 * seam : 8000 * (seam + 2)] = 0
    kept = {}
    for weight in (0.0, stitch.VOICE_WEIGHT):
        monkeypatch.setattr(stitch, "VOICE_WEIGHT", weight)
        found = Separator(BandSplit(), chunk_s=8)(true.sum(0), 8000).sources
        error = np.square(found[:1] - true).reshape(2, 160, 8000).sum(2)
        place = error.argmin(0)[np.abs(error[0] - error[1]) > 1]  # where somebody speaks
        kept[weight] = max(place.mean(), 1 - place.mean())
    assert kept[0.0] < 0.9 and kept[stitch.VOICE_WEIGHT] == 1


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("length", [1, 2, 37, 1000, 100_003])
def test_length_is_exact_at_any_rate(rate: int, length: int):
    wave = np.random.default_rng(0).standard_normal(length).astype(np.float32) * 0.1
    result = Separator(BandSplit(), chunk_s=2)(wave, rate)
    assert isinstance(result, Separation) and result.rate == rate
    assert result.sources.shape == (2, length) and result.sources.dtype == np.float32
    assert np.isfinite(result.sources).all()


@pytest.mark.parametrize("shape", [(30_000,), (1, 30_000), (2, 30_000), (3, 9)])
def test_sources_add_up_to_the_input_and_keep_its_shape(shape: tuple[int, ...]):
    wave = 0.1 * np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    sources = Separator(BandSplit(), chunk_s=1)(wave, 8000).sources
    assert sources.shape == (2, *shape)
    np.testing.assert_allclose(sources.sum(0), wave, atol=1e-6)


def test_what_is_left_out_is_what_lies_above_the_models_band():
    rate, t = 44_100, np.arange(44_100 * 5) / 44_100
    inside = 0.3 * np.sin(2 * np.pi * 440 * t) + 0.2 * np.sin(2 * np.pi * 2500 * t)
    wave = (inside + 0.2 * np.sin(2 * np.pi * 9000 * t)).astype(np.float32)
    trace = Trace()
    total = Separator(BandSplit(), chunk_s=2)(wave, rate, How(rest="leave"), trace).sources.sum(0)
    middle = slice(2000, -2000)  # the filters ring where the signal starts and ends at once
    np.testing.assert_allclose(total[middle], inside[middle], atol=1e-3)
    assert trace.null.db == pytest.approx(10 * np.log10(0.2**2 / (0.3**2 + 0.2**2 + 0.2**2)), abs=0.05)
    rest = Separator(BandSplit(), chunk_s=2)(wave, rate, How(rest="source")).sources[2]
    np.testing.assert_allclose(rest[middle], (wave - inside)[middle], atol=1e-3)


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 48_000, 6000])
@pytest.mark.parametrize("channels", ["linked", "each", "mix", "first"])
@pytest.mark.parametrize("leaky", [False, True])
def test_sources_add_up_to_the_input_at_every_rate(rate: int, channels: str, leaky: bool):
    draw, how = np.random.default_rng(3), How(channels)
    wave = np.clip(0.3 * draw.standard_normal((2, 3 * rate + 17)), -1, 1).astype(np.float32)
    wave[:, rate : 2 * rate] = 0
    trace = Trace()
    separator = Separator(Leaky() if leaky else BandSplit(), chunk_s=1)
    sources = separator(wave, rate, how, trace).sources
    target = {"mix": wave.mean(0, keepdims=True), "first": wave[:1]}.get(channels, wave)
    assert sources.shape == (2, separator.channels_out(2, how), wave.shape[1]) and sources.dtype == np.float32
    assert np.abs(sources.sum(0, dtype=np.float64) - target).max() < 1e-6
    assert trace.null.peak < 1e-6 and trace.null.db < -120 and trace.null.count == target.size
    three = separator(wave, rate, How(channels, "source")).sources
    assert len(three) == len(separator.names(How(channels, "source"))) == 3
    assert np.abs(three.sum(0, dtype=np.float64) - target).max() < 1e-6


@pytest.mark.parametrize("level", [1e-20, 1e-6, 1e6, 1e20])
def test_extreme_levels_come_out_as_usual_ones_do(level: float):
    wave = talkers(3, 8000, 0.5)
    usual = Separator(Leaky(), chunk_s=2)(wave, 16_000).sources
    found = Separator(Leaky(), chunk_s=2)((wave * np.float64(level)).astype(np.float32), 16_000).sources
    np.testing.assert_allclose(found / level, usual, atol=1e-4)


def test_the_highs_go_to_the_talker_who_speaks():
    rate, t = 16_000, np.arange(16_000 * 4) / 16_000
    low, high = 0.2 * np.sin(2 * np.pi * 500 * t), 0.1 * np.sin(2 * np.pi * 3300 * t)
    low[2 * rate :] = 0
    high[: 2 * rate] = 0
    air = 0.05 * np.sin(2 * np.pi * 6000 * t)  # above what the model hears
    sources = Separator(BandSplit(swap=False), chunk_s=2)((low + high + air).astype(np.float32), rate).sources
    part = [sources[:, a * rate // 4 : b * rate // 4] for a, b in ((1, 7), (9, 15))]
    spectra = [np.abs(np.fft.rfft(p * np.hanning(p.shape[1])))[:, p.shape[1] * 6000 // rate] for p in part]
    assert spectra[0][0] > 30 * spectra[0][1] and spectra[1][1] > 30 * spectra[1][0]


def test_a_silent_source_and_a_silent_stretch_stay_exactly_silent():
    wave = (0.2 * np.sin(2 * np.pi * 500 * np.arange(20_000) / 8000)).astype(np.float32)

    class OnlyOne(BandSplit):
        def estimate(self, mix: Tensor) -> Tensor:
            return torch.stack([0.7 * mix, 0 * mix], 1)

    for rate, shape in itertools.product((8000, 16_000), (1, 2)):
        stereo = np.stack([wave, 0.5 * np.roll(wave, 3)])[:shape]
        sources = Separator(OnlyOne(), chunk_s=1)(stereo, rate).sources
        assert not sources[1].any() and np.abs(sources[0] - stereo).max() < 1e-6
    assert not Separator(OnlyOne())(0 * wave, 44_100).sources.any()


@pytest.mark.parametrize("blocks", [[1] * 50, [8000] * 9, [72_000], [0, 5, 0, 71_995]])
@pytest.mark.parametrize("rate", [8000, 22_050])
def test_blocks_of_any_size_give_what_the_whole_gives(blocks: list[int], rate: int):
    wave = talkers(sum(blocks) / 8000, 8000, 1.0).sum(0)[: sum(blocks)]
    separator = Separator(BandSplit(swap=False), chunk_s=2)
    edges = np.cumsum([0, *blocks])
    pieces = list(separator.stream((wave[a:b] for a, b in itertools.pairwise(edges)), rate))
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), separator(wave, rate).sources, atol=1e-6)


def test_stream_gives_sources_while_it_goes_and_holds_no_more_than_a_chunk_back():
    given = taken = 0

    def live() -> Iterator[np.ndarray]:
        nonlocal taken
        for _ in range(60):
            taken += 4000
            yield np.full(4000, 0.1, np.float32)
            assert taken - given <= 2 * 8000 + 4000

    for piece in Separator(BandSplit(), chunk_s=2).stream(live(), 8000):
        given += piece.shape[-1]
    assert given == taken == 240_000


def test_torch_in_torch_out():
    wave = torch.randn(2, 5000) * 0.1
    sources = Separator(BandSplit(swap=False))(wave, 8000).sources
    assert isinstance(sources, Tensor) and sources.shape == (2, 2, 5000)
    np.testing.assert_array_equal(sources.numpy(), Separator(BandSplit(swap=False))(wave.numpy(), 8000).sources)


def test_a_source_keeps_its_place_in_the_stereo_image():
    true = talkers(40, 8000, 1.0)
    stereo = np.stack([0.9 * true[0] + 0.1 * true[1], np.roll(0.2 * true[0] + 0.8 * true[1], 20)])
    # (N, C, T), random order per channel and chunk
    found = Separator(BandSplit(), chunk_s=5)(stereo, 8000, How("each")).sources
    level = np.sqrt(np.square(found).mean(2))  # (N, C)
    low = int(np.argmax(level[:, 0]))
    assert level[low, 0] / level[low, 1] == pytest.approx(4.5, rel=0.05)
    assert level[1 - low, 0] / level[1 - low, 1] == pytest.approx(1 / 8, rel=0.05)


def test_equal_channels_cost_one_pass_and_silent_ones_none():
    model = BandSplit()
    wave = talkers(4, 8000, 0.5).sum(0)
    mono = Separator(BandSplit())(wave, 8000).sources
    found = Separator(model)(np.stack([wave, wave, 0 * wave]), 8000).sources
    assert model.calls == 1
    np.testing.assert_allclose(np.sort(found[:, 0], axis=0), np.sort(mono, axis=0), atol=1e-6)
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    assert not found[:, 2].any()


@pytest.mark.parametrize("name", ["conformer_mask", "convtasnet"])
@pytest.mark.parametrize("length", [1, 5, 100, 9000])
def test_real_models_take_silence_single_samples_and_constants(name: str, length: int):
    model = build.model({"name": name, "preset": "tiny", "n_src": 2, "sample_rate": 8000})
    separator = Separator(model)
    assert not separator(np.zeros(length), 8000).sources.any()
    for rate in (8000, 44_100):
        found = separator(np.full(length, 0.25), rate).sources
        assert found.shape == (2, length) and np.isfinite(found).all()


def test_out_of_memory_halves_the_chunk_and_changes_nothing_else():
    wave = talkers(12, 8000, 0.5).sum(0)
    model = BandSplit()
    model.largest = 20_000
    found = Separator(model, chunk_s=8)(wave, 8000).sources
    np.testing.assert_allclose(found.sum(0), wave, atol=1e-5)
    assert found.shape == (2, len(wave))
    model.largest = 100
    with pytest.raises(WorkerDied, match="out of memory even for one second"):
        Separator(model, chunk_s=8)(wave, 8000)


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (np.zeros(0), "without samples"),
        (np.zeros((2, 0)), "without samples"),
        (np.zeros((1, 2, 3)), "shape"),
        (np.zeros(9, np.int16), "floating point"),
        (np.zeros((800, 2)), r"800 channels with 2 samples.*wave\.T"),
        (np.array([0.0, np.nan]), "NaN"),
        (np.array([0.0, np.inf]), "NaN or infinite"),
        ([0.0, 0.1], "of type list; expected an array"),
        (np.array(0.5), "expected an array"),
    ],
)
def test_what_cannot_be_separated_is_refused(wave: np.ndarray, message: str):
    with pytest.raises(BadInput, match=message):
        Separator(BandSplit())(wave, 8000)


def test_blocks_may_not_change_their_channels():
    blocks = [np.zeros((1, 5)), np.zeros((2, 5))]
    with pytest.raises(BadInput, match="2 channels after blocks of 1"):
        list(Separator(BandSplit()).stream(blocks, 8000))


def test_chunks_under_a_second_are_refused():
    with pytest.raises(UsageError, match=r"--chunk-s: found 0\.5; expected 1 to"):
        Separator(BandSplit(), chunk_s=0.5)


def test_file_equals_waveform(tmp_path):
    wave = talkers(9, 8000, 0.5).sum(0)
    io.write(tmp_path / "x.wav", wave, 8000, "FLOAT")
    separator, seen = Separator(BandSplit(swap=False), chunk_s=2), []
    pieces = separator.file(
        tmp_path / "x.wav", watch=lambda blocks, total, name: (seen.append((total, name)), blocks)[1]
    )
    np.testing.assert_array_equal(np.concatenate(list(pieces), axis=2)[:, 0], separator(wave, 8000).sources)
    assert seen == [(3, "x.wav")]


def test_load_reads_a_model_file_and_the_package_offers_it(tmp_path):
    import usepcli
    from usepcli.weights import cards, store

    model = build.model({"name": "conformer_mask", "preset": "tiny", "n_src": 2, "sample_rate": 8000})
    card = cards.Card(name="toy", model=model.config, sample_rate=8000, n_src=2)
    store.save_model(tmp_path / "toy.safetensors", model.state_dict(), card)
    separator = usepcli.Separator.load(tmp_path / "toy.safetensors", device="cpu")
    wave = talkers(1, 8000, 0.5).sum(0)
    np.testing.assert_allclose(separator(wave, 8000).sources, Separator(model)(wave, 8000).sources, atol=1e-6)
    assert separator.card.name == "toy" and separator.n_src == 2 and separator.rate == 8000


def test_a_batch_gives_what_single_calls_give_in_fewer_passes():
    draw = np.random.default_rng(5)
    waves = [0.1 * draw.standard_normal(n).astype(np.float32) for n in (5000, 40_000, 5000, 333)]
    waves.append(0.1 * draw.standard_normal((2, 25_000)).astype(np.float32))
    model = BandSplit(swap=False)
    separator = Separator(model, chunk_s=2)
    alone = [separator(wave, 8000).sources for wave in waves]
    single, model.calls = model.calls, 0
    for one, together in zip(alone, separator.batch(waves, 8000), strict=True):
        np.testing.assert_allclose(together.sources, one, atol=1e-6)
    assert model.calls == 3 < single  # lengths 333, 5000 and the chunk
    tensors = separator.batch([torch.from_numpy(waves[0])], 8000)
    assert isinstance(tensors[0].sources, Tensor)


def test_a_cpu_that_cannot_allocate_is_treated_like_a_full_gpu():
    class Full(BandSplit):
        def estimate(self, mix: Tensor) -> Tensor:
            if mix.numel() > 9000:
                raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
            return super().estimate(mix)

    wave = talkers(5, 8000, 0.5).sum(0)
    found = Separator(Full(swap=False), chunk_s=4)(np.stack([wave, -0.5 * wave]), 8000, How("each")).sources
    np.testing.assert_allclose(found.sum(0), np.stack([wave, -0.5 * wave]), atol=1e-6)

    class Broken(BandSplit):
        def estimate(self, mix: Tensor) -> Tensor:
            raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        Separator(Broken())(wave, 8000)


def test_the_model_decides_on_the_chunk_within_bounds():
    def card(segment_s: float) -> Card:
        return Card(profile={"data": {"segment_s": segment_s}})

    found = {s: Separator(BandSplit(), card(s)).chunk_s for s in (0.5, 3.0, 100.0)}
    assert found[0.5] < found[3.0] == 10 < found[100.0] <= 16
    assert Separator(BandSplit()).chunk_s == 10  # nothing known


@pytest.mark.parametrize("bad", [{"channels": "both"}, {"rest": "lost"}])
def test_unknown_policies_are_refused(bad: dict[str, str]):
    with pytest.raises(UsageError, match="choose from"):
        How(**bad)


@pytest.mark.parametrize("rate", [8000, 16_000, 48_000])
def test_a_stream_of_tensors_stays_within_its_latency(rate: int):
    separator, given = Separator(BandSplit(swap=False), chunk_s=1), 0
    taken = 0

    def live() -> Iterator[Tensor]:
        nonlocal taken
        for _ in range(100):
            taken += rate // 20
            yield torch.full((rate // 20,), 0.1)
            assert taken - given <= separator.latency_s * rate + rate // 20

    for piece in separator.stream(live(), rate):
        given += piece.shape[-1]
    assert given == taken


def test_a_long_stream_gives_the_heap_back_every_two_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    from usepcli import device

    released: list[int] = []
    monkeypatch.setattr(device, "release_heap", lambda: released.append(1))
    separator = Separator(build.model({"name": "convtasnet", "preset": "tiny", "n_src": 2, "sample_rate": 200}))
    for piece in separator.stream((np.zeros((1, 2000), np.float32) for _ in range(50)), 200):
        assert len(piece) == 2
    assert len(released) == 3  # 500 s of sound; the first 130 s pass before the first
