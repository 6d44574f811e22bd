"""Every kind of separator at a size for processors: what equal processor seconds of training give, and what each costs.

    usep prepare-data speech -o data/two --corpus speakers --rate 8000
    python benchmarks/models.py plan models.yaml --seconds 900
    usep train --sweep models.yaml -o runs/models --set data.manifest=data/two --set data.pool=[data/two]
    python benchmarks/models.py table runs/models --data data/two -o out
    python benchmarks/models.py peers -o peers.csv [--peers FOLDER_WITH_SPEECHBRAIN_AND_ASTEROID]

`plan` measures the processor seconds of an update of each model, one thread, and gives each as many as fit into the
budget; all else is alike. `table` scores every finished run on the test split, whose talkers no training met, and
measures its real-time factor in processor seconds, one thread: rows.csv, table.md and models.png. `peers` runs
Conv-TasNet and SepFormer at published size beside asteroid's and SpeechBrain's own code, in turns within one process:
least processor seconds of a forward pass over ten seconds, their ratio, and the peak memory of each alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from separate import SIZES, asteroid_net
from study import Study, cell, figures, machine, read, summary, write

RATE, BATCH, SEGMENT_S = 8000, 4, 2.0
LIVE = {"causal": True, "input_norm": "none"}
MODELS: dict[str, dict[str, Any]] = {
    "conformer_mask": {}, "convtasnet": {}, "tdcnpp": {}, "dprnn": {},
    "dprnn gated": {"name": "dprnn", "path": "gated"},
    "dprnn dptnet": {"name": "dprnn", "path": "dptnet"}, "band_path": {}, "upit": {}, "tasnet": {}, "sepformer": {},
    "sudormrf": {}, "chimera": {}, "tfgridnet": {}, "tflocoformer": {}, "tiger": {}, "mossformer2": {}, "unet_mask": {},
    "convtasnet live": {"name": "convtasnet", "norm": "cumln", **LIVE}, "upit live": {"name": "upit", **LIVE},
    "dprnn live": {"name": "dprnn", "norm": "channel", **LIVE}, "tasnet live": {"name": "tasnet", **LIVE},
}  # fmt: skip
# Ten seconds of the published sizes, which both makers' code is built with, too.
PUBLISHED = {
    "convtasnet": {"name": "convtasnet", **SIZES["paper"]},
    "sepformer": {"name": "sepformer"},
}  # fmt: skip


def settings(row: str) -> dict[str, Any]:
    """Return the model section of a row."""
    return {"name": row, "preset": "small", "n_src": 2, "sample_rate": RATE, **MODELS[row]}


# plan


def update_s(row: str) -> float:
    """Return the least processor seconds of an update of a row's model on one thread, of a few."""
    import torch

    from usepcli.losses.thresholded import SNR
    from usepcli.objectives.pit import match
    from usepcli.weights import build

    torch.manual_seed(0)
    model, took = build.model(settings(row)), []
    step = torch.optim.AdamW(model.parameters(), 1e-3)
    ref = 0.1 * torch.randn(BATCH, 2, round(SEGMENT_S * RATE))
    for _ in range(4):
        begin = time.process_time()
        match(SNR(), model(ref.sum(1)), ref, ref.sum(1)).loss.mean().backward()
        step.step()
        step.zero_grad()
        took.append(time.process_time() - begin)
    return min(took)


def plan(out: Path, seconds: float) -> None:
    """Write the sweep in which every model learns for so many processor seconds."""
    import torch

    torch.set_num_threads(1)
    lines = [
        f"# Every kind of separator for about {seconds:g} processor seconds; made by benchmarks/models.py plan on",
        f"# {machine()}.",
        "profile: two_talkers_8k",
        "grid:",
        f"  train.batch_size: [{BATCH}]",
        f"  data.segment_s: [{SEGMENT_S:g}]",
        "  schedule.name: [cosine]",
        "runs:",
    ]
    for row in MODELS:
        each = update_s(row)
        steps = max(1, round(seconds / each))
        sets = {f"model.{key}": value for key, value in settings(row).items()}
        sets |= {"train.max_steps": steps, "schedule.warmup_steps": max(1, min(100, steps // 20))}
        sets |= {"data.epoch_items": BATCH * max(1, steps // 4), "valid.keep_best": 1, "valid.average": 1}
        lines.append(f"  {row.replace(' ', '_')}: {json.dumps(sets)}")
        print(f"{row}: {each:.2f} s an update, {steps} updates", file=sys.stderr)
    lines.append("evaluate: {split: test, metric: [si-snri]}")
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")


# table


class Models(Study):
    """The runs of a plan on the test split."""

    def scored(self, row: str, where: str, score: str) -> Path:
        """Return the folder of a row's scores, which a sweep that evaluates has made already."""
        made = self.rows[row] / "sweep_scores"
        if (made / "summary.csv").exists():
            return made
        return self.evaluate(row, where, "si-snri", "--metric", "si-snri")

    def table(self) -> list[dict[str, Any]]:
        """Return a line for each row: score with its interval, updates, size and cost."""
        lines = []
        for row, folder in self.rows.items():
            found = summary(self.scored(row, "test", "si-snri"))
            log = read(folder / "train.csv")
            line = {"row": row, "set": "test", **figures(found, "separated", ("si-snri",))}
            lines.append(line | {"updates": int(log[-1]["step"])} | cost(folder / "best.safetensors"))
        return sorted(lines, key=lambda line: -float(line["si-snri"]))


def cost(path: Path, seconds: int = 8) -> dict[str, Any]:
    """Return parameters, arithmetic, delay and processor seconds for a second of sound, one thread, of a model."""
    import torch

    from usepcli.weights import build, store

    torch.set_num_threads(1)
    model, _ = store.load_any(path)
    net, asked = model.eval(), build.cost_of(model)
    took, wave = [], 0.1 * torch.randn(1, seconds * model.sample_rate)
    with torch.inference_mode():
        for _ in range(3):
            begin = time.process_time()
            net(wave)
            took.append((time.process_time() - begin) / seconds)
    delay = 1000 * asked["latency_samples"] / model.sample_rate if asked["causal"] else None
    return {
        "parameters": model.n_params, "gflop_per_second": round(asked["flops_per_second"] / 1e9, 3),
        "x_real_time": round(min(took), 4), "latency_ms": "" if delay is None else round(delay, 1),
    }  # fmt: skip


def markdown(table: list[dict[str, Any]]) -> str:
    """Return the table for people."""
    text = ["| model | SI-SNRi (dB) | updates | parameters | GFLOP/s | x real time | latency |"]
    text.append("|---|---|---|---|---|---|---|")
    for line in table:
        delay = f"{line['latency_ms']} ms" if line["latency_ms"] != "" else "whole input"
        text.append(
            f"| {line['row']} | {cell(line, 'si-snri')} | {line['updates']} | {line['parameters'] / 1e6:.2f} M | "
            f"{line['gflop_per_second']:.2f} | {line['x_real_time']:.3f} | {delay} |"
        )
    return "\n".join([*text, "", f"Means with 95 % intervals; one thread; {machine()}.", ""])


def picture(table: list[dict[str, Any]], path: Path) -> None:
    """Draw the score of every row against what its arithmetic, its parameters and its time cost."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    axes_of = {
        "gflop_per_second": "GFLOP for a second of sound",
        "parameters": "parameters",
        "x_real_time": "x real time, one thread",
    }
    figure, axes = plt.subplots(1, len(axes_of), figsize=(15, 8), sharey=True, layout="constrained")
    for axis, (key, label) in zip(axes, axes_of.items(), strict=True):
        for line in table:
            low, mid, high = (float(line[name]) for name in ("si-snri_low", "si-snri", "si-snri_high"))
            colour = "C1" if line["latency_ms"] != "" else "C0"
            axis.plot([line[key]] * 2, [low, high], color=colour, lw=1)
            axis.plot([line[key]], [mid], "o", color=colour, ms=5)
            axis.annotate(line["row"], (line[key], mid), xytext=(5, 3), textcoords="offset points", fontsize=7)
        axis.set(xscale="log", xlabel=label)
        axis.xaxis.set_minor_formatter(plt.NullFormatter())
        axis.grid(color="0.9")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("SI-SNRi (dB); orange: causal")
    figure.savefig(path, dpi=110)


# peers


def speechbrain_sepformer() -> Callable[[Any], Any]:
    """Return SpeechBrain's SepFormer as its recipe for WSJ0-2mix builds it."""
    import torch
    from speechbrain.lobes.models import dual_path
    from speechbrain.lobes.models.dual_path import SBTransformerBlock

    block = {"num_layers": 8, "d_model": 256, "nhead": 8, "d_ffn": 1024, "norm_before": True,
             "use_positional_encoding": True}  # fmt: skip
    encoder, decoder = dual_path.Encoder(16, 256), dual_path.Decoder(256, 1, kernel_size=16, stride=8, bias=False)
    mask = dual_path.Dual_Path_Model(
        256, 256, SBTransformerBlock(**block), SBTransformerBlock(**block), num_layers=2, norm="ln", K=250,
        num_spks=2, skip_around_intra=True, linear_layer_after_inter_intra=False,
    )  # fmt: skip
    torch.nn.ModuleList([encoder, decoder, mask]).eval()

    def separate(mix: Any) -> Any:
        coded = encoder(mix)
        return torch.stack([decoder(coded * one) for one in mask(coded)], 1)

    return separate


PEERS: dict[str, tuple[str, Callable[[], Callable[[Any], Any]]]] = {
    "convtasnet": ("asteroid", lambda: asteroid_net("paper").eval()),
    "sepformer": ("SpeechBrain", speechbrain_sepformer),
}  # fmt: skip


def ours(name: str) -> Callable[[Any], Any]:
    """Return usep's network at the published size."""
    from usepcli.weights import build

    return build.model({"n_src": 2, "sample_rate": RATE, **PUBLISHED[name]}).eval()


def run_alone(which: str, name: str, seconds: int) -> None:
    """Print by how much one forward pass over so many seconds raised the memory, in MiB, beyond what stood before."""
    import torch

    torch.set_num_threads(1)
    net = ours(name) if which == "usep" else PEERS[name][1]()
    wave = 0.1 * torch.randn(1, seconds * RATE)
    with torch.inference_mode():
        net(wave[:, :RATE])  # what a first call sets up once
        Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is there
        before = resident("VmHWM")
        net(wave)
    print(json.dumps({"mib": resident("VmHWM") - before}))


def resident(key: str) -> float:
    """Return a line of the kernel's account of this process, in MiB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


def peers(out: Path, folder: str, seconds: int, turns: int) -> None:
    """Measure both in turns, and each alone for its memory."""
    import torch

    torch.set_num_threads(1)
    rows = []
    for name, (maker, make) in PEERS.items():
        nets, took = {"usep": ours(name), maker: make()}, {"usep": [], maker: []}  # type: ignore[var-annotated]
        wave = 0.1 * torch.randn(1, seconds * RATE)
        with torch.inference_mode():
            for _ in range(turns):
                for who, net in nets.items():
                    begin = time.process_time()
                    net(wave)
                    took[who].append(time.process_time() - begin)
        for who in nets:
            command = [sys.executable, __file__, "alone", who, name, "--seconds", str(seconds), "--peers", folder]
            memory = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            rows.append(
                {
                    "model": name, "code": who, "x_real_time": round(min(took[who]) / seconds, 4),
                    "times_faster": round(min(took[maker]) / min(took["usep"]), 2) if who == "usep" else "",
                    "mib": round(memory["mib"]), "seconds": seconds, "machine": machine(),
                }
            )  # fmt: skip
            print(rows[-1], flush=True)
    write(out, rows)


def main() -> None:
    """Do what the first word says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    one = kinds.add_parser("plan")
    one.add_argument("out", type=Path)
    one.add_argument("--seconds", type=float, default=900.0, help="processor seconds of training for each model")
    one = kinds.add_parser("table")
    one.add_argument("sweep", type=Path)
    one.add_argument("--data", type=Path, required=True)
    one.add_argument("-o", "--out", type=Path, required=True)
    for kind in ("peers", "alone"):
        one = kinds.add_parser(kind)
        if kind == "alone":
            one.add_argument("which")
            one.add_argument("name")
        else:
            one.add_argument("-o", "--out", type=Path, default=Path("peers.csv"))
            one.add_argument("--turns", type=int, default=5)
        one.add_argument("--peers", default="", help="a folder with both, where they are not installed")
        one.add_argument("--seconds", type=int, default=10)
    given = parser.parse_args()
    if getattr(given, "peers", ""):
        sys.path.append(given.peers)
    if given.kind == "plan":
        return plan(given.out, given.seconds)
    if given.kind == "alone":
        return run_alone(given.which, given.name, given.seconds)
    if given.kind == "peers":
        return peers(given.out, given.peers, given.seconds, given.turns)
    study = Models([given.sweep], {"test": given.data / "manifest.csv"}, given.out)
    table = study.table()
    write(study.out / "rows.csv", table)
    (study.out / "table.md").write_text(markdown(table), encoding="utf-8")
    picture(table, study.out / "models.png")
    print(markdown(table))


if __name__ == "__main__":
    main()
