"""Public networks through usep and through their makers' own programs: what it takes, and what becomes of the sound.

    pip install --no-deps speechbrain==1.1.2 clearvoice==0.1.2 demucs==4.1.0      # and what they import
    python benchmarks/makers.py -o benchmarks/makers.csv [--only sepformer] [--minutes 1] [--turns 2]

Cost: a file of noise becomes files of sources, by networks of the published size with drawn weights, laid out as on the
Hub; usep has pulled them from there. Every case has a process of its own, one thread, and its turn; told are processor
seconds for a second of sound, without loading, and the largest memory of the whole process. What would take longer than
--patience-min, by the pace of a shorter recording, is not begun; a program that hears a recording whole is, as memory
decides on it. Whoever takes longer, or asks for more than --limit-gib, is ended.

Sound: both programs are given a network that divides without fault, at 1 kHz, one voice being below it and another,
10 dB quieter, above. Unless its outputs have names it gives them the other way round every second time that it is
asked, as a network may that was taught without an order: told is in how much of the time the outputs are not the
voices that they mostly are. Where it keeps the order, told is how far the outputs are from adding up to the recording,
and by how much either voice is louder than it was.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import separate
import turns
from study import write

CUT_HZ, QUIETER_DB, FRAME_S = 1000, 10, 0.25
COLUMNS = [
    "network", "program", "minutes", "x_real_time", "peak_mib", "turns", "sum_db", "swapped", "louder_db", "note",
    "threads", "machine",
]  # fmt: skip


def halves(mix: Any, rate: int) -> list[Any]:
    """Return what of a mixture (..., T) lies below CUT_HZ, and the rest."""
    import torch

    spec = torch.fft.rfft(mix)
    low = torch.fft.irfft(spec * (torch.fft.rfftfreq(mix.shape[-1], 1 / rate) < CUT_HZ), n=mix.shape[-1])
    return [low, mix - low]


class Ideal:
    """The network without fault, whose outputs may come the other way round every second time."""

    def __init__(self, rate: int, turning: bool) -> None:
        self.rate, self.turning, self.asked = rate, turning, 0

    def __call__(self, mix: Any) -> list[Any]:
        """Return the two voices (..., T) of a mixture (..., T)."""
        self.asked += 1
        return halves(mix, self.rate)[:: -1 if self.turning and self.asked % 2 == 0 else 1]


class Net(NamedTuple):
    """A public network: whose it is, what it hears, how its files are laid out, and its maker's program."""

    package: str
    rate: int
    channels: int
    whole: bool  # whether its program hears a recording at once
    lay_out: Callable[[Path], None]
    through: Callable[[Path, Path], tuple[float, float]]  # a folder and a recording to the time at which it began
    ideal: Callable[[Ideal, Path, np.ndarray], np.ndarray]  # its program on a recording, to sources (2, T)


def music() -> ModuleType:
    """Return benchmarks/demucs.py, under a name that hides no package."""
    spec = importlib.util.spec_from_file_location("music", Path(__file__).with_name("demucs.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def public(name: str, folder: Path) -> None:
    """Lay out a case of public_vectors.py at the published size."""
    import public_vectors
    import torch

    with torch.no_grad():
        theirs = public_vectors.CASES[name](True)
        public_vectors.draw(theirs)
    public_vectors.laid_out(theirs, folder)


def htdemucs(folder: Path) -> None:
    """Lay out HTDemucs."""
    demucs = music()
    demucs.lay_out(folder, demucs.PUBLISHED, [dict(demucs.theirs(demucs.PUBLISHED).state_dict())])


def speechbrain(folder: Path, path: Path) -> tuple[float, float]:
    """Separate a file as SpeechBrain does and write what comes."""
    from speechbrain.inference.separation import SepformerSeparation

    from usepcli.audio import io

    net = SepformerSeparation.from_hparams(source=str(folder), savedir=str(path.parent / "speechbrain"))
    began = separate.now()
    for k, source in enumerate(net.separate_file(path=str(path))[0].T):
        io.write(path.parent / f"source{k}.wav", source.numpy(), net.hparams.sample_rate, "FLOAT", overwrite=True)
    return began


def speechbrain_ideal(ideal: Ideal, path: Path, mix: np.ndarray) -> np.ndarray:
    """Return what SpeechBrain makes of the network without fault."""
    import torch
    from speechbrain.inference.separation import SepformerSeparation

    class Program(SepformerSeparation):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            self.device, self.hparams = "cpu", SimpleNamespace(sample_rate=ideal.rate)

        def separate_batch(self, mix: Any) -> Any:
            return torch.stack(ideal(mix), -1)

    found: np.ndarray = Program().separate_file(path=str(path))[0].T.numpy()
    return found


def clearvoice(folder: Path, path: Path) -> tuple[float, float]:
    """Separate a file as ClearerVoice does, to files."""
    from clearvoice import ClearVoice

    os.chdir(folder.parents[1])  # where it looks for checkpoints/NAME
    net = ClearVoice(task="speech_separation", model_names=["MossFormer2_SS_16K"])
    began = separate.now()
    net(input_path=str(path), online_write=True, output_path=str(path.parent / "clearvoice"))
    return began


def clearvoice_ideal(ideal: Ideal, path: Path, mix: np.ndarray) -> np.ndarray:
    """Return what ClearerVoice makes of the network without fault."""
    from clearvoice.network_wrapper import network_wrapper
    from clearvoice.networks import SpeechModel

    wrapper = network_wrapper()
    wrapper.model_name = "MossFormer2_SS_16K"
    wrapper.load_args_ss()
    wrapper.args.task = "speech_separation"
    net = SpeechModel(wrapper.args)
    net.model, net.name = ideal, wrapper.model_name
    return np.stack([source[0] for source in net.process(str(path))])


def demucs(folder: Path, path: Path) -> tuple[float, float]:
    """Separate a file as Demucs does, its random shift left out, and write what comes."""
    import torch

    own = music()
    net = own.theirs(own.PUBLISHED)
    return separate.through(path, lambda mix: torch.from_numpy(own.run("demucs", net, mix[0]))[None])[0]


def demucs_ideal(ideal: Ideal, path: Path, mix: np.ndarray) -> np.ndarray:
    """Return what Demucs makes of a network of two stems without fault, in one of two equal channels."""
    import torch

    class Stems(torch.nn.Module):
        sources, samplerate, segment = ("low", "high"), ideal.rate, 7.8

        def forward(self, mix: Any) -> Any:
            return torch.stack(ideal(mix), 1)

    found: np.ndarray = music().run("demucs", Stems(), torch.from_numpy(mix))[:, 0]
    return found


def ours_ideal(ideal: Ideal, mix: np.ndarray) -> np.ndarray:
    """Return what usep makes of the network without fault, in the first channel."""
    import torch

    from usepcli.models.separator import SeparationModel
    from usepcli.models.stereo import StereoModel
    from usepcli.separator.separator import Separator

    class Voices(SeparationModel):
        def estimate(self, mix: Any) -> Any:
            return torch.stack([torch.cat(pair) for pair in zip(*map(ideal, mix[:, None]), strict=True)], 1)

    class Stems(StereoModel):
        ordered, stems, segment_s = True, ("low", "high"), 7.8

        def estimate(self, mix: Any) -> Any:
            return torch.stack(ideal(mix), 1)

    model = (Stems if len(mix) == 2 else Voices)(hop=1, n_src=2, sample_rate=ideal.rate)
    found: np.ndarray = Separator(model)(mix, ideal.rate).sources
    return found[:, 0]


NETS = {
    "sepformer": Net("speechbrain", 8000, 1, True, lambda to: public("sepformer", to), speechbrain, speechbrain_ideal),
    "mossformer2": Net(
        "clearvoice", 16000, 1, False, lambda to: public("mossformer2", to), clearvoice, clearvoice_ideal
    ),
    "htdemucs": Net("demucs", 44100, 2, False, htdemucs, demucs, demucs_ideal),
}


def voices(rate: int, seconds: float) -> np.ndarray:
    """Return two voices (2, T) of noise that rise and fall like syllables, the second above CUT_HZ and quieter."""
    import torch

    draw, length = torch.Generator().manual_seed(0), round(rate * seconds)
    time = torch.arange(length) / rate
    shapes = torch.stack([1.2 + torch.sin(2 * torch.pi * hz * time) for hz in (3.1, 4.3)])
    # Divided after they were shaped: the network without fault is without any.
    wide = 0.05 * shapes * torch.randn(2, length, generator=draw)
    both = torch.stack([halves(wave, rate)[k] for k, wave in enumerate(wide)])
    both *= (0.02 / both.square().mean(-1, keepdim=True).sqrt()) * torch.tensor([[1.0], [10 ** (-QUIETER_DB / 20)]])
    return both.numpy()


def sound(net: Net, who: str, path: Path) -> dict[str, Any]:
    """Return what becomes of two voices: sum and levels of outputs that are always in order, swaps of others."""
    from usepcli.audio import io

    told = voices(net.rate, 60)
    mix = told.sum(0)[None].repeat(net.channels, 0)
    io.write(path, mix, net.rate, "PCM_16", overwrite=True)
    found = []
    for turning in (False, net.channels == 1):
        ideal = Ideal(net.rate, turning)
        est = ours_ideal(ideal, mix) if who == turns.OURS else net.ideal(ideal, path, mix)
        found.append(kept(est, told, net.rate))
    return found[0] | {"swapped": found[1]["swapped"]}


def kept(found: np.ndarray, told: np.ndarray, rate: int) -> dict[str, Any]:
    """Return what became of the voices told (2, T): sum, swaps, levels."""
    rest = found.sum(0) - told.sum(0)
    frames = told.shape[-1] // round(FRAME_S * rate)
    est, ref = (np.stack(np.array_split(part, frames, -1)[:-1]) for part in (found, told))  # (frames, 2, t)
    alike = np.abs(np.einsum("fit,fjt->fij", est, ref))
    alike /= np.linalg.norm(est, axis=-1)[:, :, None] * np.linalg.norm(ref, axis=-1)[:, None] + 1e-12
    turned = alike[:, 0, 1] + alike[:, 1, 0] > alike[:, 0, 0] + alike[:, 1, 1]
    est[turned] = est[turned][:, ::-1]
    gains = np.abs((est * ref).sum((0, 2)) / np.square(ref).sum((0, 2)))
    return {
        "sum_db": round(10 * float(np.log10(np.square(rest).sum() / np.square(told).sum() + 1e-20)), 1),
        "swapped": round(float(min(turned.mean(), 1 - turned.mean())), 3),
        "louder_db": " ".join(f"{round(20 * np.log10(gain), 1) + 0:+.1f}" for gain in gains),
    }


def alone(command: list[str], given: argparse.Namespace) -> None:
    """Do what a process of its own is asked for, and print what it found."""
    import torch

    what, name, who, folder, path = command[0], command[1], command[2], Path(command[3]), Path(command[4])
    torch.set_num_threads(1)
    net = NETS[name]
    if what == "prepare":
        from usepcli.engine.exchange import hub_pull

        net.lay_out(folder)
        hub_pull.pull(str(folder), name=name, out=path, say=lambda line: None)
        return
    resource.setrlimit(resource.RLIMIT_DATA, (int(given.limit_gib * 2**30),) * 2)
    seconds = round(given.patience_min * 60)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 10))
    if what == "sound":
        print(json.dumps(sound(net, who, path)))
        return
    began = separate.run_usep(path, str(folder), "", 1)[0] if who == turns.OURS else net.through(folder, path)
    took = separate.now()[1] - began[1]
    print(json.dumps({"processor_s": took, "peak_mib": music().resident("VmHWM")}))


def asked_of(words: list[str], given: argparse.Namespace) -> dict[str, Any]:
    """Return what a process of its own found, or why it found nothing."""
    command = [sys.executable, "-W", "ignore", __file__, "--limit-gib", str(given.limit_gib)]
    command += ["--patience-min", str(given.patience_min), "--alone", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return dict(json.loads((done.stdout.strip().splitlines() or ["{}"])[-1])) if words[0] != "prepare" else {}
    last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
    if done.returncode == -signal.SIGXCPU:
        return {"note": f"ended after {given.patience_min:g} min of the processor"}
    short = done.returncode == -signal.SIGKILL or any(
        word in done.stderr for word in ("can't allocate memory", "MemoryError")
    )
    return {"note": f"out of memory at {given.limit_gib:g} GiB" if short else last[:160]}


def measure(name: str, given: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a network: every length, usep and its maker in turns; at the first, what becomes of sound."""
    net = NETS[name]
    # Where ClearerVoice looks; the others look where they are told.
    theirs, models = folder / "checkpoints" / "MossFormer2_SS_16K", folder / "models"
    theirs.parent.mkdir(parents=True, exist_ok=True)
    failed = asked_of(["prepare", name, "", str(theirs), str(models)], given)
    if failed:
        raise SystemExit(f"{name}: {failed['note']}")
    places = {turns.OURS: models / f"{name}.safetensors", net.package: theirs}
    pace, sounds = dict.fromkeys(places, 0.0), set(places)
    for minutes in sorted(given.minutes or [1.0, 10.0]):
        path = folder / f"{name}_{minutes:g}.wav"
        separate.make_recording(path, minutes, net.rate, net.channels)
        found: dict[str, list[dict[str, Any]]] = {who: [] for who in places}
        for _ in range(given.turns if minutes <= 1 else 1):
            for who, place in places.items():
                whole = net.whole and who != turns.OURS
                if pace[who] * minutes > given.patience_min and not whole:
                    note = f"not begun: {pace[who] * minutes:.0f} min of the processor by the pace of 1 min"
                    found[who].append({"note": note})
                    continue
                found[who].append(asked_of(["cost", name, who, str(place), str(path)], given))
                print(name, minutes, who, found[who][-1], flush=True)
        for who, runs in found.items():
            done = [run for run in runs if "processor_s" in run]
            row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
            row |= {"network": name, "program": who, "minutes": f"{minutes:g}"}
            row |= {"turns": len(done), "threads": 1, "machine": turns.machine(), "note": runs[-1].get("note", "")}
            if done:
                pace[who] = min(run["processor_s"] for run in done) / 60 / minutes
                row |= {"x_real_time": f"{pace[who]:.3f}", "peak_mib": round(max(run["peak_mib"] for run in done))}
            if who in sounds:
                sounds.remove(who)
                row |= asked_of(["sound", name, who, "", str(folder / "voices.wav")], given)
            yield row
        path.unlink()


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return the table for people: a line for each network, program and length."""
    text = [
        "| network | program | minutes | x real time | memory, MiB | outputs minus recording | swapped | louder |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cost = [row["x_real_time"] or row["note"], row["peak_mib"]]
        sound = ["", "", ""]
        if row["louder_db"]:
            louder = ", ".join(row["louder_db"].split())
            sound = [f"{row['sum_db']} dB", f"{float(row['swapped']):.0%}", f"{louder} dB"]
        cells = [row["network"], row["program"], row["minutes"], *cost, *sound]
        text.append(" ".join(["|", *(f"{cell} |".lstrip() for cell in map(str, cells))]))
    return "\n".join(text)


def main() -> None:
    """Measure network after network, and write the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path("makers.csv"))
    parser.add_argument("--only", action="append", choices=NETS)
    parser.add_argument("--minutes", action="append", type=float, help="default: 1 and 10")
    parser.add_argument("--turns", type=int, default=2, help="of each at a minute; the least counts")
    parser.add_argument("--patience-min", type=float, default=15.0, help="of the processor")
    parser.add_argument("--limit-gib", type=float, default=8.0)
    parser.add_argument("--alone", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        return alone(given.alone, given)
    rows: list[dict[str, Any]] = []
    for name in given.only or NETS:
        with tempfile.TemporaryDirectory() as folder:
            for row in measure(name, given, Path(folder)):
                rows.append(row)
                write(given.out, rows)
    print(markdown(rows))


if __name__ == "__main__":
    main()
