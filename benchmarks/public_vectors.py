"""Public checkpoints against their makers' own classes, on weights that are drawn: usep's output has to be theirs.

    pip install --no-deps espnet speechbrain asteroid asteroid-filterbanks clearvoice     # and what they import
    python benchmarks/public_vectors.py store       # small networks, for tests/engine/exchange/public/*.npz
    python benchmarks/public_vectors.py check       # networks of the published sizes: the largest difference of each
    python benchmarks/public_vectors.py fresh       # the same with the weights that a maker's class starts with
    python benchmarks/public_vectors.py exact       # the same in float64, where rounding is out of the question

Every case lays its files out as its maker does on the Hub; `usep pull ./folder` takes them from there. What is stored
is the layout, names and shapes, and the output of the maker's class at five lengths: no weights, which are drawn from
their names (tests/engine/exchange/drawn.py).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "engine" / "exchange"))

import drawn

STORED = Path(__file__).resolve().parents[1] / "tests" / "engine" / "exchange" / "public"
SHORT = (40, 97, 160, 333, 600)
THIN = 3  # every third sample is stored: no hop is a multiple of three, so that all places in a frame are seen


@dataclass
class Theirs:
    """A maker's network: modules by file and prefix, texts by file, what runs it, where its state is held, lengths."""

    modules: dict[str, nn.Module]
    texts: dict[str, str]
    run: Callable[[Tensor], Tensor]
    wrap: str = ""
    lengths: tuple[int, ...] = SHORT
    prefix: str = ""
    version: str = ""
    more: dict[str, Any] = field(default_factory=dict)  # what a file holds beside the state
    rate: int = 0  # what no file says
    same: dict[str, str] = field(default_factory=dict)  # second names of tensors
    asked: int = 0  # numbers of a query, of a network by words: `run` answers two that are drawn


Case = Callable[[bool], Theirs]
CASES: dict[str, Case] = {}


def case(make: Case) -> Case:
    """Add a case under the name of its function; it is called with True for the published size."""
    CASES[make.__name__] = make
    return make


def draw(theirs: Theirs) -> dict[str, dict[str, tuple[list[int], float | None]]]:
    """Fill every parameter and running mean, and return shape and base of each tensor by file; None for a buffer.

    What is stored under two names is drawn from the first; `theirs.same` says which of the others are it.
    """
    layout: dict[str, dict[str, tuple[list[int], float | None]]] = {}
    for file, module in theirs.modules.items():
        named = module.named_parameters(remove_duplicate=False)
        learned = {name for name, value in named if value.requires_grad}
        kept = layout[file] = {}
        firsts: dict[int, str] = {}
        for name, value in module.state_dict().items():
            if (first := firsts.setdefault(value.data_ptr(), name)) != name and value.numel():
                theirs.same[name] = first
                kept[name] = kept[first]
                continue
            running = name.rsplit(".", 1)[-1] in ("running_mean", "running_var")
            if name not in learned and not running:
                kept[name] = (list(value.shape), None)
                continue
            flat = value.float().flatten()
            base = float(flat[0]) if bool((flat == flat[0]).all()) and flat[0] in (0, 0.25, 1) else 0.0
            value.copy_(drawn.tensor(f"{file}:{name}", value.shape, base))
            kept[name] = (list(value.shape), base)
    return layout


def files(theirs: Theirs) -> Iterator[tuple[str, Any]]:
    """Yield file names and contents of the folder."""
    yield from theirs.texts.items()
    for file, module in theirs.modules.items():
        state = {theirs.prefix + name: value for name, value in module.state_dict().items()}
        yield file, {theirs.wrap: state, **theirs.more} if theirs.wrap else state


def laid_out(theirs: Theirs, folder: Path) -> Path:
    """Write the folder."""
    for name, content in files(theirs):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif path.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file({k: v.contiguous() for k, v in content.items()}, path)
        else:
            torch.save(content, path)
    return folder


@torch.no_grad()
def store(name: str) -> None:
    """Write the layout of a small network and what it makes of noise."""
    torch.manual_seed(0)
    theirs = CASES[name](False)
    layout = draw(theirs)
    told = {
        "layout": layout, "texts": theirs.texts, "wrap": theirs.wrap, "prefix": theirs.prefix,
        "version": theirs.version, "lengths": theirs.lengths, "more": theirs.more, "rate": theirs.rate,
        **({"same": theirs.same} if theirs.same else {}),
        **({"asked": theirs.asked} if theirs.asked else {}),
    }  # fmt: skip
    est = {f"est_{length}": theirs.run(drawn.wave(length))[..., ::THIN].numpy() for length in theirs.lengths}
    STORED.mkdir(exist_ok=True)
    np.savez_compressed(STORED / f"{name}.npz", told=np.array(json.dumps(told)), **est)
    print(name, (STORED / f"{name}.npz").stat().st_size, "bytes", {k: float(np.abs(v).max()) for k, v in est.items()})


@contextlib.contextmanager
def doubled() -> Iterator[None]:
    """Let what asks for float32, by name or by default, have float64, so that no rounding of it is left."""
    single, usual, made = Tensor.float, torch.get_default_dtype(), torch.float32
    Tensor.float = Tensor.double  # type: ignore[method-assign,assignment]
    torch.float32 = torch.float64  # type: ignore[misc]
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        Tensor.float = single  # type: ignore[method-assign]
        torch.float32 = made  # type: ignore[misc]
        torch.set_default_dtype(usual)


@torch.no_grad()
def check(name: str, fresh: bool = False, exact: bool = False) -> None:
    """Print the largest difference of a network of the published size from usep's."""
    from usepcli.dsp.stft import STFT
    from usepcli.engine.exchange import hub_pull
    from usepcli.models.dcunet_parts import WindowedFrames
    from usepcli.models.queried import Bound, QueriedModel
    from usepcli.weights import store as weights

    torch.manual_seed(0)
    theirs = CASES[name](True)
    if fresh:  # as its maker starts it
        name += ", fresh weights"
    else:
        draw(theirs)
    with tempfile.TemporaryDirectory() as temporary:
        folder = laid_out(theirs, Path(temporary) / "theirs")
        text = drawn.clap(Path(temporary) / "clap", theirs.asked) if theirs.asked else ""
        done = hub_pull.pull(
            str(folder), out=Path(temporary) / "models", sample_rate=theirs.rate, text_encoder=str(text),
            say=lambda line: None,
        )  # fmt: skip
        model, card = weights.load_any(done["path"])
    rate, most, level = card.sample_rate, 0.0, 0.0
    lengths = (rate // 10 + 3, rate // 5, rate // 3, rate // 2 + 7, rate + 1)
    if exact:
        name += ", float64"
        for module in (*theirs.modules.values(), model):
            module.double()
        with doubled():  # transforms that were rounded before are made again
            for part in (*model.modules(), *(p for module in theirs.modules.values() for p in module.modules())):
                if isinstance(part, STFT):
                    part.window = torch.hann_window(part.win)
                elif isinstance(part, WindowedFrames):
                    fresh = WindowedFrames(part.n_fft, part.win, part.hop, part.padding)
                    part.window, part.scale = fresh.window, fresh.scale
                elif type(part).__name__ == "STFTFB":
                    part._filters = type(part)(part.n_filters, part.kernel_size, part.stride)._filters
    params = model.n_params
    if isinstance(model, QueriedModel):
        words = drawn.queries(theirs.asked).to(torch.float64 if exact else torch.float32)
        model = Bound(model, (words[None, :, None], torch.ones(1, len(words), 1, dtype=torch.bool), words[None]))
    with doubled() if exact else contextlib.nullcontext():
        for length in lengths:
            mix = drawn.wave(length).to(torch.float64 if exact else torch.float32)
            want, got = theirs.run(mix), model(mix)
            assert got.shape == want.shape and got.dtype == want.dtype == mix.dtype, (got.shape, want.dtype)
            most = max(most, float((got - want).abs().max()))
            level = max(level, float(want.abs().max()))
    print(f"{name}: {params} parameters, largest difference {most:.1e} of {level:.3g} at {lengths} samples")


def version(package: str) -> str:
    """Return the version of a package in words."""
    return f"{package} {importlib.metadata.version(package)}"


SEPFORMER = """# Model: SepFormer
sample_rate: {rate}
num_spks: {outputs}

Encoder: !new:speechbrain.lobes.models.dual_path.Encoder
  kernel_size: {kernel}
  out_channels: {filters}

SBtfintra: !new:speechbrain.lobes.models.dual_path.SBTransformerBlock
  num_layers: {layers}
  d_model: {filters}
  nhead: {heads}
  d_ffn: {ffn}
  dropout: 0
  use_positional_encoding: true
  norm_before: true

SBtfinter: !new:speechbrain.lobes.models.dual_path.SBTransformerBlock
  num_layers: {layers}
  d_model: {filters}
  nhead: {heads}
  d_ffn: {ffn}
  dropout: 0
  use_positional_encoding: true
  norm_before: true

MaskNet: !new:speechbrain.lobes.models.dual_path.Dual_Path_Model
  num_spks: !ref <num_spks>
  in_channels: {filters}
  out_channels: {filters}
  num_layers: 2
  K: {chunk}
  intra_model: !ref <SBtfintra>
  inter_model: !ref <SBtfinter>
  norm: ln
  linear_layer_after_inter_intra: false
  skip_around_intra: true

Decoder: !new:speechbrain.lobes.models.dual_path.Decoder
  in_channels: {filters}
  out_channels: 1
  kernel_size: {kernel}
  stride: {stride}
  bias: false

modules:
  encoder: !ref <Encoder>
  decoder: !ref <Decoder>
  masknet: !ref <MaskNet>

pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
  loadables:
    encoder: !ref <Encoder>
    masknet: !ref <MaskNet>
    decoder: !ref <Decoder>
"""


def _sepformer(outputs: int, rate: int, published: bool) -> Theirs:
    from speechbrain.lobes.models import dual_path

    sizes = {"kernel": 16, "stride": 8, "filters": 256, "layers": 8, "heads": 8, "ffn": 1024, "chunk": 250}
    if not published:
        sizes = {"kernel": 16, "stride": 8, "filters": 8, "layers": 2, "heads": 2, "ffn": 6, "chunk": 10}
    f = sizes["filters"]

    def stack() -> nn.Module:
        return dual_path.SBTransformerBlock(
            sizes["layers"], f, sizes["heads"], sizes["ffn"], use_positional_encoding=True, norm_before=True, dropout=0
        )

    encoder = dual_path.Encoder(sizes["kernel"], f).eval()
    net = dual_path.Dual_Path_Model(
        f, f, stack(), stack(), num_layers=2, K=sizes["chunk"], num_spks=outputs, linear_layer_after_inter_intra=False
    ).eval()
    decoder = dual_path.Decoder(f, 1, sizes["kernel"], sizes["stride"], bias=False).eval()

    def run(mix: Tensor) -> Tensor:
        heard = encoder(mix)
        est = torch.stack([decoder(heard * mask) for mask in net(heard)], 1)
        return nn.functional.pad(est, (0, max(0, mix.shape[-1] - est.shape[-1])))[..., : mix.shape[-1]]

    return Theirs(
        {"encoder.ckpt": encoder, "masknet.ckpt": net, "decoder.ckpt": decoder},
        {"hyperparams.yaml": SEPFORMER.format(**sizes, outputs=outputs, rate=rate)},
        run,
        version=version("speechbrain"),
    )  # fmt: skip


@case
def sepformer(published: bool) -> Theirs:
    """sepformer-wsj02mix, -wham, -whamr, -libri2mix."""
    return _sepformer(2, 8000, published)


@case
def sepformer_three(published: bool) -> Theirs:
    """sepformer-wsj03mix, -libri3mix; the rate of -whamr16k."""
    return _sepformer(3, 16000, published)


@case
def sepformer_one(published: bool) -> Theirs:
    """sepformer-wham-enhancement: one output."""
    return _sepformer(1, 8000, published)


def _packages(base: Path, *names: str) -> None:
    """Make packages of folders whose own __init__ would import a whole toolkit."""
    for name in names:
        made = types.ModuleType(name)
        made.__path__ = [str(base.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = made


@case
def mossformer2(published: bool) -> Theirs:
    """MossFormer2_SS_16K."""
    found = importlib.util.find_spec("clearvoice")
    assert found is not None and found.submodule_search_locations
    base = Path(found.submodule_search_locations[0]) / "models"
    _packages(base, "theirs", "theirs.mossformer2_ss")
    net = importlib.import_module("theirs.mossformer2_ss.mossformer2").MossFormer
    module = (net() if published else net(16, 16, 2)).eval()
    return Theirs(
        {"last_best_checkpoint.pt": module}, {"last_best_checkpoint": "last_best_checkpoint.pt\n"},
        lambda mix: torch.stack(module(mix), 1), wrap="model", prefix="model.", version=version("clearvoice"),
        lengths=(40, 97, 333, 600, 2500),
    )  # fmt: skip


def _stub(name: str, **parts: Any) -> None:
    """Stand in for a module that a maker's file imports and that needs a whole toolkit."""
    made = types.ModuleType(name)
    made.__dict__.update(parts)
    sys.modules[name] = made


class _Stft(nn.Module):
    """ESPnet's transform in a few lines of torch: centred, mirrored at the ends, (B, T[, M]) to (B, L[, M], F)."""

    def __init__(self, n_fft: int, win: int, hop: int, **_: Any) -> None:
        super().__init__()
        self.sizes, self.window = (n_fft, hop, win), torch.hann_window(win)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if x.is_complex():
            est = torch.istft(x.mT, *self.sizes, self.window, center=True, length=int(lengths.max()))
            return est, lengths
        many = x.dim() == 3
        spec = torch.stft(x[..., 0] if many else x, *self.sizes, self.window, center=True, return_complex=True).mT
        return (spec[:, :, None] if many else spec), lengths


def _espnet(separator: str, conf: dict[str, Any], net: nn.Module, version: str, transform: str) -> Theirs:
    """Return the files of an ESPnet model with this separator, and no runner yet."""
    lines = "".join(f"    {key}: {value}\n" for key, value in conf.items())
    config = (
        f"optim: adamw\nsample_rate: 8000\nmodel_conf:\n    normalize_variance: true\n{transform}"
        f"separator: {separator}\nseparator_conf:\n{lines}version: '202402'\n"
    )
    folder = "exp/enh_train_raw"
    meta = (
        f"espnet: '202402'\nfiles:\n  model_file: {folder}/valid.loss.ave_5best.pth\n"
        f"yaml_files:\n  train_config: {folder}/config.yaml\n"
    )
    return Theirs(
        {f"{folder}/valid.loss.ave_5best.pth": net},
        {f"{folder}/config.yaml": config, "meta.yaml": meta},
        lambda mix: mix, prefix="separator.", version=version, lengths=(100, 193, 256, 333, 600),
    )  # fmt: skip


@case
def tflocoformer(published: bool) -> Theirs:
    """TF-Locoformer, size M; its file from the makers' repository lies in $USEP_THEIRS."""
    path = Path(os.environ["USEP_THEIRS"]) / "tflocoformer_separator.py"
    _stub("espnet2.enh.layers.complex_utils", new_complex_like=lambda _, parts: torch.complex(*parts))
    _stub("espnet2.enh.separator.abs_separator", AbsSeparator=nn.Module)
    for name in ("espnet2", "espnet2.enh", "espnet2.enh.layers", "espnet2.enh.separator"):
        _stub(name)
    spec = importlib.util.spec_from_file_location("their_locoformer", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sizes: dict[str, Any] = {"n_layers": 6, "emb_dim": 128, "ffn_hidden_dim": [384, 384], "conv1d_kernel": 4}
    n_fft = 128
    if not published:  # as the small one of WHAMR!: attention wider than the features
        sizes = {"n_layers": 2, "emb_dim": 8, "ffn_hidden_dim": [6, 6], "conv1d_kernel": 3, "attention_dim": 16}
        n_fft = 32
    conf = {"num_spk": 2, **sizes, "norm_type": "rmsgroupnorm", "ffn_type": ["swiglu_conv1d", "swiglu_conv1d"]}
    net = module.TFLocoformerSeparator(n_fft // 2 + 1, **conf).eval()
    both = "".join(
        f"{part}: stft\n{part}_conf:\n    n_fft: {n_fft}\n    hop_length: {n_fft // 2}\n"
        for part in ("encoder", "decoder")
    )
    theirs = _espnet("tflocoformer", conf, net, "merlresearch/tf-locoformer at b76d38b", both)
    stft = _Stft(n_fft, n_fft, n_fft // 2)

    def run(mix: Tensor) -> Tensor:
        std, lengths = mix.std(correction=0), torch.tensor([mix.shape[-1]])
        found, _, _ = net(stft(mix / std, lengths)[0], lengths)
        return torch.stack([stft(each, lengths)[0] for each in found], 1) * std

    theirs.run = run
    return theirs


def _gridnet(which: str, name: str, published: bool, **own: Any) -> Theirs:
    _stub("espnet2.enh.layers.complex_utils", new_complex_like=lambda _, parts: torch.complex(*parts))
    _stub("espnet2.enh.separator.abs_separator", AbsSeparator=nn.Module)
    _stub("espnet2.enh.encoder.stft_encoder", STFTEncoder=_Stft)
    _stub("espnet2.enh.decoder.stft_decoder", STFTDecoder=_Stft)
    _stub("espnet2.torch_utils.get_layer_from_string", get_layer=lambda _: nn.PReLU)
    for package in ("espnet2", "espnet2.enh", "espnet2.enh.layers", "espnet2.enh.separator"):
        _stub(package)
    found = importlib.metadata.distribution("espnet").locate_file(f"espnet2/enh/separator/{which}_separator.py")
    spec = importlib.util.spec_from_file_location(f"their_{which}", str(found))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    conf = {"n_srcs": 2, "n_fft": 128, "stride": 64, "n_layers": 6, "lstm_hidden_units": 256, "attn_n_head": 4,
            "attn_approx_qk_dim": 260, "emb_dim": 64, "emb_ks": 4, "emb_hs": 1, "activation": "prelu"}  # fmt: skip
    if not published:
        conf |= {"n_fft": 32, "stride": 16, "n_layers": 2, "lstm_hidden_units": 5, "attn_n_head": 2,
                 "attn_approx_qk_dim": 30, "emb_dim": 6, **own}  # fmt: skip
    net = getattr(module, name)(None, **conf).eval()
    theirs = _espnet(which, conf, net, version("espnet"), "")

    def run(mix: Tensor) -> Tensor:
        return torch.stack(net(mix, torch.tensor([mix.shape[-1]]))[0], 1)

    theirs.run = run
    return theirs


@case
def tfgridnet(published: bool) -> Theirs:
    """TF-GridNet, the first version of ESPnet."""
    return _gridnet("tfgridnet", "TFGridNet", published, emb_ks=3, emb_hs=2)


@case
def tfgridnet_apart(published: bool) -> Theirs:
    """The same, its neighbourhoods side by side."""
    return _gridnet("tfgridnet", "TFGridNet", published, emb_ks=4, emb_hs=4)


@case
def tfgridnet2(published: bool) -> Theirs:
    """TF-GridNet, the second version."""
    return _gridnet("tfgridnetv2", "TFGridNetV2", published)


@case
def tfgridnet2_apart(published: bool) -> Theirs:
    """The same, its neighbourhoods side by side."""
    return _gridnet("tfgridnetv2", "TFGridNetV2", published, emb_ks=4, emb_hs=4)


def _tigers(file: str, klass: str) -> Callable[..., nn.Module]:
    """Return a class of look2hear, which lies in $USEP_THEIRS, without the rest of that package."""
    base = Path(os.environ["USEP_THEIRS"]) / "look2hear"
    sys.modules["theirs_tiger"] = root = types.ModuleType("theirs_tiger")
    root.__path__ = [str(base)]
    for name in ("models", "layers"):
        sys.modules[f"theirs_tiger.{name}"] = part = types.ModuleType(name)
        part.__path__ = [str(base / name)]
        setattr(root, name, part)
    for name in ("activations", "normalizations"):
        setattr(root.layers, name, importlib.import_module(f"theirs_tiger.layers.{name}"))
    made: Callable[..., nn.Module] = getattr(importlib.import_module(f"theirs_tiger.models.{file}"), klass)
    return made


@case
def tiger(published: bool) -> Theirs:
    """TIGER-speech, -small; look2hear of a fork in $USEP_THEIRS, whose tiger_base.py is the original's class."""
    net = _tigers("tiger_base", "TIGER_BASELINE")
    conf = {"out_channels": 128, "in_channels": 256, "num_blocks": 8, "upsampling_depth": 5, "win": 640, "stride": 160,
            "num_sources": 2, "sample_rate": 16000}  # fmt: skip
    if not published:
        conf |= {"out_channels": 8, "in_channels": 6, "num_blocks": 3, "upsampling_depth": 4, "num_sources": 2}
    module = net(**conf).eval()
    return Theirs(
        {"model.safetensors": module}, {"config.json": json.dumps(conf)}, lambda mix: module(mix),
        version="suyccc/TIGER at 5d3bc40", lengths=(400, 641, 960, 1333, 1600),
    )  # fmt: skip


@case
def tiger_dnr(published: bool) -> Theirs:
    """TIGER-DnR: what its class keeps of each of its networks, of one piece; the same fork in $USEP_THEIRS."""
    net = _tigers("tiger_dnr", "TIGERDNR")
    conf = {"out_channels": 132, "in_channels": 256, "num_blocks": 8, "upsampling_depth": 5, "att_n_head": 4,
            "att_hid_chan": 4, "att_kernel_size": 8, "att_stride": 1, "win": 2048, "stride": 512, "num_sources": 3,
            "sample_rate": 44100}  # fmt: skip
    if not published:
        conf |= {"out_channels": 12, "in_channels": 6, "num_blocks": 2, "upsampling_depth": 3, "win": 1024,
                 "stride": 256}  # fmt: skip
    with contextlib.redirect_stdout(sys.stderr):  # it prints its bands
        module: Any = net(**conf).eval()

    def run(mix: Tensor) -> Tensor:
        return torch.stack([module.dialog(mix)[:, 2], module.effect(mix)[:, 1], module.music(mix)[:, 0]], 1)

    return Theirs(
        {"model.safetensors": module}, {"config.json": json.dumps(conf)}, run, version="suyccc/TIGER at 5d3bc40",
        lengths=(514, 601, 700, 801, 1033),
    )  # fmt: skip


def _asteroid(net: nn.Module, lengths: tuple[int, ...]) -> Theirs:
    """Return the file of a model of asteroid."""
    sys.modules.setdefault("pytorch_lightning", types.ModuleType("pytorch_lightning")).__dict__["__version__"] = "none"
    saved = net.eval().serialize()
    more = {key: saved[key] for key in ("model_name", "model_args")}
    return Theirs(
        {"pytorch_model.bin": net}, {}, lambda mix: net(mix[:, None]), wrap="state_dict", version=version("asteroid"),
        more=json.loads(json.dumps(more)), lengths=lengths,
    )  # fmt: skip


@case
def dptnet(published: bool) -> Theirs:
    """DPTNet of asteroid, as -Libri1Mix_enhsingle_16k but for two outputs."""
    from asteroid.models import DPTNet

    sizes = {"n_filters": 64, "ff_hid": 256, "chunk_size": 100, "n_repeats": 6, "kernel_size": 16, "stride": 8}
    if not published:
        sizes = {"n_filters": 8, "ff_hid": 5, "chunk_size": 10, "n_repeats": 2, "kernel_size": 8, "stride": 4}
    return _asteroid(DPTNet(2, n_heads=4, sample_rate=8000, **sizes), (40, 97, 333, 600, 801))


@case
def asteroid_sudormrf(published: bool) -> Theirs:
    """SuDORMRFNet of asteroid with its own defaults."""
    from asteroid.models import SuDORMRFNet

    small = {"bn_chan": 6, "num_blocks": 2, "upsampling_depth": 3, "n_filters": 8}
    return _asteroid(SuDORMRFNet(2, **({} if published else small)), (40, 97, 333, 600, 801))


@case
def asteroid_sudormrf_improved(published: bool) -> Theirs:
    """SuDORMRFImprovedNet of asteroid with its own defaults."""
    from asteroid.models import SuDORMRFImprovedNet

    small = {"bn_chan": 6, "num_blocks": 2, "upsampling_depth": 3, "n_filters": 8}
    return _asteroid(SuDORMRFImprovedNet(2, **({} if published else small)), (40, 97, 333, 600, 801))


@case
def asteroid_lstm(published: bool) -> Theirs:
    """LSTMTasNet of asteroid with its own defaults."""
    from asteroid.models import LSTMTasNet

    small = {"n_layers": 2, "hid_size": 5, "n_filters": 8, "kernel_size": 8, "stride": 4}
    return _asteroid(LSTMTasNet(2, **({} if published else small)), (40, 97, 333, 600, 801))


@case
def asteroid_lstm_forward(published: bool) -> Theirs:
    """The same forwards alone."""
    from asteroid.models import LSTMTasNet

    small = {"n_layers": 2, "hid_size": 5, "n_filters": 8, "kernel_size": 8, "stride": 4}
    return _asteroid(LSTMTasNet(2, bidirectional=False, **({} if published else small)), (40, 97, 333, 600, 801))


def _dcunet(architecture: str) -> Theirs:
    from asteroid.models import DCUNet

    net = DCUNet(architecture, fix_length_mode="pad", sample_rate=16000)
    return _asteroid(net, (1024, 1300, 2048, 2561, 4000))


@case
def dcunet(published: bool) -> Theirs:
    """DCUNet_Libri1Mix_enhsingle_16k."""
    return _dcunet("Large-DCUNet-20" if published else "mini")


@case
def dcunet_10(published: bool) -> Theirs:
    """The smallest of the paper."""
    return _dcunet("DCUNet-10" if published else "mini")


@case
def dccrnet(published: bool) -> Theirs:
    """DCCRNet_Libri1Mix_enhsingle_16k."""
    from asteroid.masknn import recurrent
    from asteroid.models import DCCRNet

    made = recurrent.DCCRMaskNetRNN
    recurrent.DCCRMaskNetRNN = lambda size: made(int(size))  # torch takes no integers of numpy any more
    try:
        net = DCCRNet("DCCRN-CL" if published else "mini", **({} if published else {"stft_n_filters": 64,
                      "stft_kernel_size": 48, "stft_stride": 12}))  # fmt: skip
    finally:
        recurrent.DCCRMaskNetRNN = made
    return _asteroid(net, (120, 401, 640, 1000, 1333))


def _sudormrf(file: str, name: str, consistent: bool, **sizes: int) -> Theirs:
    path = Path(os.environ["USEP_THEIRS"]) / "sudo" / f"{file}.py"
    spec = importlib.util.spec_from_file_location(f"their_{file}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net = getattr(module, name)(**sizes).eval()

    def run(mix: Tensor) -> Tensor:
        mean, std = mix.mean(), mix.std()
        est = net((mix - mean)[:, None] / std)
        # Their page adds the mean to each output, usep a share of it.
        est = est * std + mean / est.shape[1]
        return est + (mix[:, None] - est.sum(1, keepdim=True)) / est.shape[1] if consistent else est

    return Theirs(
        {"state.pt": net}, {}, run, version="etzinis/sudo_rm_rf at cd00f2e", rate=8000, lengths=(40, 97, 333, 600, 801)
    )


@case
def sudormrf(published: bool) -> Theirs:
    """Improved_Sudormrf_U16_Bases512_WSJ02mix; sudo_rm_rf's models lie in $USEP_THEIRS/sudo."""
    small = {"out_channels": 8, "in_channels": 6, "num_blocks": 2, "upsampling_depth": 3, "enc_num_basis": 8}
    large = {"out_channels": 256, "in_channels": 512, "num_blocks": 16, "upsampling_depth": 5}
    return _sudormrf("improved_sudormrf", "SuDORMRF", False, **(large if published else small))


@case
def sudormrf_groups(published: bool) -> Theirs:
    """GroupCom_Sudormrf_U8_Bases512_WSJ02mix."""
    small = {"out_channels": 8, "in_channels": 12, "num_blocks": 2, "upsampling_depth": 3, "enc_num_basis": 8}
    large = {"num_blocks": 8}
    sizes = large if published else small | {"group_size": 4}
    return _sudormrf("groupcomm_sudormrf_v2", "GroupCommSudoRmRf", True, **sizes)


SEPREFORMER = """config:
    dataset:
        sampling_rate: 8000
    model:
        num_stages: &stages {stages}
        num_spks: &outputs 2
        module_audio_enc: {{in_channels: 1, out_channels: &filters {filters}, kernel_size: &kernel {kernel},
            stride: &stride {stride}, groups: 1, bias: false}}
        module_feature_projector: {{num_channels: *filters, in_channels: *filters, out_channels: &dim {dim},
            kernel_size: 1, bias: false}}
        module_separator:
            num_stages: *stages
            relative_positional_encoding: {{in_channels: *dim, num_heads: {heads}, maxlen: {reach}, embed_v: false}}
            enc_stage:
                global_blocks: &far {{in_channels: *dim, num_mha_heads: {heads}, dropout_rate: 0.05}}
                local_blocks: &near {{in_channels: *dim, kernel_size: {near}, dropout_rate: 0.05}}
                down_conv_layer: {{in_channels: *dim, samp_kernel_size: 5}}
            spk_split_stage: {{in_channels: *dim, num_spks: *outputs}}
            simple_fusion: {{out_channels: *dim}}
            dec_stage: {{num_spks: *outputs, global_blocks: *far, local_blocks: *near, spk_attention: *far}}
        module_output_layer: {{in_channels: *filters, out_channels: *dim, num_spks: *outputs}}
        module_audio_dec: {{in_channels: *filters, out_channels: 1, kernel_size: *kernel, stride: *stride, bias: false}}
"""


def _sepreformer(which: str, published: bool, **more: int) -> Theirs:
    import yaml

    base = Path(os.environ["USEP_THEIRS"]) / "sepreformer" / "models" / which
    _stub("utils.decorators", logger_wraps=lambda: lambda made: made)
    _stub("utils")
    _packages(base, "theirs", "theirs.modules")
    # A module of its own for each size, as both may be asked for in one run.
    for name in ("theirs.model", "theirs.modules.module", "theirs.modules.network"):
        sys.modules.pop(name, None)
    sizes = {"stages": 4, "filters": 256, "kernel": 16, "stride": 4, "dim": 128, "heads": 8, "reach": 2000, "near": 65}
    small = {"stages": 2, "filters": 8, "kernel": 8, "stride": 2, "dim": 8, "heads": 2, "reach": 20, "near": 5}
    text = SEPREFORMER.format(**(sizes | more if published else small))
    net = importlib.import_module("theirs.model").Model(**yaml.safe_load(text)["config"]["model"]).eval()
    stride = (sizes if published else small)["stride"]

    def run(mix: Tensor) -> Tensor:
        whole = nn.functional.pad(mix, (0, -mix.shape[-1] % stride))  # as their program does
        return torch.stack([est.reshape(1, -1) for est in net(whole)[0]], 1)[..., : mix.shape[-1]]

    return Theirs(
        {"log/scratch_weights/epoch.0180.pth": net}, {"configs.yaml": text}, run, wrap="model_state_dict",
        version="dmlguq456/SepReformer at 43cbad8", lengths=(40, 97, 160, 333, 601),
        more={"epoch": 180, "optimizer_state_dict": {"state": {}, "param_groups": []}, "train_loss": -1.0},
    )  # fmt: skip


@case
def sepreformer(published: bool) -> Theirs:
    """SepReformer_Base_WSJ0; its repository lies in $USEP_THEIRS/sepreformer."""
    return _sepreformer("SepReformer_Base_WSJ0", published)


@case
def sepreformer_each(published: bool) -> Theirs:
    """SepReformer_Large_DM_WHAM: a split for every stage."""
    return _sepreformer("SepReformer_Large_DM_WHAM", published, dim=256)


AUDIOSEP = """---
task_name: AudioSep

data:
    sampling_rate: {rate}
    segment_seconds: 5

model:
    query_net: CLAP
    condition_size: {asked}
    model_type: ResUNet30
    input_channels: 1
    output_channels: 1
"""


@case
def audiosep(published: bool) -> Theirs:
    """audiosep_base_4M_steps.ckpt without its CLAP; models/resunet.py and base.py lie in $USEP_THEIRS/audiosep."""
    _packages(Path(os.environ["USEP_THEIRS"]) / "audiosep" / "models", "models")
    theirs: Any = importlib.import_module("models.resunet")
    asked, rate = (512, 32000) if published else (12, 2000)
    net = theirs.ResUNet30(1, 1, asked)
    if not published:
        _small_audiosep(theirs, net, asked)
    net.eval()
    queries = drawn.queries(asked)

    def run(mix: Tensor) -> Tensor:
        mixes = mix[:, None].expand(len(queries), -1, -1)
        found: Tensor = net({"mixture": mixes, "condition": queries.to(mix.dtype)})["waveform"]
        return found.transpose(0, 1)

    return Theirs(
        {"checkpoint/audiosep_base_4M_steps.ckpt": net},
        {"config/audiosep_base.yaml": AUDIOSEP.format(rate=rate, asked=asked)}, run, wrap="state_dict",
        prefix="ss_model.", version="Audio-AGI/AudioSep at 944583f", lengths=(97, 160, 333, 600, 801), asked=asked,
        more={"epoch": 0, "global_step": 4000000, "pytorch-lightning_version": "2.0.2", "optimizer_states": []},
    )  # fmt: skip


def _small_audiosep(theirs: Any, net: Any, asked: int) -> None:
    """Make the blocks of the maker's network anew, by its own classes: its sizes are written into it."""
    base, widths, window = net.base, (3, 4, 5, 6, 7, 7), 128
    transform = {"n_fft": window, "hop_length": 20, "win_length": window, "window": "hann", "center": True,
                 "pad_mode": "reflect", "freeze_parameters": True}  # fmt: skip
    base.stft, base.istft = theirs.STFT(**transform), theirs.ISTFT(**transform)
    base.bn0 = nn.BatchNorm2d(window // 2 + 1)
    base.pre_conv, base.after_conv = nn.Conv2d(1, widths[0], 1), nn.Conv2d(widths[0], 3, 1)
    steps = [(2, 2)] * 5 + [(1, 2)]
    more = {"kernel_size": (3, 3), "momentum": 0.01, "has_film": True}
    for k, (above, width, step) in enumerate(zip((widths[0], *widths[:-1]), widths, steps, strict=True)):
        below = (*widths, widths[-1])[k + 1]
        setattr(base, f"encoder_block{k + 1}", theirs.EncoderBlockRes1B(above, width, downsample=step, **more))
        setattr(base, f"decoder_block{6 - k}", theirs.DecoderBlockRes1B(below, width, upsample=step, **more))
    base.conv_block7a = theirs.EncoderBlockRes1B(widths[-1], widths[-1], downsample=(1, 1), **more)
    net.film = theirs.FiLM(theirs.get_film_meta(base), asked)


def main() -> None:
    """Do what the first word says for the cases that are named, or all."""
    command, names = sys.argv[1], sys.argv[2:] or list(CASES)
    for name in names:
        if command == "store":
            store(name)
        else:
            check(name, command == "fresh", command == "exact")


if __name__ == "__main__":
    main()
