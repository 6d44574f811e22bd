"""The contract of blocks: every registered model that says it is live gives the whole signal's estimates in time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from usepcli import registry
from usepcli.errors import BadInput, ConfigError
from usepcli.models import streaming
from usepcli.models.streaming import Streaming

PARTS = Path(__file__).resolve().parents[1] / "parts"
CAUSAL = {"causal": True, "input_norm": "none"}
LARGEST = 10_000_000
# What a causal model may need besides, and what changes its framing.
TRIED = [{}, {"norm": "channel"}, {"norm": "cumln"}]
VARIANTS = {
    "band_path": [{**CAUSAL, "mask": "sigmoid", "n_fft": 64, "win": 40, "hop": 16, "window": "hann"}],
    "conformer_mask": [
        {**CAUSAL, "look_back": 3}, {**CAUSAL, "look_back": 40, "levelled": True, "mask": "sigmoid", "max_offset": 9},
        {**CAUSAL, "look_back": 5, "conv": "scalar", "n_src": 3, "consistency": "none", "win": 40, "hop": 16},
    ],
    "convtasnet": [
        {**CAUSAL, "norm": "cumln", "padding": "none", "skip": 0, "stride": 4},
        {**CAUSAL, "norm": "channel", "stride": 16, "consistency": "none", "n_src": 3},
    ],
    "dprnn": [
        {**CAUSAL, "norm": "channel", "rnn": "gru", "padding": "none", "chunk_hop": 5},
        {**CAUSAL, "norm": "channel", "kernel": 2, "chunk": 7, "chunk_hop": 7, "layers": 2, "rnn": "rnn"},
        {**CAUSAL, "norm": "none", "path": "gated", "kernel": 4, "output": "direct", "dim": 24},
    ],
    "tasnet": [{**CAUSAL, "stride": 3, "mask": "sigmoid", "n_src": 3}],
    "upit": [{**CAUSAL, "stages": 2, "mask": "tanh", "n_src": 3}, {**CAUSAL, "levelled": True}],
}  # fmt: skip


def build(name, preset="tiny", **options):
    torch.manual_seed(0)
    cls = registry.load("model", name)
    return cls(**{**cls.PRESETS[preset], **options}).eval()


def found():
    """Yield (name, preset, options) of all registered models that say they are live."""
    for name in registry.UNASKED:
        tries = [("tiny", {**CAUSAL, **more}) for more in TRIED]
        tries += [(preset, {}) for preset in registry.load("model", name).PRESETS]
        for preset, options in tries:
            try:
                with torch.device("meta"):
                    made = build(name, preset, **options)
            except (ConfigError, TypeError):
                continue
            # Larger ones are the same layers, and take seconds for each test.
            if made.live and made.n_params < LARGEST:
                yield name, preset, options
    yield from ((name, "tiny", options) for name, many in VARIANTS.items() for options in many)
    yield "recurrent_net", "tiny", {}


CASES = list(found())
over = pytest.mark.parametrize(
    ("name", "preset", "options"), CASES, ids=["-".join(map(str, (n, p, *o.values()))) for n, p, o in CASES]
)


@pytest.fixture(autouse=True)
def _one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PARTS))
    monkeypatch.setitem(registry.MODELS, "recurrent_net", "recurrent_net:RecurrentNet")


def in_blocks(model, mix, sizes):
    """Return the estimates of mix (B, T) in blocks of these sizes, the rest in one, joined."""
    state, pieces, at = model.begin(len(mix)), [], 0
    for size in [*sizes, mix.shape[1]]:
        est, state = model.step(mix[:, at : at + size], state)
        pieces.append(est)
        at += size
    return torch.cat([*pieces, model.finish(state)], -1)


def test_the_models_that_should_be_live_are_found():
    assert {name for name, _, _ in CASES} == {
        "band_path",
        "chimera",
        "conformer_mask",
        "convtasnet",
        "dprnn",
        "recurrent_net",
        "tasnet",
        "upit",
    }
    assert ("convtasnet", "causal", {}) in CASES


@over
@torch.no_grad()
def test_blocks_of_any_length_give_the_whole(name, preset, options):
    model = build(name, preset, **options)
    draw = torch.Generator().manual_seed(1)
    for length in (1, 7, 8, 64, 65, 700) if preset == "tiny" else (65, 300):
        mix = torch.randn(2, length, generator=draw) * torch.tensor([[0.05], [1.0]])
        want = model(mix)
        for longest in (2, 50, 300) if length > 100 else (2, 40):
            sizes = torch.randint(0, longest, (2 * length // longest + 1,), generator=draw).tolist()
            est = in_blocks(model, mix, sizes)
            assert est.shape == want.shape and est.dtype == torch.float32
            for got, whole in zip(est, want, strict=True):
                assert (got - whole).abs().max() <= 1e-5 * whole.abs().max()


@over
@torch.no_grad()
def test_every_estimate_comes_at_the_latency_and_no_later(name, preset, options):
    model = build(name, preset, **options)
    mix, state, given, waits = torch.randn(1, 400), model.begin(1), 0, []
    for heard in range(1, 401):
        est, state = model.step(mix[:, heard - 1 : heard], state)
        given += est.shape[-1]
        waits.append(heard - given)
    assert max(waits) == model.latency_samples - 1
    assert model.finish(state).shape[-1] == 400 - given


@over
@torch.no_grad()
def test_the_future_changes_nothing_that_was_given(name, preset, options):
    model = build(name, preset, **options)
    mix = torch.randn(1, 600)
    est, state = model.step(mix[:, :450], model.begin(1))
    assert est.shape[-1] > 450 - model.latency_samples
    other = mix.clone()
    other[:, 450:] = 5 * torch.randn(1, 150)
    torch.testing.assert_close(model(other)[..., : est.shape[-1]], est, atol=1e-5, rtol=0)
    # The other way round: what was not given does change, so it could not have come earlier.
    assert (model(other) - model(mix))[..., est.shape[-1] : 450].abs().max() > 1e-4
    # The state is a value: it can be used again, and nothing in the model remembers.
    first, _ = model.step(mix[:, 450:], state)
    model.step(other[:, 450:], state)
    again, _ = model.step(mix[:, 450:], state)
    assert torch.equal(first, again)


@over
@torch.no_grad()
def test_the_state_does_not_grow_and_survives_being_taken_apart(name, preset, options):
    model = build(name, preset, **options)
    state, stride, sizes = model.begin(1), model.live_stride, []
    for number in range(8 + 2 * model.latency_samples // stride):
        est, state = model.step(torch.randn(1, stride), state)
        sizes.append({key: tuple(value.shape) for key, value in streaming.named(state)})
        assert number < 4 + model.latency_samples // stride or est.shape[-1] == stride
    assert sizes[-1] == sizes[-2] == sizes[-4] and len(sizes[-1]) == len(list(streaming.named(state)))
    mix = torch.randn(1, 3 * stride)
    rebuilt = streaming.refilled(state, iter([value.clone() for _, value in streaming.named(state)]))
    assert torch.equal(model.step(mix, rebuilt)[0], model.step(mix, state)[0])


@pytest.mark.parametrize("name", registry.UNASKED)
def test_a_model_that_is_not_live_says_what_to_set(name):
    model = build(name, input_norm="std")
    assert not model.live
    with pytest.raises(ConfigError, match="no live separation: ") as raised:
        model.begin(1)
    said = str(raised.value)
    assert "\n" not in said
    if type(model).advance is Streaming.advance:  # no blocks at all
        assert "hears whole signals only" in said
    else:
        assert "model.causal is false" in said and "model.input_norm 'std'" in said


def test_frames_before_the_signal_are_refused():
    model = build("convtasnet", **CAUSAL, norm="cumln", padding="both")
    with pytest.raises(ConfigError, match=r"model\.padding 'both'"):
        model.begin(1)


def test_wrong_blocks_and_empty_streams_are_refused():
    model = build("convtasnet", **CAUSAL, norm="cumln")
    state = model.begin(2)
    for wrong in (torch.zeros(9), torch.zeros(1, 9), torch.zeros(2, 1, 9)):
        with pytest.raises(BadInput, match=r"expected \(2, samples\)"):
            model.step(wrong, state)
    with pytest.raises(BadInput, match="without samples"):
        model.finish(model.step(torch.zeros(2, 0), state)[1])
    with pytest.raises(BadInput, match="0 streams"):
        model.begin(0)


@torch.no_grad()
def test_a_long_stream_stays_exact():
    model = build("convtasnet", **CAUSAL, norm="cumln", blocks=2, repeats=1)
    mix = torch.randn(1, 120_000)
    est = in_blocks(model, mix, [997] * 130)
    assert (est - model(mix)).abs().max() <= 1e-5 * est.abs().max()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@over
@torch.no_grad()
def test_blocks_on_a_gpu_give_the_whole(name, preset, options):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    model = build(name, preset, **options).cuda()
    mix = torch.randn(2, 900, device="cuda")
    est, want = in_blocks(model, mix, [1, 0, 40, 300, 7, 200]), model(mix)
    assert est.is_cuda and (est - want).abs().max() <= 1e-4 * want.abs().max()
