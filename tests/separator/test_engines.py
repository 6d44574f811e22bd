"""Engines: another runtime in the place of a network gives the sources of torch, from a graph that is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from usepcli import versions
from usepcli.audio import sample
from usepcli.errors import BadInput, MissingDependency, UsageError
from usepcli.models.ensemble import Ensemble
from usepcli.separator import engines, graphs
from usepcli.separator.separator import Separator
from usepcli.weights import build, cards, ensembles, onnx_writing, runtimes, store

TALKERS = sample.two_talkers(8000)[: 5 * 8000]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "usep" / "models" / "graphs"


def model(path: Path, name: str = "conformer_mask", seed: int = 0, **settings: Any) -> Path:
    torch.manual_seed(seed)
    made = build.model({"name": name, "preset": "tiny", "n_src": 2, "sample_rate": 8000, **settings})
    card = cards.Card(name=path.stem, model=made.config, sample_rate=8000, n_src=2)
    store.save_model(path, made.state_dict(), card)
    return path


class Stand:
    """An engine for tests: it computes by the graph's own layers in torch, and what it gives can be spoiled."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written = self.opened = self.asked = 0
        self.spoil: Callable[[np.ndarray], np.ndarray] = lambda found: found
        self.graph: Any = None
        monkeypatch.setattr(graphs.runtimes, "load", lambda *_: None)
        monkeypatch.setattr(graphs.torch.export, "export", self.trace)
        monkeypatch.setattr(onnx_writing, "written", self.write)
        monkeypatch.setattr(engines.versions, "lacking", lambda modules: [])
        one = engines.Engine("numpy", "export", self.open)
        monkeypatch.setattr(graphs, "ENGINES", {"onnx": one, "openvino-bf16": dataclasses.replace(one, coarse="few")})

    def trace(self, graph: torch.nn.Module, inputs: tuple[torch.Tensor, ...], **_: object) -> Any:
        self.graph = graph
        with torch.no_grad():
            count = len(graph(*inputs))
        signature = type("Signature", (), {"user_outputs": range(count)})
        return type("Program", (), {"graph_signature": signature})

    def write(self, *_: object) -> bytes:
        self.written += 1
        return b"a graph"

    def open(self, raw: bytes) -> engines.Run:
        if raw != b"a graph":
            raise RuntimeError("Exception from a place in its source\nno protocol buffer")
        self.opened += 1
        return self.run

    def run(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        self.asked += 1
        with torch.no_grad():
            return [self.spoil(each.numpy()) for each in self.graph(*map(torch.tensor, values))]


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    return Stand(monkeypatch)


def loaded(path: Path, engine: str = "onnx") -> tuple[Separator, list[str]]:
    said: list[str] = []
    return Separator.load(path, chunk_s=2.0, engine=engine, say=said.append), said


@pytest.mark.parametrize(
    ("name", "settings", "place"),
    [
        ("conformer_mask", {}, "network"),
        ("conformer_mask", {"consistency": "learned"}, "network"),
        ("tflocoformer", {}, "network"),
        ("convtasnet", {}, "estimate_parts"),
        ("convtasnet", {"consistency": "learned"}, "estimate_parts"),
    ],
    ids=["masks", "masks and weights", "spectra", "waves", "waves and weights"],
)
def test_the_network_alone_is_exchanged(
    name: str, settings: dict[str, Any], place: str, tmp_path: Path, stand: Stand
) -> None:
    path = model(tmp_path / "toy.safetensors", name, **settings)
    ours, said = loaded(path)
    before = stand.asked
    both = np.stack([TALKERS, TALKERS[::-1]])
    found = ours(both, 8000).sources
    assert stand.asked > before and place in vars(ours.model)
    # A copy of the layers: what differs is the order of sums in the STFT that traces take, for models that hold one.
    assert np.abs(found - Separator.load(path, chunk_s=2.0)(both, 8000).sources).max() < graphs.TOLERANCE
    assert (
        len(said) == 2 and "compared with torch's, once" in said[0] and said[1].startswith("engine onnx: sources are")
    )


def test_channels_go_row_by_row_and_what_was_not_compared_goes_to_torch(tmp_path: Path, stand: Stand) -> None:
    ours, _ = loaded(model(tmp_path / "toy.safetensors"))
    torchs = Separator.load(tmp_path / "toy.safetensors", chunk_s=2.0)
    stand.asked = 0
    rows = np.stack([TALKERS, TALKERS[::-1], TALKERS])[:, : 2 * 8000]
    assert np.abs(ours.rows(rows) - torchs.rows(rows)).max() < graphs.TOLERANCE and stand.asked == 3
    for short in (1, 100, 7900):
        assert np.array_equal(ours.rows(rows[:, :short]), torchs.rows(rows[:, :short])) and stand.asked == 3
    longer = TALKERS[None, : round((ours.chunk_s + 0.8) * 8000)]  # and slower, for --speeds, were compared
    assert np.array_equal(ours.rows(longer), torchs.rows(longer)) and stand.asked == 3


def test_a_graph_is_written_once_and_compared_once_for_every_length(tmp_path: Path, stand: Stand, cache: Path) -> None:
    path = model(tmp_path / "toy.safetensors")
    loaded(path)
    assert stand.written == 1 and sorted(each.suffix for each in cache.iterdir()) == [".json", ".onnx"]
    asked = stand.asked
    _, said = loaded(path)
    assert (stand.written, stand.asked) == (1, asked) and len(said) == 1
    Separator.load(path, chunk_s=3.0, engine="onnx")
    assert stand.written == 1 and stand.asked > asked
    # What a model is told apart by: its weights and its settings.
    loaded(model(tmp_path / "toy.safetensors", seed=1))
    loaded(model(tmp_path / "toy.safetensors", seed=1, mask="sigmoid"))
    assert stand.written == 3


def test_a_graph_that_was_cut_short_is_written_again(tmp_path: Path, stand: Stand, cache: Path) -> None:
    path = model(tmp_path / "toy.safetensors")
    loaded(path)
    next(cache.glob("*.onnx")).write_bytes(b"a gr")
    loaded(path)
    assert stand.written == 2 and next(cache.glob("*.onnx")).read_bytes() == b"a graph"


def test_without_a_place_for_graphs_it_goes_on_and_says_so(
    tmp_path: Path, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    ours, said = loaded(model(tmp_path / "toy.safetensors"))
    assert "network" in vars(ours.model) and sum("nothing is kept for the next run" in line for line in said) == 2


@pytest.mark.parametrize(
    ("engine", "spoil", "why"),
    [
        ("onnx", lambda found: found + 0.01, r"differs from torch by 0\.0\d+ of the peak, more than 0\.00012"),
        ("onnx", lambda found: found * np.nan, "differs from torch by (inf|nan) of the peak"),
        ("onnx", lambda found: found[:, :-1], r"has a graph that does not hold for other lengths \(The size"),
        ("openvino-bf16", lambda found: -found, r"is -?\d+\.\d dB from torch, less than 20"),
    ],
    ids=["another", "no number", "shorter", "coarse"],
)
def test_what_is_not_the_same_is_refused_and_torch_is_back(
    engine: str, spoil: Any, why: str, tmp_path: Path, stand: Stand, cache: Path
) -> None:
    stand.spoil = spoil
    path = model(tmp_path / "toy.safetensors", mask="sigmoid")
    net = store.load_model(path)[0]
    with pytest.raises(BadInput, match=rf"^--engine {engine}: \S*toy\S* {why}.*; use --engine torch$"):
        graphs.engage(net, path, engine, 4.0, lambda line: None)
    assert "network" not in vars(net) and not cache.exists()
    assert stand.written == 2  # norms as they are, and spelled out


def test_an_engine_of_fewer_digits_is_not_held_to_all_of_them(tmp_path: Path, stand: Stand) -> None:
    stand.spoil = lambda found: (found * 1.01).astype(np.float32)
    path = model(tmp_path / "toy.safetensors")
    with pytest.raises(BadInput, match="differs from torch"):
        loaded(path)
    _, said = loaded(path, "openvino-bf16")
    assert "dB from those of torch" in said[-1]


def test_a_model_that_cannot_be_written_says_why_in_one_line(
    tmp_path: Path, stand: Stand, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    def stubborn(*_: object, **__: object) -> None:
        raise RuntimeError("\x1b[96mstep 3/3\x1b[0m failed") from ValueError("\x1b[1mL\x1b[0m must be 251\nand more")

    monkeypatch.setattr(graphs.torch.export, "export", stubborn)
    with pytest.raises(BadInput) as caught:
        loaded(model(tmp_path / "toy.safetensors"))
    assert str(caught.value).endswith("cannot be written as a graph of open length (L must be 251); use --engine torch")
    assert not cache.exists()


def test_a_runtime_that_fails_later_is_named_and_memory_that_ends_is_memory(tmp_path: Path, stand: Stand) -> None:
    ours, _ = loaded(model(tmp_path / "toy.safetensors"))

    def fails(values: object) -> list[np.ndarray]:
        raise RuntimeError(said)

    vars(ours.model)["network"].run = fails
    said = "a shape\nof no use"
    with pytest.raises(BadInput, match=r"--engine onnx: fails on an input of \(1, 33, .*: a shape; use --engine torch"):
        ours(TALKERS, 8000)
    said = "Failed to allocate memory for a buffer"
    with pytest.raises(MemoryError):
        engines.asked(fails, [], "onnx")


def test_all_networks_of_an_ensemble_are_exchanged(tmp_path: Path, stand: Stand) -> None:
    one, two = (model(tmp_path / f"{k}.safetensors", seed=k) for k in range(2))
    ours = Separator.load(f"{one}+{two}", chunk_s=2.0, engine="onnx")
    assert isinstance(ours.model, Ensemble) and stand.written == 2
    assert all("network" in vars(net) for net in ours.model.nets)


def test_what_no_engine_takes_is_told_by_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, why in (("cond_unet", "separates what it is asked for"), ("onnx", "is an ONNX graph")):
        member = ensembles.Member(name, Path(name), cards.Card(model={"name": name}), "")
        monkeypatch.setattr(ensembles, "find", lambda ref, one=member: ensembles.Joined((one,), one.card, ""))
        monkeypatch.setattr(versions, "lacking", lambda modules: [])
        with pytest.raises(UsageError, match=why):
            engines.check("onnx", name)
    with pytest.raises(UsageError, match="did you mean 'onnx'"):
        engines.check("onx", "default")


def test_a_processor_without_bfloat16_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "openvino_precisions", lambda: ["FP32", "INT8"])
    with pytest.raises(MissingDependency, match=r"FP32, INT8 and not in bfloat16; use --engine openvino$"):
        engines.ENGINES["openvino-bf16"].open(b"")
