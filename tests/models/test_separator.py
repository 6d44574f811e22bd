"""The contract that every registered model keeps, on its tiny preset and its variants."""

from __future__ import annotations

import inspect

import pytest
import torch

from usepcli import registry
from usepcli.errors import BadInput, ConfigError
from usepcli.models.mapped import MappedModel
from usepcli.models.separator import SeparationModel
from usepcli.models.sepreformer import SepReformer
from usepcli.models.stem_bag import StemBag
from usepcli.profile.signature import signature

CAUSAL = {"causal": True, "input_norm": "none"}
VARIANTS = {
    "band_path": [{"mask": "sigmoid"}, CAUSAL],
    "conformer_mask": [
        CAUSAL, {**CAUSAL, "look_back": 4, "levelled": True},
        {"mask": "sigmoid", "conv": "scalar", "activation": "relu", "features": "magnitude"},
    ],
    "convtasnet": [
        {**CAUSAL, "norm": "cumln"}, {"mask": "relu"}, {**CAUSAL, "norm": "channel", "padding": "none", "skip": 0},
        {"mask": "softmax", "padding": "both", "activation": "linear", "stride": 4},
    ],
    "dprnn": [
        {**CAUSAL, "norm": "channel"},
        {"mask": "relu", "rnn": "gru", "padding": "none", "chunk_hop": 5, "bidirectional": False},
        {**CAUSAL, "path": "gated", "norm": "none"}, {"path": "dptnet", "heads": 2},
        {"path": "dptnet_rows", "heads": 2, "bottleneck": False, "dim": 24},
        {**CAUSAL, "path": "gated", "norm": "none", "kernel": 4, "output": "direct", "dim": 24},
    ],
    "sudormrf": [
        {"variant": "original", "activation": "relu", "decoder": "each", "mask": "softmax"},
        {"groups": 4, "decoder": "shared", "depth": 1}, {"slopes": "each", "decoder": "shared", "unit": 4},
    ],
    "tasnet": [
        CAUSAL, {"mask": "relu", "stride": 5, "layers": 3},
        {"mask": "sigmoid", "stride": 4, "norm": "gln", "skips": False, "padding": "none"},
        {**CAUSAL, "mask": "sigmoid", "stride": 4, "norm": "cumln", "skips": False, "padding": "none"},
    ],
    "dcunet": [
        {"padding": "none", "bound": "sigmoid"},
        {"layers": [[8, 5, 2, 2, 1], [8, 5, 2, 2, 1]], "hidden": 4, "nyquist": False, "activation": "prelu"},
    ],
    "upit": [
        {**CAUSAL, "stages": 2, "mask": "softmax", "levelled": True},
        {"mask": "tanh", "features": "magnitude", "stages": 2},
    ],
    "tdcnpp": [{"encoder": "stft", "n_fft": 64, "win": 64, "hop": 16, "final_dense": False}],
    "mossformer2": [{"mask": "sigmoid", "padding": "none", "stride": 4}],
    "chimera": [CAUSAL, {"mask": "sigmoid", "embedding": 2}, {"separate_by": "clusters"}],
    "tfgridnet": [
        {"stride": 4, "win": 50, "hop": 25}, {"margins": False, "edges": "reflect"},
    ],
    "sepreformer": [{"splits": "each", "padding": "none"}],
    "tflocoformer": [{"width": 8, "edges": "reflect"}],
    "tiger": [{"edges": "reflect"}],
}  # fmt: skip
CASES = [(name, {}) for name in registry.UNASKED] + [(n, o) for n, many in VARIANTS.items() for o in many]
CAUSAL_CASES = [(name, options) for name, options in CASES if options.get("causal")]


def build(name, **options):
    torch.manual_seed(0)
    cls = registry.load("model", name)
    return cls(**{**cls.PRESETS["tiny"], **options}).eval()


def over(cases):
    return pytest.mark.parametrize(
        ("name", "options"), cases, ids=[f"{n}-{'-'.join(map(str, o.values()))}".strip("-") for n, o in cases]
    )


@over(CASES)
@torch.no_grad()
def test_any_length_in_the_same_length_out(name, options):
    model = build(name, **options)
    for length in (1, 2, 7, 63, 64, 65, 1000, 8001):
        mix = torch.randn(2, length)
        kept = mix.clone()
        est = model(mix)
        assert est.shape == (2, model.n_src, length) and est.dtype == torch.float32
        assert est.isfinite().all()
        assert torch.equal(mix, kept)


@pytest.mark.parametrize("name", registry.UNASKED)
def test_a_few_steps_reduce_the_loss(name):
    model = build(name).train()
    time = torch.arange(1000) / 8000
    sources = torch.stack([torch.sin(2 * torch.pi * f * time) for f in (500.0, 2500.0)])[None]
    sources = torch.nn.functional.pad(sources, (0, 0, 0, model.n_src - 2))
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(25):
        loss = (model(sources.sum(1)) - sources).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@over(CASES)
@torch.no_grad()
def test_accepted_shapes_agree_and_others_are_refused(name, options):
    model = build(name, **options)
    mix = torch.randn(1, 500)
    want = model(mix)
    assert torch.equal(model(mix[0]), want)
    assert torch.equal(model(mix[:, None]), want)
    for wrong in (torch.zeros(2, model.channels + 1, 50), torch.zeros(1, 0), torch.zeros(())):
        with pytest.raises(BadInput, match="shape"):
            model(wrong)


@over(CASES)
@torch.no_grad()
def test_an_item_alone_equals_the_item_in_a_batch(name, options):
    model = build(name, **options)
    mix = torch.randn(3, 1500) * torch.tensor([[0.01], [1.0], [10.0]])
    together = model(mix)
    for item in range(3):
        alone = model(mix[item])[0]
        # A batch is summed in another order: n times eps for the longest sums, those over the whole length.
        off = mix.shape[1] * torch.finfo(torch.float32).eps * float(mix[item].abs().max())
        torch.testing.assert_close(together[item], alone, atol=off, rtol=0)


@over(CASES)
@torch.no_grad()
def test_silence_and_constants_stay_finite(name, options):
    model = build(name, **options)
    for level in (0.0, 1e-6, 0.3, 30.0):
        assert model(torch.full((1, 700), level)).isfinite().all()


@over(CASES)
def test_gradients_are_finite_even_for_silence(name, options):
    model = build(name, **options).train()
    mix = torch.randn(2, 800)
    mix[1] = 0
    parts = model.parts(mix)
    known = 0.0 if parts.embeddings is None else parts.embeddings.sum()
    (parts.waves.square().sum() + known).backward()
    grads = [p.grad for p in model.parameters()]
    assert all(g is not None and g.isfinite().all() for g in grads)
    assert sum(float(g.abs().sum()) for g in grads) > 0


@over(CASES)
@torch.no_grad()
def test_evaluation_is_deterministic_and_weights_are_the_whole_state(name, options):
    model, mix = build(name, **options), torch.randn(1, 900)
    want = model(mix)
    assert torch.equal(model(mix), want)
    torch.manual_seed(5)
    cls = registry.load("model", name)
    other = cls(**{**cls.PRESETS["tiny"], **options}).eval()
    assert not torch.allclose(other(mix), want)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(mix), want)


@over(CASES)
@pytest.mark.parametrize("kind", ["uniform", "magsq", "learned"])
@torch.no_grad()
def test_consistency_sums_to_the_mixture(name, options, kind):
    if options.get("causal") and kind != "uniform":
        pytest.skip("refused for causal models, tested below")
    model, mix = build(name, **options, consistency=kind, consistency_when="always"), torch.randn(2, 1200)
    torch.testing.assert_close(model(mix).sum(1), mix, atol=1e-5, rtol=0)


@over([case for case in CASES if not case[1].get("causal")])
def test_learned_shares_start_uniform_and_are_learned(name, options):
    kinds = ({**options, "consistency": kind, "consistency_when": "always"} for kind in ("uniform", "learned"))
    plain, learned = (build(name, **kind).train() for kind in kinds)
    learned.load_state_dict(plain.state_dict(), strict=False)
    mix = torch.randn(2, 1200)
    assert learned.n_params > plain.n_params
    with torch.no_grad():
        torch.testing.assert_close(learned(mix), plain(mix), atol=1e-6, rtol=1e-5)
    (learned(mix)[:, 0] ** 2).sum().backward()
    assert learned.shares.weight.grad.abs().sum() > 0


@over(CASES)
@torch.no_grad()
def test_parts_are_what_the_estimates_were_made_from(name, options):
    model, mix = build(name, **options, consistency="none"), torch.randn(2, 900)
    found = model.parts(mix)
    assert torch.equal(found.waves, model(mix))
    if options.get("output") == "direct":
        assert found.masks is None and found.spectrum is None
        return
    if isinstance(model, (MappedModel, StemBag, SepReformer)):
        assert found.masks is None and found.spectrum is None
        return
    batch, n_src, rows, frames = found.masks.shape
    assert (batch, n_src) == (2, model.n_src) and found.spectrum.shape == (2, rows, frames)
    level = model.input_level(mix)[1] if model.input_norm != "none" else torch.ones(2, 1)
    transform = getattr(model, "stft", None) or model.basis
    inverse = getattr(transform, "inverse", None) or transform.synthesise
    waves = inverse(found.masks * found.spectrum[:, None], mix.shape[-1]) * level[:, None]
    torch.testing.assert_close(waves, found.waves, atol=1e-5, rtol=1e-5)


@over([case for case in CASES if not case[1].get("causal")])
@pytest.mark.parametrize("norm", ["std", "sample_std", "mean_std"])
@torch.no_grad()
def test_gain_passes_through(name, options, norm):
    model, mix = build(name, **options, input_norm=norm), torch.randn(2, 1200)
    for gain in (1e-3, 300.0):
        torch.testing.assert_close(model(gain * mix) / gain, model(mix), atol=1e-4, rtol=1e-3)


@over(CASES)
@torch.no_grad()
def test_bfloat16_autocast_stays_near_and_returns_float32(name, options):
    model, mix = build(name, **options), torch.randn(2, 1200)
    with torch.autocast("cpu", torch.bfloat16):
        near = model(mix)
    assert near.dtype == torch.float32
    want = model(mix)
    assert (near - want).square().mean() < 1e-3 * want.square().mean()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@over(CASES)
def test_a_gpu_agrees_in_output_and_gradient(name, options):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    here, there = build(name, **options).train(), build(name, **options).train().cuda()
    # Frame counts around multiples of 8, to which GPU attention aligns its rows.
    for length in (1, 65, 500, 1000, 4001):
        mix = torch.randn(2, length)
        outputs = [model(mix.to(next(model.parameters()).device)) for model in (here, there)]
        torch.testing.assert_close(outputs[1].cpu(), outputs[0], atol=1e-3, rtol=1e-3)
        for model, output in zip((here, there), outputs, strict=True):
            model.zero_grad()
            output.square().sum().backward()
        for ours, theirs in zip(here.parameters(), there.parameters(), strict=True):
            near = 1e-2 * float(ours.grad.abs().max()) + 1e-3
            torch.testing.assert_close(theirs.grad.cpu(), ours.grad, atol=near, rtol=0)
    with torch.autocast("cuda", torch.bfloat16):
        assert there(torch.randn(2, 4001, device="cuda")).isfinite().all()


def changed_before(model, start, length=2000):
    """Return how many samples before `start` see a change of the input from `start` on (0: none)."""
    mix = torch.randn(1, length, generator=torch.Generator().manual_seed(1))
    other = mix.clone()
    other[:, start:] = 5 * torch.randn(1, length - start)
    moved = ((model(mix) - model(other)).abs() > 1e-5).any(1)[0].nonzero()
    return start - int(moved[0])


@over(CAUSAL_CASES)
@torch.no_grad()
def test_the_future_does_not_reach_a_causal_output(name, options):
    model = build(name, **options)
    for start in (640, 1001, 1500):
        assert changed_before(model, start) < model.latency_samples
    # The bound is not an idle one: the same network without the flag looks further ahead.
    free = build(name, **{**options, "causal": False})
    assert changed_before(free, 1500) > free.latency_samples


@pytest.mark.parametrize("name", [name for name, _ in CAUSAL_CASES])
@pytest.mark.parametrize(
    ("key", "value"), [("input_norm", "std"), ("consistency", "magsq"), ("consistency", "learned")]
)
def test_causal_refuses_whole_input_statistics(name, key, value):
    extra = {"convtasnet": {"norm": "cumln"}, "dprnn": {"norm": "channel"}}.get(name, {})
    with pytest.raises(ConfigError, match=rf"model\.causal.*model\.{key}"):
        build(name, **{"causal": True, "input_norm": "none", **extra, key: value})


@pytest.mark.parametrize(("key", "value"), [
    ("n_src", 0), ("sample_rate", 0), ("input_norm", "rms"), ("consistency", "uniforn"),
    ("consistency_when", "test"),
])  # fmt: skip
@pytest.mark.parametrize("name", registry.UNASKED)
def test_wrong_settings_name_their_key(name, key, value):
    with pytest.raises(ConfigError, match=rf"model\.{key}"):
        build(name, **{key: value})


@pytest.mark.parametrize("name", registry.UNASKED)
def test_constructor_is_a_schema(name):
    cls = registry.load("model", name)
    assert issubclass(cls, SeparationModel)
    settings = signature("model", name).parameters
    assert not any(p.required for p in settings.values())
    built = build(name)
    # What the reader of signatures says and what the constructor does are the same.
    assert all(getattr(cls(), key) == settings[key].default for key in SeparationModel.COMMON)
    assert not inspect.signature(cls).parameters.keys() & SeparationModel.COMMON.keys()
    assert {"n_src", "sample_rate", "causal", "input_norm", "consistency", "consistency_when"} <= set(settings)
    assert {"small", "tiny"} <= set(cls.PRESETS)
    for preset in cls.PRESETS.values():
        assert set(preset) <= set(settings)
        with torch.device("meta"):
            model = cls(**preset)
        assert model.hop > 0 and model.latency_samples >= model.hop
    assert built.n_params <= 100_000


@pytest.mark.parametrize("name", registry.UNASKED)
def test_an_argument_that_no_model_has_is_refused(name):
    with pytest.raises(TypeError, match="has no argument n_sources"):
        build(name, n_sources=2)


class Passes(SeparationModel):
    """Returns its share of what it is given, and keeps it."""

    def __init__(self, **options):
        super().__init__(sample_rate=8000, hop=1, **options)

    def estimate(self, mix):
        self.seen = mix
        return mix[:, None].repeat(1, self.n_src, 1) / self.n_src


@pytest.mark.parametrize("norm", ["none", "std", "sample_std", "mean_std"])
@pytest.mark.parametrize("n_src", [1, 3])
def test_normalisation_is_undone(norm, n_src):
    model = Passes(n_src=n_src, input_norm=norm)
    mix = torch.tensor([[0.01], [50.0]]) * (torch.randn(2, 4000) + 0.5)
    torch.testing.assert_close(model(mix), mix[:, None].repeat(1, n_src, 1) / n_src, atol=1e-5, rtol=1e-5)
    if norm != "none":
        correction = 1 if norm == "sample_std" else 0
        torch.testing.assert_close(model.seen.std(-1, correction=correction), torch.ones(2))
    if norm == "mean_std":
        torch.testing.assert_close(model.seen.mean(-1), torch.zeros(2), atol=1e-5, rtol=0)


def test_consistency_in_evaluation_only():
    class Doubles(Passes):
        def estimate(self, mix):
            return 2 * super().estimate(mix)

    model, mix = Doubles(n_src=2, consistency="uniform", consistency_when="eval"), torch.randn(1, 50)
    torch.testing.assert_close(model.train()(mix).sum(1), 2 * mix)
    torch.testing.assert_close(model.eval()(mix).sum(1), mix)


def test_a_model_without_bounds_says_so():
    assert Passes(n_src=1).receptive_field_samples is None and Passes(n_src=1).latency_samples == 1
    with pytest.raises(NotImplementedError):
        SeparationModel(n_src=1, sample_rate=1, hop=1)(torch.zeros(4))
