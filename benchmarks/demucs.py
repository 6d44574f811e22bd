"""Demucs of usep beside the code of its makers: the same numbers on drawn weights, and what HTDemucs costs in either.

    pip install --no-deps demucs==4.1.0 julius einops
    python benchmarks/demucs.py store      # outputs of small networks, for tests/engine/exchange/*demucs.npz
    python benchmarks/demucs.py check      # the published sizes: the largest difference to the maker's class
    python benchmarks/demucs.py time       # a minute in two channels: time, memory, difference of the whole files
    python benchmarks/demucs.py compare    # the last of these alone

Weights are drawn from their names (tests/engine/exchange/drawn.py), as no server is asked for any. `time` takes turns
within one process, one thread, and measures the memory of each in a process of its own.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "engine" / "exchange"))

import drawn
from models_of_demucs import lay_out, stereo, thinned

# What lies beside this file must not hide the package of the same name.
sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent]
STORED = Path(__file__).resolve().parents[1] / "tests" / "engine" / "exchange"
STEMS = ["drums", "bass", "other", "vocals"]
PUBLISHED = {
    "sources": STEMS, "audio_channels": 2, "channels": 48, "growth": 2, "nfft": 4096, "cac": True, "depth": 4,
    "kernel_size": 8, "stride": 4, "bottom_channels": 512, "t_layers": 5, "t_heads": 8, "dconv_mode": 3,
    "segment": Fraction(39, 5), "samplerate": 44100,
}  # fmt: skip
SMALL = {
    "sources": STEMS, "channels": 4, "nfft": 128, "depth": 2, "bottom_channels": 16, "t_layers": 3, "t_heads": 2,
    "t_hidden_scale": 2.0, "dconv_comp": 2, "dconv_mode": 3, "samplerate": 8000, "use_train_segment": False,
    "segment": 2,
}  # fmt: skip
# Version 3, hdemucs_mmi; the small one has branches on both ways.
PUBLISHED_3 = {"sources": STEMS, "channels": 48, "nfft": 4096, "depth": 6, "samplerate": 44100, "segment": 40}
SMALL_3 = {
    "sources": STEMS, "channels": 4, "nfft": 64, "depth": 3, "norm_starts": 1, "dconv_attn": 1, "dconv_lstm": 1,
    "dconv_comp": 2, "dconv_mode": 3, "samplerate": 8000, "segment": 3,
}  # fmt: skip
LENGTHS = (33, 64, 97, 160, 333)
# More than 200 frames, so that recurrence goes in windows; of an odd length.
LENGTHS_3 = (33, 64, 97, 333, 4001)


def theirs(kwargs: dict[str, Any], seed: int = 0) -> Any:
    """Return the maker's class with weights drawn from their names."""
    from demucs.hdemucs import HDemucs
    from demucs.htdemucs import HTDemucs

    net = (HTDemucs if "t_heads" in kwargs else HDemucs)(**kwargs).eval()
    with torch.no_grad():
        for name, value in net.named_parameters():
            value.copy_(drawn.tensor(f"{seed}:{name}", value.shape, base(name)))
    return net


def base(name: str) -> float:
    """Return about what a weight is drawn: gains about 1."""
    return 1.0 if name.endswith("scale") or (name.endswith("weight") and "norm" in name) else 0.0


@torch.no_grad()
def store() -> None:
    """Write the layout of two small networks, and what they make of noise, alone and as a bag."""
    from demucs.apply import BagOfModels, apply_model

    nets = [theirs(SMALL, seed) for seed in range(2)]
    rows = [[1.0, 0.0, 3.0, 0.5], [0.0, 2.0, 1.0, 0.5]]
    told = {
        "kwargs": SMALL, "weights": rows, "version": importlib.metadata.version("demucs"), "lengths": LENGTHS,
        "layout": {name: [list(value.shape), base(name)] for name, value in nets[0].named_parameters()},
    }  # fmt: skip
    est = {f"est_{length}": nets[0](stereo(length))[0].numpy() for length in LENGTHS}
    bag = BagOfModels(nets, rows)
    est["bag"] = apply_model(bag, stereo(160), shifts=0, split=False)[0].numpy()
    written("demucs", told, est)
    net = theirs(SMALL_3)
    told |= {"kwargs": SMALL_3, "lengths": LENGTHS_3}
    told["layout"] = {name: [list(value.shape), base(name)] for name, value in net.named_parameters()}
    written("hdemucs", told, {f"est_{n}": net(stereo(n))[0, ..., :: thinned(n)].numpy() for n in LENGTHS_3})


def written(name: str, told: dict[str, Any], est: dict[str, np.ndarray]) -> None:
    """Write a file of tests."""
    path = STORED / f"{name}.npz"
    np.savez_compressed(path, told=np.array(json.dumps(told)), **est)
    print(path.stat().st_size, "bytes", {key: float(np.abs(value).max()) for key, value in est.items()})


def imported(folder: Path, kwargs: dict[str, Any], net: Any) -> Any:
    """Return usep's model of a folder as the makers publish it."""
    from usepcli.engine.exchange import foreign
    from usepcli.weights import fitting

    klass = f"{type(net).__module__}.{type(net).__name__}"
    lay_out(folder, kwargs, [dict(net.state_dict())], klass=klass)
    found = foreign.read(folder)
    return fitting.model(found.model, found.state, "demucs")


@torch.no_grad()
def check() -> None:
    """Print the largest difference at the published sizes, of the whole peak, at five lengths."""
    for kwargs, longest in ((PUBLISHED, 343_980), (PUBLISHED_3, 300_001)):
        net = theirs(kwargs)
        with tempfile.TemporaryDirectory() as folder:
            own = imported(Path(folder), kwargs, net)
        own.input_norm = "none"  # the maker's is outside of the network
        print(type(net).__name__, own.n_params, "parameters, demucs", importlib.metadata.version("demucs"))
        for length in (longest, 200_001, 44_100, 9_999, 1):
            mix = stereo(length)
            want, got = net(mix), own(mix)
            print(length, float((want - got).abs().max()), "of", float(want.abs().max()), flush=True)


def music(seconds: float) -> torch.Tensor:
    """Return tones that come and go beside noise, (2, T) at 44.1 kHz: the networks see loud and quiet passages."""
    time_s = torch.arange(round(44100 * seconds)) / 44100
    draw = torch.Generator().manual_seed(0)
    parts = [
        torch.sin(2 * torch.pi * f * time_s) * torch.sin(2 * torch.pi * time_s / p) for f, p in ((110, 7), (880, 3))
    ]
    noise = torch.randn(2, len(time_s), generator=draw)
    fade = 10 ** (-2 * time_s / seconds)  # by 40 dB
    return 0.1 * fade * (torch.stack(parts) + 0.3 * noise)


@torch.no_grad()
def run(who: str, net: Any, wave: torch.Tensor) -> np.ndarray:
    """Return the stems (4, 2, T) of a recording, as either code makes them of a whole file by default, shifts off."""
    if who == "usep":
        from usepcli.separator.separator import How

        return net(wave.numpy(), 44100, How(rest="leave")).sources
    from demucs.apply import apply_model

    ref = wave.mean(0)
    mean, std = ref.mean(), ref.std() + 1e-8
    return (apply_model(net, ((wave - mean) / std)[None], shifts=0)[0] * std + mean).numpy()


def made(who: str) -> Any:
    """Return either network at the published size with the same weights."""
    net = theirs(PUBLISHED)
    if who != "usep":
        return net
    from usepcli.separator.separator import Separator

    with tempfile.TemporaryDirectory() as folder:
        return Separator(imported(Path(folder), PUBLISHED, net))


def alone(who: str, seconds: float) -> None:
    """Print by how much separating a recording raised the memory, in MiB, beyond what stood before."""
    torch.set_num_threads(1)
    net, wave = made(who), music(seconds)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is there (Linux)
    before = resident("VmRSS")
    run(who, net, wave)
    print(json.dumps({"mib": resident("VmHWM") - before}))


def resident(key: str) -> float:
    """Return a line of the kernel's account of this process, in MiB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


def timed(seconds: float) -> None:
    """Print processor seconds for a second of sound, memory, and how far the stems of both differ."""
    torch.set_num_threads(1)
    wave, found, took = music(seconds), {}, {}
    for who in ("demucs", "usep"):
        net = made(who)
        begin = time.process_time()
        found[who] = run(who, net, wave)
        took[who] = (time.process_time() - begin) / seconds
        command = [sys.executable, __file__, "alone", who, "--seconds", str(seconds)]
        memory = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(who, f"{took[who]:.3f} x real time, {memory['mib']:.0f} MiB", flush=True)
    compare(found["usep"], found["demucs"])


def compare(ours: np.ndarray, others: np.ndarray) -> None:
    """Print how far stems (N, 2, T) differ, in dB of them: where one chunk decides, and where two are faded.

    Drawn weights do not agree where chunks overlap, as trained ones mostly do: there the two fades show at their most.
    """
    chunk, step = 343_980, 257_985
    ends = range(0, ours.shape[-1] - chunk + 1, step)
    alone = np.zeros(ours.shape[-1], bool)
    for start in ends:  # the last chunk, which lies elsewhere, is left out
        alone[(start + chunk - step if start else 0) : start + step] = True
    for what, where in (("where one chunk decides", alone), ("in the fades", ~alone)):
        gap, whole = (np.square(part[..., where], dtype=np.float64).sum() for part in (ours - others, others))
        print(f"difference of the stems {what}: {10 * np.log10(gap / whole):.1f} dB of them")


def main() -> None:
    """Do what the first word says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("store", "check", "time", "alone", "compare"):
        one = kinds.add_parser(kind)
        if kind == "alone":
            one.add_argument("who")
        if kind in ("time", "alone", "compare"):
            one.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    if given.kind == "alone":
        return alone(given.who, given.seconds)
    if given.kind == "time":
        return timed(given.seconds)
    if given.kind == "compare":
        wave = music(given.seconds)
        return compare(*(run(who, made(who), wave) for who in ("usep", "demucs")))
    return store() if given.kind == "store" else check()


if __name__ == "__main__":
    main()
