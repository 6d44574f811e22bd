"""What a training step takes, in turns with the makers of networks, and what a training waits for.

    python benchmarks/steps.py [--only dptnet] [--peers FOLDER]...      # steps
    python benchmarks/steps.py --device cuda --precision bf16 --compile --batch 16
    python benchmarks/steps.py --waiting        # shares of a training's time, with 0 and with 2 data workers

Steps: forward, loss, backward, clipping, AdamW, one thread, the same network in both. Conv-TasNet stands beside
asteroid's, each with its own toolkit's SI-SNR with the best permutation. Other makers' networks are laid out as they
are published, with weights drawn, and pulled (the heads of public_vectors.py and demucs.py say how their packages are
installed); the loss is usep's in both, dropout is off. --peers: more folders of packages. Device, precision,
compiling and batch are those of all contenders; on a GPU the clock is that of the wall, read when all is computed.

Waiting: the profile small_pit on talkers of noise, some steps and one validation; of an epoch as the profile
has it, the share in which the loop waits for a batch, and the share of the validation; as it is, and with every
mixture in a room.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import turns
from separate import RATE, SIZES, asteroid_net

from usepcli import device
from usepcli.losses.scale_invariant import SISNR
from usepcli.objectives.pit import match
from usepcli.weights import build

BATCH, SECONDS = 2, 4


class Way(NamedTuple):
    """How all contenders compute."""

    device: torch.device = torch.device("cpu")
    precision: str = "fp32"
    compile: bool = False
    batch: int = 0  # items of a step; 0: as each work has it


way = Way()
STEPS = 12  # of the measured training


class Public(NamedTuple):
    """A public network: its maker's package, items and seconds of a batch, how it is told in the table."""

    package: str
    batch: int
    seconds: float
    told: str


# By their names in public_vectors.py.
PUBLIC = {
    "dptnet": Public("asteroid", 2, 1, "DPTNet"),
    "asteroid_lstm": Public("asteroid", 2, 4, "LSTM-TasNet"),
    "asteroid_sudormrf": Public("asteroid", 2, 2, "SuDoRM-RF"),
    "asteroid_sudormrf_improved": Public("asteroid", 2, 2, "SuDoRM-RF improved"),
    "dcunet_10": Public("asteroid", 2, 2, "DCUNet-10"),
    "dccrnet": Public("asteroid", 2, 2, "DCCRN"),
    "sepformer": Public("SpeechBrain", 1, 1, "SepFormer"),
    "mossformer2": Public("ClearerVoice", 1, 1, "MossFormer2"),
    "htdemucs": Public("demucs", 1, 2, "HTDemucs"),
}
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Step = Callable[[], float | None]


def sisnr(est: torch.Tensor, ref: torch.Tensor) -> torch.Tensor:
    """Return usep's negative SI-SNR at the best permutation."""
    return match(SISNR(), est, ref, ref.sum(1)).loss.mean()


def our_step(size: str) -> Step:
    model = build.model({"name": "convtasnet", "n_src": 2, "sample_rate": RATE, **SIZES[size]})
    return _step(model, model, sisnr, noise(way.batch or BATCH, 2, SECONDS * RATE))


def asteroid_step(size: str) -> Step:
    from asteroid.losses import PITLossWrapper, pairwise_neg_sisdr

    model = asteroid_net(size)
    loss = PITLossWrapper(pairwise_neg_sisdr, pit_from="pw_mtx")
    return _step(model, model, loss, noise(way.batch or BATCH, 2, SECONDS * RATE))


def noise(*shape: int) -> torch.Tensor:
    """Return references of noise."""
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _step(run: Callable[..., torch.Tensor], net: torch.nn.Module, loss: Loss, ref: torch.Tensor) -> Step:
    net.to(way.device)
    run = torch.compile(run) if way.compile else run
    optimiser = torch.optim.AdamW(net.parameters(), 1e-3)
    ref = ref.to(way.device)
    mix, half = ref.sum(1), way.precision == "bf16"

    def step() -> None:
        with torch.autocast(way.device.type, torch.bfloat16, enabled=half):
            est = run(mix)
        loss(est.float(), ref).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        optimiser.zero_grad()

    def by_the_wall() -> float:
        begin = time.perf_counter()
        step()
        torch.cuda.synchronize(way.device)
        return time.perf_counter() - begin

    return by_the_wall if way.device.type == "cuda" else step


class Pair:
    """A public network twice, usep's and its maker's; both are made when the first of them is asked for."""

    def __init__(self, name: str) -> None:
        self.name, self.public = name, PUBLIC[name]

    @functools.cached_property
    def nets(self) -> dict[str, tuple[Callable[..., torch.Tensor], torch.nn.Module]]:
        """Return what runs and what learns of either."""
        with tempfile.TemporaryDirectory() as place:
            own, run, theirs = (_music if self.name == "htdemucs" else _pulled)(self.name, Path(place))
        for part in (*own.train().modules(), *theirs.train().modules()):
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
            elif isinstance(getattr(part, "dropout", None), float):
                part.dropout = 0.0
        return {turns.OURS: (own, own), self.public.package: (run, theirs)}

    def step(self, who: str) -> Step:
        """Return the step of one of the two."""
        (run, net), own = self.nets[who], self.nets[turns.OURS][0]
        samples = round(self.public.seconds * own.sample_rate)  # type: ignore[attr-defined]
        shape = (way.batch or self.public.batch, own.n_src, *([2] if self.name == "htdemucs" else []), samples)  # type: ignore[attr-defined]
        return _step(run, net, torch.nn.functional.l1_loss if self.name == "htdemucs" else sisnr, noise(*shape))


def _pulled(name: str, folder: Path) -> tuple[Any, Callable[..., torch.Tensor], torch.nn.Module]:
    import public_vectors

    from usepcli.engine.exchange import hub_pull
    from usepcli.weights import store

    with torch.no_grad():
        theirs = public_vectors.CASES[name](True)
        public_vectors.draw(theirs)
    public_vectors.laid_out(theirs, folder / "theirs")
    found = hub_pull.pull(
        str(folder / "theirs"), out=folder / "models", sample_rate=theirs.rate, say=lambda line: None
    )  # fmt: skip
    return store.load_model(found["path"])[0], theirs.run, torch.nn.ModuleList(theirs.modules.values())


def _music(name: str, folder: Path) -> tuple[Any, Callable[..., torch.Tensor], torch.nn.Module]:
    import makers

    demucs = makers.music()
    net = demucs.theirs(demucs.PUBLISHED)
    own = demucs.imported(folder, demucs.PUBLISHED, net)
    own.input_norm = "none"  # the maker's is outside of the network
    return own, net, net


def works() -> Iterator[turns.Work]:
    """Yield a step of Conv-TasNet at each size, and of every public network."""
    for size in ("small", "paper"):
        params = build.model({"name": "convtasnet", "n_src": 2, "sample_rate": RATE, **SIZES[size]}).n_params
        makers = {turns.OURS: lambda size=size: our_step(size), "asteroid": lambda size=size: asteroid_step(size)}
        yield turns.Work(
            "training",
            f"step, Conv-TasNet of {params / 1e6:.2f} M, {way.batch or BATCH} x {SECONDS} s",
            makers,
            turns=5,
        )
    for name, public in PUBLIC.items():
        pair = Pair(name)
        told = f"step, {public.told}, {way.batch or public.batch} x {public.seconds:g} s"
        makers = {who: lambda who=who, pair=pair: pair.step(who) for who in (turns.OURS, public.package)}
        yield turns.Work("training", told, makers, turns=3)


def waiting() -> list[dict[str, Any]]:
    """Return rows for the shares of a training's time in which it waits for data, and in which it validates."""
    rows = []
    for workers, rooms in itertools.product((0, 2), (False, True)):
        command = [sys.executable, __file__, "--child", str(workers), *(["--rooms"] if rooms else [])]
        name = f"small_pit{' in rooms' if rooms else ''}, {workers} workers"
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        base = dict.fromkeys(turns.COLUMNS, "") | {"group": "waiting", "contender": turns.OURS, "turns": 1}
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            rows.append(base | {"work": name, "note": last[:120]})
            continue
        shares = json.loads(done.stdout.splitlines()[-1])
        for what in ("data", "validation"):
            note = f"{100 * shares[what]:.1f} % of an epoch"
            rows.append(base | {"work": f"{name}: {what}", "note": note})
    for row in rows:
        print(turns.line(row), flush=True)
    return rows


def child(workers: int, rooms: bool) -> None:
    """Train for some steps, and print the shares of an epoch as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        _talkers(Path(folder) / "speech")
        words = ["prepare-data", "speech", "-o", "two", "--corpus", "speakers", "-q"]
        subprocess.run([sys.executable, "-m", "usepcli", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        if rooms:
            _responses(Path(folder) / "rooms")
        print(json.dumps(_shares(Path(folder), workers, rooms)))


def _talkers(folder: Path) -> None:
    """Write two files of ten seconds of noise in bursts for each of forty talkers."""
    import numpy as np

    from usepcli.audio import io

    draw = np.random.default_rng(0)
    for talker in range(40):
        for take in range(2):
            wave = draw.standard_normal((1, 10 * RATE)) * (draw.uniform(size=(1, 20)) > 0.2).repeat(RATE // 2, 1)
            io.write(folder / f"t{talker:02}" / f"{take}.wav", (0.05 * wave).astype(np.float32), RATE)


def _responses(folder: Path) -> None:
    """Write four responses that die away within 0.6 s for each of ten rooms."""
    import numpy as np

    from usepcli.audio import io

    draw, fade = np.random.default_rng(1), 10 ** (-3 * np.arange(round(0.6 * RATE)) / (0.6 * RATE))
    for room in range(10):
        for place in range(4):
            wave = 0.1 * draw.standard_normal((1, len(fade))) * fade
            wave[:, 0] = 1.0
            io.write(folder / f"r{room}" / f"{place}.wav", (0.5 * wave).astype(np.float32), RATE)


def _shares(folder: Path, workers: int, rooms: bool) -> dict[str, float]:
    from usepcli.engine.training.train import Trainer
    from usepcli.profile.load import load_profile

    sets = [f"data.manifest={folder}/two", f"data.pool=[{folder}/two]", f"train.workers={workers}"]
    sets += [f"train.max_steps={STEPS}", "train.epochs=1", "train.threads=1"]
    sets += [f"data.rooms={folder}/rooms", "data.rooms_prob=1"] if rooms else []
    waits, works, validations = list[float](), list[float](), list[float]()

    class Watched(Trainer):
        def _fed(self) -> Iterator[Any]:
            begin = time.monotonic()
            for micro in super()._fed():
                got = time.monotonic()
                yield micro
                waits.append(got - begin)
                begin = time.monotonic()
                works.append(begin - got)

        def _validate(self) -> None:
            begin = time.monotonic()
            super()._validate()
            validations.append(time.monotonic() - begin)

    profile = load_profile("small_pit")
    trainer = Watched(load_profile("small_pit", sets=sets), folder / "run")
    steps = profile.data.epoch_items // trainer.feed.batch_size
    trainer.fit()
    # The first batches find the disk, the workers and the memory cold.
    wait, work = (statistics.mean(each[2:]) * steps for each in (waits, works))
    valid = sum(validations)
    whole = wait + work + valid
    return {"data": wait / whole, "validation": valid / whole}


def main() -> None:
    """Measure and print; benchmarks/speed.py writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiting", action="store_true")
    parser.add_argument("--only", default="", help="steps whose name holds this")
    parser.add_argument("--peers", action="append", default=[], help="a folder of packages")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--compile", action="store_true", help="make one program of every network")
    parser.add_argument("--batch", type=int, default=0, help="items of a step; 0: as each work has it")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rooms", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    sys.path += asked.peers
    if asked.child is not None:
        return child(asked.child, asked.rooms)
    if asked.waiting:
        waiting()
    else:
        global way
        way = Way(device.pick(asked.device), asked.precision, asked.compile, asked.batch)
        device.keep_heap()
        torch.set_num_threads(1)
        turns.table(work for work in works() if asked.only.lower() in work.name.lower())
    print(turns.machine())


if __name__ == "__main__":
    main()
