"""Pseudo-mixtures on disk: the shuffles of training, sums that hold, one set whatever interrupts it."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from usepcli import registry
from usepcli.audio import io
from usepcli.data.batch import Batch
from usepcli.data.manifest import Manifest, Row
from usepcli.engine.folder import Lock
from usepcli.engine.pseudo import pseudo_set
from usepcli.engine.pseudo.plan import Settings, plan
from usepcli.engine.pseudo.pseudo_set import remix_set as make
from usepcli.engine.pseudo.shuffled_folder import ShuffledFolder
from usepcli.engine.pseudo.sources import Listed, Separated
from usepcli.engine.shards import Shard
from usepcli.engine.training.train import Trainer
from usepcli.errors import BadInput, OutputError, UsageError
from usepcli.models.separator import SeparationModel
from usepcli.objectives.remixing import RemixIT
from usepcli.profile.load import load_profile
from usepcli.weights import build, cards, store

RATE = 8000


class Delays(SeparationModel):
    """Output n is the mixture n samples late, times 1 + n: outputs that can be told apart."""

    def __init__(self, n_src: int = 3, input_norm: str = "std") -> None:
        super().__init__(n_src=n_src, sample_rate=RATE, hop=1, input_norm=input_norm)  # type: ignore[arg-type]

    def estimate(self, mix: Tensor) -> Tensor:
        return torch.stack([(1 + n) * mix.roll(n, -1) for n in range(self.n_src)], 1)


def table(root: Path, lengths: list[int], n_refs: int = 2, noise: float = 0.1, split: str = "train") -> Manifest:
    """Mixtures of different levels and lengths with references and noise, float files, below root."""
    draw, rows = np.random.default_rng(0), []
    for i, length in enumerate(lengths):
        waves = 0.02 * (i + 1) * draw.standard_normal((n_refs, length))
        mix = waves.sum(0) + noise * 0.01 * draw.standard_normal(length)
        names = [f"{i}/s{k}.wav" for k in range(n_refs)]
        for name, wave in zip([*names, f"{i}/mix.wav"], [*waves, mix], strict=True):
            io.write(root / name, wave.astype(np.float32), RATE, "FLOAT")
        speakers = tuple(f"t{i}{k}" for k in range(n_refs))
        rows.append(
            Row(f"m{i}", split, f"{i}/mix.wav", tuple(names), "", RATE, length, n_refs, speakers, licence=f"L{i % 2}")
        )
    manifest = Manifest(rows, root, root / "manifest.csv")
    manifest.write()
    return manifest


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Six mixtures of two sources and noise, 0.05 s each."""
    return table(tmp_path / "data", [400] * 6)


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """An untrained tiny Conformer with three outputs."""
    torch.manual_seed(0)
    model = build.model({"name": "conformer_mask", "preset": "tiny", "n_src": 3, "sample_rate": RATE})
    card = cards.Card(name="toy", model=build.config_of(model), sample_rate=RATE, n_src=3, licence="CC0-1.0")
    path = tmp_path / "toy.safetensors"
    store.save_model(path, model.state_dict(), card)
    return path


def lines(out: Path) -> list[dict[str, str]]:
    with open(out / "remix.csv", newline="") as file:
        return list(csv.DictReader(file))


def files(out: Path) -> dict[str, bytes]:
    kept = [path for path in out.rglob("*") if path.suffix in (".wav", ".csv")]
    return {str(path.relative_to(out)): path.read_bytes() for path in kept}


def waves(out: Path, row: Row) -> tuple[np.ndarray, np.ndarray]:
    """Return the mixture (T,) and the sources (R, T) of a row as float64."""
    mix, *parts = [io.read(out / name)[0][0].astype(np.float64) for name in (row.mixture, *row.sources)]
    return mix, np.stack(parts)


@pytest.mark.parametrize("n_remix", [0, 2])
@pytest.mark.parametrize("channel_shuffle", [True, False])
@pytest.mark.parametrize("kind", ["constrained", "free", "cyclic"])
def test_the_shuffle_is_that_of_training(kind: str, channel_shuffle: bool, n_remix: int):
    mix = torch.randn(7, 300, generator=torch.Generator().manual_seed(3)) * torch.arange(1, 8)[:, None]
    model = Delays()
    training = RemixIT(
        model, registry.load("loss", "snr")(), shuffle=kind, channel_shuffle=channel_shuffle,  # type: ignore[arg-type]
        n_remix=n_remix, teacher_init="copy",
    )  # fmt: skip
    training.rng.manual_seed(11)
    mean, scale = model.input_level(mix)
    expected = training.remix((mix - mean) / scale)
    given = Separated(model, n_remix, True, "cpu")(Batch(mix, None, [""] * 7))
    settings = Settings(kind=kind, channel_shuffle=channel_shuffle)
    found, items, _ = pseudo_set.shuffled(given, settings, torch.Generator().manual_seed(11))
    torch.testing.assert_close(found, expected.sources)
    torch.testing.assert_close(found.sum(1), expected.pseudo)
    assert np.array_equal(items, expected.order.T.numpy())


@given(
    batch=st.integers(2, 9), n_src=st.integers(2, 5), seed=st.integers(0, 99), channel=st.booleans(),
    kind=st.sampled_from(["constrained", "free", "cyclic"]),
)  # fmt: skip
def test_every_source_appears_once_and_says_where_it_came_from(
    batch: int, n_src: int, seed: int, channel: bool, kind: str
):
    batch = max(batch, n_src)
    label = torch.arange(batch)[:, None] * 10 + torch.arange(n_src)
    settings = Settings(kind=kind, channel_shuffle=channel)
    draw = torch.Generator().manual_seed(seed)
    found, items, outputs = pseudo_set.shuffled(label[..., None].float(), settings, draw)
    assert np.array_equal(found[..., 0].numpy(), items * 10 + outputs)
    assert sorted(found.flatten().tolist()) == sorted(label.flatten().tolist())
    if kind != "free":
        assert all(len(set(row)) == n_src for row in items.tolist())
    if not channel:
        assert (outputs == np.arange(n_src)).all()


@given(
    sizes=st.lists(st.integers(3, 30), min_size=1, max_size=3), batch=st.integers(3, 8), rounds=st.integers(1, 3),
    seconds=st.sampled_from([0.0, 1.0]),
)  # fmt: skip
def test_a_plan_takes_every_mixture_once_in_a_round_and_keeps_splits_apart(
    sizes: list[int], batch: int, rounds: int, seconds: float
):
    draw = np.random.default_rng(0)
    rows = [
        Row(f"{s}-{i}", f"split{s}", "x.wav", sample_rate=RATE, frames=int(draw.integers(100, 9000)))
        for s, size in enumerate(sizes)
        for i in range(size)
    ]
    groups = plan(Manifest(rows, Path(), Path()), Settings(batch=batch, rounds=rounds, seconds=seconds), 3)
    for turn in range(rounds):
        here = [group for group in groups if group.round == turn]
        assert sorted(i for group in here for i in group.rows) == list(range(len(rows)))
        assert [group.first for group in here] == [sum(len(g.rows) for g in here[:k]) for k in range(len(here))]
    for group in groups:
        assert {rows[i].split for i in group.rows} == {group.split}
        size = sizes[int(group.split[-1])]
        assert min(batch, size) <= len(group.rows) < 2 * batch
        if not seconds:
            assert [rows[i].frames for i in group.rows] == sorted(rows[i].frames for i in group.rows)


def test_rounds_bring_other_mixtures_together():
    rows = [Row(str(i), "train", "x.wav", sample_rate=RATE, frames=RATE) for i in range(40)]
    groups = plan(Manifest(rows, Path(), Path()), Settings(batch=8, rounds=2), 3)
    first, second = ({frozenset(g.rows) for g in groups if g.round == turn} for turn in (0, 1))
    assert not first & second


@pytest.mark.parametrize(("subtype", "digits"), [("FLOAT", 24), ("PCM_16", 15), ("PCM_24", 23), ("PCM_32", 24)])
@pytest.mark.parametrize("scale", [0.1, 1.5])
def test_sources_add_up_in_the_files_and_nothing_clips(tmp_path: Path, subtype: str, digits: int, scale: float):
    given = scale * np.random.default_rng(0).uniform(-1, 1, (3, 500))
    gain_db = pseudo_set.write(tmp_path, given.astype(np.float32), RATE, subtype)
    assert (gain_db == 0) == (scale == 0.1)
    mix, *parts = [io.read(tmp_path / f"{name}.wav")[0][0].astype(np.float64) for name in ("mix", "s1", "s2", "s3")]
    assert np.abs([mix, *parts]).max() < 1
    np.testing.assert_allclose(parts, given * 10 ** (gain_db / 20), rtol=1e-4, atol=2.0**-digits)
    exact = subtype in ("PCM_16", "PCM_24")
    np.testing.assert_allclose(mix, np.sum(parts, 0), rtol=0, atol=0 if exact else 3 * 2.0**-24)


def test_references_and_residual_change_places_at_one_level(manifest: Manifest, tmp_path: Path):
    out = tmp_path / "out"
    done = make(manifest, out, Settings(batch=3), quiet=True)
    assert (done.sources, done.rate, done.mixtures, done.turned_down) == (3, RATE, {"train": 6}, 0)
    kept = {row.id: row for row in manifest.rows}
    found = Manifest.read(out)
    assert len(found) == 6 and len({row.origin for row in found.rows}) == 6
    for row, line in zip(found.rows, lines(out), strict=True):
        mix, parts = waves(out, row)
        np.testing.assert_allclose(mix, parts.sum(0), atol=1e-7)
        origins = line["origin"].split(" + ")
        assert len(set(origins)) == 3 and row.origin == line["origin"] and row.licence in ("L0 + L1", "L1 + L0")
        for part, origin, number in zip(parts, origins, line["outputs"].split(), strict=True):
            whole, refs = waves(manifest.root, kept[origin])
            every = np.concatenate([refs, (whole - refs.sum(0))[None]])
            expected = 0.1 * every[int(number) - 1] / np.sqrt(np.mean(whole**2))
            np.testing.assert_allclose(part, expected, atol=1e-6)


def test_talkers_go_with_their_references_and_levels_stay_where_asked(manifest: Manifest, tmp_path: Path):
    make(manifest, tmp_path / "out", Settings(residual=False, normalize=False), quiet=True)
    kept = {row.id: row for row in manifest.rows}
    for row in Manifest.read(tmp_path / "out").rows:
        for part, talker in zip(waves(tmp_path / "out", row)[1], row.speakers, strict=True):
            of = kept[f"m{talker[1]}"]
            np.testing.assert_allclose(part, waves(manifest.root, of)[1][int(talker[2])], atol=1e-7)


def test_outputs_of_a_model_add_up_to_the_mixtures_they_came_from(manifest: Manifest, model_file: Path, tmp_path: Path):
    out = tmp_path / "out"
    done = make(manifest, out, Settings(n_remix=2), model=str(model_file), device="cpu", quiet=True)
    assert done.sources == 2
    back: dict[str, np.ndarray] = {}
    for row, line in zip(Manifest.read(out).rows, lines(out), strict=True):
        for part, origin in zip(waves(out, row)[1], line["origin"].split(" + "), strict=True):
            back[origin] = back.get(origin, 0) + part / 10 ** (float(line["gain_db"]) / 20)
    model, _ = store.load_model(model_file)
    for row in manifest.rows:
        mix = torch.from_numpy(waves(manifest.root, row)[0])[None].float()
        mean, scale = model.input_level(mix)
        np.testing.assert_allclose(back[row.id], 0.1 * ((mix - mean) / scale)[0].numpy(), atol=1e-4)
    record = json.loads((out / "remix.json").read_text())
    assert record["model"]["sha256"] == cards.read_card(model_file)[1]
    assert record["settings"]["n_remix"] == 2 and record["results"]["mixtures"] == {"train": 6}


def test_whole_mixtures_end_in_silence_and_segments_are_cut_and_padded(tmp_path: Path):
    manifest = table(tmp_path / "data", [200, 1000, 500, 700])
    make(manifest, tmp_path / "whole", Settings(batch=2, residual=False), quiet=True)
    found = Manifest.read(tmp_path / "whole").rows
    assert sorted(row.frames for row in found) == [500, 500, 1000, 1000]
    length = {row.id: row.frames for row in manifest.rows}
    for row in found:
        for part, origin in zip(waves(tmp_path / "whole", row)[1], row.origin.split(" + "), strict=True):
            assert part[length[origin] - 1] != 0 and not part[length[origin] :].any()
    make(manifest, tmp_path / "cut", Settings(seconds=0.05, residual=False, rounds=2), quiet=True)
    rows = Manifest.read(tmp_path / "cut").rows
    assert [row.frames for row in rows] == [400] * 8
    # The same reference was cut at two places in the two rounds.
    cuts = [waves(tmp_path / "cut", row)[1][row.origin.split(" + ").index("m1")] for row in rows if "m1" in row.origin]
    assert len({cut.tobytes() for cut in cuts}) == len(cuts) == 4


def test_one_seed_one_set(manifest: Manifest, tmp_path: Path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make(manifest, tmp_path / name, Settings(seed=seed, rounds=2), quiet=True)
    made = files(tmp_path / "a")
    assert made == files(tmp_path / "b") != files(tmp_path / "c")
    # libsndfile's PEAK chunk would hold the time of day.
    assert not any(b"PEAK" in data for data in made.values())


@pytest.mark.parametrize("tear", [False, True])
def test_an_interrupted_set_goes_on_to_the_same_files(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tear: bool
):
    settings = Settings(batch=3, rounds=2)  # four batches
    make(manifest, tmp_path / "whole", settings, quiet=True)
    out, count, real = tmp_path / "out", 0, pseudo_set.write

    def stop(*arguments: object) -> float:
        nonlocal count
        count += 1
        if count == 8:  # in the third batch
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pseudo_set, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        make(manifest, out, settings, quiet=True)
    assert not (out / "manifest.csv").exists() and not (out / "remix.json").exists() and len(lines(out)) == 6
    if tear:
        text = (out / "remix.csv").read_bytes()
        (out / "remix.csv").write_bytes(text[:-20])
    assert make(manifest, out, settings, quiet=True).kept == (3 if tear else 6)
    assert files(out) == files(tmp_path / "whole")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.wav")}
    again = make(manifest, out, settings, quiet=True)
    assert again.kept == 12 and again.mixtures == {"train": 12}
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.wav")}


def test_shares_in_any_order_and_a_merge_make_the_files_of_one_run(manifest: Manifest, tmp_path: Path):
    settings = Settings(batch=3, rounds=2)  # four batches
    make(manifest, tmp_path / "whole", settings, quiet=True)
    out = tmp_path / "out"

    def share(index: int, settings: Settings = settings) -> str:
        return make(manifest, out, settings, quiet=True, share=Shard(index, 3)).share

    assert share(3) == "shard 3 of 3 done: 1 batches; 1 of 4 are there, to come: shard 1, 2 of 3"
    assert "done: 1 batches, 1 of them before" in share(3)
    with pytest.raises(OutputError, match="kind was"):
        share(1, Settings("free", batch=3, rounds=2))
    with pytest.raises(BadInput, match="3 of 4 batches are missing: not done: shard 1, 2 of 3"):
        make(manifest, out, settings, quiet=True, merge=True)
    with Lock(out, share="-2-of-3"), pytest.raises(OutputError, match="in use"):
        share(2)
    share(1)
    assert not (out / "manifest.csv").exists() and not (out / "remix.csv").exists()
    assert share(2).endswith("all 4 are there")
    assert make(manifest, out, settings, quiet=True, merge=True).kept == 12
    assert files(out) == files(tmp_path / "whole")
    assert (out / "remix.json").read_bytes() == (tmp_path / "whole" / "remix.json").read_bytes()
    assert "nothing to do" in make(manifest, out, settings, quiet=True, share=Shard(7, 9)).share
    with pytest.raises(BadInput, match="no shard was run"):
        make(manifest, tmp_path / "none", settings, quiet=True, merge=True)
    assert not (tmp_path / "none").exists()


def test_folders_of_others_and_of_other_settings_are_safe(manifest: Manifest, tmp_path: Path):
    out = tmp_path / "out"
    make(manifest, out, Settings(), quiet=True)
    with pytest.raises(OutputError, match="batch was 16, now 4"):
        make(manifest, out, Settings(batch=4), quiet=True)
    make(manifest, out, Settings(batch=4), overwrite=True, quiet=True)
    make(manifest, tmp_path / "fresh", Settings(batch=4), quiet=True)
    assert files(out) == files(tmp_path / "fresh")
    with pytest.raises(OutputError, match="holds the mixtures"):
        make(manifest, manifest.root, Settings(), overwrite=True, quiet=True)
    other = tmp_path / "other"
    shutil.copytree(manifest.root, other)
    with pytest.raises(OutputError, match=r"holds 'manifest\.csv'"):
        make(manifest, other, Settings(), overwrite=True, quiet=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        make(manifest, tmp_path / "file", Settings(), quiet=True)


def test_keys_stay_what_they_were():
    key = ShuffledFolder(Path("out"), {"settings": {"seed": 0}, "model": {}}).key
    assert key == "08173dd3747dff4ffa20544a8f429db6e46c9026e61caa3aab9b04aa47adda79"


def test_a_second_run_in_one_folder_is_refused(manifest: Manifest, tmp_path: Path):
    with Lock(tmp_path / "out"), pytest.raises(OutputError, match=f"in use by pid {os.getpid()} on"):
        make(manifest, tmp_path / "out", Settings(), quiet=True)
    assert files(tmp_path / "out") == {}
    make(manifest, tmp_path / "out", Settings(), quiet=True)
    assert not (tmp_path / "out" / ".lock").exists()


def test_a_dry_run_counts_and_writes_nothing(manifest: Manifest, tmp_path: Path):
    done = make(manifest, tmp_path / "out", Settings(rounds=3, seconds=2), dry_run=True)
    assert done.mixtures == {"train": 18} and done.seconds == 36
    assert done.mebibytes == pytest.approx(36 * RATE * 4 * 4 / 2**20, abs=0.05)
    assert not (tmp_path / "out").exists()


def test_unusable_and_silent_mixtures_are_left_out_and_named(tmp_path: Path):
    manifest = table(tmp_path / "data", [400] * 6, noise=0)
    (manifest.root / "2/mix.wav").unlink()
    for i in (0, 1, 3):
        for name in ("mix", "s0", "s1"):
            io.write(manifest.root / f"{i}/{name}.wav", np.zeros(400), RATE, overwrite=True)
    done = make(manifest, tmp_path / "out", Settings(residual=False), quiet=True)
    assert list(done.unusable) == ["m2"] and "no such file" in done.unusable["m2"]
    written = Manifest.read(tmp_path / "out")
    assert len(written) == done.mixtures["train"] == 5 - done.silent
    assert sum(line["reason"] == "silent" for line in lines(tmp_path / "out")) == done.silent
    assert all(waves(tmp_path / "out", row)[0].any() for row in written.rows)
    for i in range(5):
        (manifest.root / f"{i}/mix.wav").unlink(missing_ok=True)
    with pytest.raises(BadInput, match=r"5 of 6 mixtures of one batch cannot be used: .*no such file"):
        make(manifest, tmp_path / "none", Settings(residual=False), quiet=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(kind="constraint"), r"--kind: unknown shuffle 'constraint' \(did you mean 'constrained'"),
        (Settings(subtype="PCM_U8"), "--subtype: unknown sample format"),
        (Settings(seconds=float("nan")), "--seconds: found nan"),
        (Settings(batch=1), "--batch: found 1; expected 2"),
        (Settings(batch=2), "--batch: found 2; --kind constrained needs 3"),
        (Settings(split="trian"), "did you mean 'train'"),
        (Settings(n_remix=2), "--n-remix chooses among the outputs of a model"),
    ],
)
def test_settings_that_do_not_fit(manifest: Manifest, tmp_path: Path, settings: Settings, message: str):
    with pytest.raises(UsageError, match=message):
        make(manifest, tmp_path / "out", settings, quiet=True)
    assert not (tmp_path / "out").exists()


def test_sets_that_do_not_fit(tmp_path: Path):
    few = table(tmp_path / "few", [400] * 2)
    with pytest.raises(
        UsageError, match=r"split 'train': 2 mixtures; --kind constrained needs 3 or more .*--kind free"
    ):
        make(few, tmp_path / "out", Settings(), quiet=True)
    make(few, tmp_path / "out", Settings(kind="free"), quiet=True)
    single = table(tmp_path / "single", [400] * 4, n_refs=1)
    with pytest.raises(BadInput, match="one source in each mixture"):
        Listed(single, True, residual=False)
    assert Listed(single, True, residual=True).n_src == 2
    bare = Manifest([Row("a", "", "a.wav", sample_rate=RATE, frames=4)], tmp_path, tmp_path / "manifest.csv")
    with pytest.raises(BadInput, match="item a lists no sources; name a --model"):
        Listed(bare, True, True)
    rates = [Row("a", "", "", ("a",), sample_rate=rate, frames=4) for rate in (8000, 16000)]
    with pytest.raises(BadInput, match="sample rates 8000, 16000 Hz"):
        Listed(Manifest(rates, tmp_path, tmp_path / "manifest.csv"), True, True)
    with pytest.raises(UsageError, match="--n-remix: found 4 for a model with 3 outputs"):
        Separated(Delays(), 4, True, "cpu")
    with pytest.raises(UsageError, match="--n-remix: found 1"):
        Separated(Delays(), 1, True, "cpu")


def test_a_device_that_is_too_small_gets_smaller_parts(monkeypatch: pytest.MonkeyPatch):
    model, sizes = Delays(), list[int]()
    real: Callable[..., Tensor] = SeparationModel.forward

    def forward(self: SeparationModel, mix: Tensor, normalize: bool = True) -> Tensor:
        sizes.append(len(mix))
        if len(mix) > 2:
            raise torch.OutOfMemoryError
        return real(self, mix, normalize)

    mix = torch.randn(6, 100, generator=torch.Generator().manual_seed(0))
    sources = Separated(model, 0, True, "cpu")
    whole = sources(Batch(mix, None, [""] * 6))
    monkeypatch.setattr(SeparationModel, "forward", forward)
    sources.device = torch.device("meta")  # anything but a CPU: all mixtures at once
    again = sources(Batch(mix, None, [""] * 6))
    assert sizes == [6, 3, 1, 2, 3, 1, 2]
    torch.testing.assert_close(again, whole)


def test_a_training_learns_from_a_shuffled_set(profile_file: Path, corpus: Path, tmp_path: Path):
    out = tmp_path / "pseudo"
    make(Manifest.read(corpus), out, Settings(residual=False, rounds=1), quiet=True)
    sets = [f"data.manifest={out}", "data.mixing=fixed", "train.max_steps=2"]
    trainer = Trainer(load_profile(str(profile_file), sets), tmp_path / "run")
    trainer.fit()
    assert trainer.step == 2 and (tmp_path / "run/best.safetensors").exists()
