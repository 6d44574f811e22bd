from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usepcli import registry
from usepcli.audio import io
from usepcli.data import mixtures
from usepcli.data.corpora.base import Corpus
from usepcli.data.manifest import Manifest, Pool
from usepcli.engine.folder import Lock
from usepcli.engine.preparing.check import check
from usepcli.engine.preparing.prepare import bind, prepare
from usepcli.engine.preparing.prepared import Prepared
from usepcli.errors import BadInput, ConfigError, InputNotFound, IOFault, OutputError, UsageError
from usepcli.profile.signature import signature

COUNTS = {"train": 12, "valid": 3, "test": 3}
OPTIONS: dict[str, Any] = {**COUNTS, "rate": 4000, "seconds": 0.5, "min_s": 0.1, "split_ratios": (0.5, 0.25, 0.25)}


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight talkers with three utterances each, at another rate than the one asked for."""
    root, draw = tmp_path_factory.mktemp("speech"), np.random.default_rng(0)
    for talker in range(8):
        for utterance in range(3):
            frames = int(draw.integers(3000, 6000))
            wave = draw.normal(size=frames) * 0.1 * (1 + np.sin(np.arange(frames) / (200 + 40 * talker)))
            io.write(root / f"t{talker}" / f"u{utterance}.flac", wave.clip(-1, 1), 8000)
    return root


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, draw = tmp_path_factory.mktemp("noise"), np.random.default_rng(1)
    for i in range(12):
        io.write(root / f"n{i}.wav", draw.normal(size=1500) * 0.05, 8000)
    return root


def run(speech: Path, out: Path, **more: Any) -> Prepared:
    keep = {name: more.pop(name) for name in ("workers", "overwrite", "dry_run", "shard", "merge") if name in more}
    return prepare(speech, out, "speakers", {**OPTIONS, **more}, **{"workers": 1, "quiet": True, **keep})


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def codes(path: Path) -> np.ndarray:
    return np.rint(io.read_mono(path)[0] * 32768).astype(int)


def test_mixtures_add_up_and_talkers_keep_to_one_split(speech: Path, noise: Path, tmp_path: Path):
    summary = run(speech, tmp_path / "out", noise=str(noise), noise_snr_db=(0.0, 10.0))
    manifest, pool = Manifest.read(tmp_path / "out"), Pool.read(tmp_path / "out")
    assert manifest.splits() == COUNTS == summary.mixtures and summary.kept == 0 and summary.bad == []
    where: dict[str, set[str]] = {}
    noises = {}
    for row in manifest.rows:
        assert (row.sample_rate, row.frames, row.n_src) == (4000, 2000, 2)
        parts = [codes(manifest.resolve(path)) for path in (*row.sources, row.noise)]
        assert np.array_equal(codes(manifest.resolve(row.mixture)), sum(parts))
        assert all(part.any() for part in parts) and len(parts[0]) == 2000
        noises[parts[-1].tobytes()] = row.split
        for speaker in row.speakers:
            where.setdefault(speaker, set()).add(row.split)
    assert len(where) == 8 and all(len(splits) == 1 for splits in where.values())
    assert {row.speaker: row.split for row in pool.rows} == {speaker: next(iter(s)) for speaker, s in where.items()}
    backgrounds = Pool.read(tmp_path / "out" / "noise")
    assert {row.split for row in backgrounds.rows} == set(COUNTS) and len(backgrounds) == 12
    for table in (pool, backgrounds):
        assert all(io.info(table.resolve(row.path)).frames == row.frames for row in table.rows)
        assert all(io.info(table.resolve(row.path)).rate == row.sample_rate == 4000 for row in table.rows)


def test_any_number_of_workers_makes_the_same_bits(speech: Path, noise: Path, tmp_path: Path):
    more = {"noise": str(noise), "length": "max", "overlap": (0.3, 0.9), "join": True, "n_src": 2}
    run(speech, tmp_path / "one", workers=1, **more)
    run(speech, tmp_path / "two", workers=2, **more)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(contents(tmp_path / "one")) == 18 * 4 + 24 + 12 + 4
    run(speech, tmp_path / "other", seed=1, **more)
    assert contents(tmp_path / "other") != contents(tmp_path / "one")


def test_goes_on_after_an_interruption(speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run(speech, tmp_path / "whole")
    out, calls = tmp_path / "out", []
    render = mixtures.render

    def stop_at_five(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return render(*arguments)

    monkeypatch.setattr(mixtures, "render", stop_at_five)
    with pytest.raises(KeyboardInterrupt):
        run(speech, out)
    assert not (out / "manifest.csv").exists() and not (out / "prepare.json").exists()
    # Half a mixture, as a kill between two files leaves it.
    (out / "wav" / "train" / "train_00003" / "mix.wav").unlink()
    (out / "wav" / "train" / "train_00003" / ".mix.wav.123.tmp").write_bytes(b"half")
    calls.clear()
    monkeypatch.setattr(mixtures, "render", lambda *arguments: calls.append(1) or render(*arguments))
    summary = run(speech, out)
    assert len(calls) == 18 - 3 and summary.kept == 24 + 3
    assert contents(out) == contents(tmp_path / "whole")
    assert run(speech, out).kept == 24 + 18


def test_shares_and_a_merge_make_the_set_of_one_run(speech: Path, noise: Path, tmp_path: Path):
    shutil.copytree(speech, tmp_path / "in")
    (tmp_path / "in" / "t1" / "u0.flac").write_bytes(b"")
    made, out, more = tmp_path / "in", tmp_path / "out", {"noise": str(noise)}
    assert run(made, tmp_path / "whole", **more).bad
    told = run(made, out, shard="2/3", **more)
    assert told.share == "shard 2 of 3 done: 6 mixtures; 6 of 18 are there, to come: shard 1, 3 of 3"
    assert not (out / "manifest.csv").exists() and sum(told.mixtures.values()) == 6
    with pytest.raises(OutputError, match="seed was 0, now 1"):
        run(made, out, shard="1/3", seed=1, **more)
    with pytest.raises(UsageError, match="leave it or --shard out"):
        run(made, out, shard="1/3", overwrite=True, **more)
    run(made, out, shard="1/3", **more)
    with pytest.raises(BadInput, match="6 of 18 mixtures are missing: not done: shard 3 of 3"):
        run(made, out, merge=True, **more)
    with Lock(out, share="-3-of-3"), pytest.raises(OutputError, match="in use"):
        run(made, out, shard="3/3", **more)
    run(made, out, shard="3/3", **more)
    lost = sorted(out.glob("wav/*/*/mix.wav"))[0]
    kept = lost.read_bytes()
    lost.unlink()
    with pytest.raises(BadInput, match="1 of 18 mixtures are missing"):
        run(made, out, merge=True, **more)
    lost.write_bytes(kept)
    assert run(made, out, merge=True, **more).bad
    assert contents(out) == contents(tmp_path / "whole")
    assert "only 18 mixtures to share" in run(made, out, shard="40/40", **more).share
    with pytest.raises(UsageError, match="lists recordings and makes none"):
        prepare(made, tmp_path / "list", "folder", {}, quiet=True, shard="1/2")


def test_other_settings_are_refused_and_named(speech: Path, tmp_path: Path):
    run(speech, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(OutputError, match=r"seed was 0, now 1.*--overwrite"):
        run(speech, tmp_path / "out", seed=1)
    assert contents(tmp_path / "out") == before
    run(speech, tmp_path / "out", seed=1, train=2, overwrite=True)
    assert Manifest.read(tmp_path / "out").splits()["train"] == 2
    assert len(list((tmp_path / "out" / "wav" / "train").iterdir())) == 2


@pytest.mark.parametrize("corpus", ["speakers", "folder"])
def test_a_second_run_in_one_folder_is_refused_and_the_lock_goes_with_the_run(
    speech: Path, tmp_path: Path, corpus: str
):
    def fill() -> Prepared:
        return prepare(speech, tmp_path / "out", corpus, OPTIONS if corpus == "speakers" else {}, workers=1, quiet=True)

    with Lock(tmp_path / "out"), pytest.raises(OutputError, match=f"in use by pid {os.getpid()} on"):
        fill()
    assert contents(tmp_path / "out") == {}
    fill()
    with pytest.raises(OutputError, match="other settings"):
        prepare(speech, tmp_path / "out", "folder", {"seed": 9}, quiet=True)
    assert fill().mixtures and not (tmp_path / "out" / ".lock").exists()


def test_what_others_made_is_not_touched(speech: Path, tmp_path: Path):
    (tmp_path / "manifest.csv").write_text("precious")
    with pytest.raises(OutputError, match=r"did not make"):
        run(speech, tmp_path)
    assert contents(tmp_path).keys() == {"manifest.csv"}
    with pytest.raises(OutputError, match=r"inside the recordings"):
        run(speech, speech / "out")
    assert not (speech / "out").exists()


def test_the_record(speech: Path, tmp_path: Path):
    run(speech, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "prepare.json").read_text())
    assert record["root"] == "." and record["corpus"] == "speakers" and record["source"] == str(speech)
    assert record["settings"]["seconds"] == 0.5 and record["settings"]["level_db"] == 5.0
    for name in ("manifest.csv", "pool.csv"):
        assert record["sha256"][name] == hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest()
    assert {"usep", "python", "numpy", "soxr", "soundfile", "libsndfile"} == set(record["versions"])
    assert not (tmp_path / "out" / "prepare.partial.json").exists()
    (tmp_path / "out").rename(tmp_path / "moved")
    moved = Manifest.read(tmp_path / "moved")
    assert moved.resolve(moved.rows[0].mixture).is_file()


def test_bad_recordings_are_left_out_and_told(speech: Path, tmp_path: Path):
    source = tmp_path / "source"
    for path in speech.rglob("*.flac"):
        io.write(source / path.parent.name / f"{path.stem}.wav", io.read(path)[0], 8000)
    io.write(source / "t0" / "silent.wav", np.zeros(4000), 8000)
    os.truncate(source / "t1" / "u0.wav", 2000)
    summary = run(source, tmp_path / "out")
    reasons = {bad.path: bad.reason for bad in summary.bad}
    assert set(reasons) == {"t0/silent.wav", "t1/u0.wav"}
    assert "silent" in reasons["t0/silent.wav"] and "cut short" in reasons["t1/u0.wav"]
    assert (tmp_path / "out" / "bad_files.csv").read_text().splitlines()[0] == "path,reason"
    assert len(Pool.read(tmp_path / "out")) == 23


def test_what_nobody_foresaw_in_one_recording_or_mixture_leaves_it_out(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    read, render = io.read_mono, mixtures.render

    def odd(path: Path, *more: Any, **words: Any) -> Any:
        if str(path).endswith("t1/u0.flac"):
            raise RuntimeError("a codec that nobody foresaw")
        return read(path, *more, **words)

    def broken(plan: Any, *more: Any) -> Any:
        if plan.id == "train_00003":
            raise ZeroDivisionError("a plan that nobody foresaw")
        return render(plan, *more)

    monkeypatch.setattr(io, "read_mono", odd)
    monkeypatch.setattr(mixtures, "render", broken)
    summary = run(speech, tmp_path / "out")
    reasons = {bad.path: bad.reason.split(" (")[0] for bad in summary.bad}
    assert reasons == {
        "t1/u0.flac": "RuntimeError: a codec that nobody foresaw",
        "wav/train/train_00003": "ZeroDivisionError: a plan that nobody foresaw",
    }
    assert len(Pool.read(tmp_path / "out")) == 23 and Manifest.read(tmp_path / "out").splits() == {
        **COUNTS,
        "train": 11,
    }
    report = check(tmp_path / "out", quiet=True)
    assert report.errors == 0 and report.items == 17 + 23


def test_a_pool_alone_without_names_of_talkers(tmp_path: Path):
    for i in range(4):
        io.write(tmp_path / "in" / f"{i}.wav", np.random.default_rng(i).normal(size=4000) * 0.1, 8000)
    none = {"train": 0, "valid": 0, "test": 0}
    summary = run(tmp_path / "in", tmp_path / "out", **none)
    assert len(Manifest.read(tmp_path / "out")) == 0 and summary.mixtures == {}
    assert [row.speaker for row in Pool.read(tmp_path / "out").rows] == [""] * 4
    with pytest.raises(BadInput, match=r"known to differ"):
        run(tmp_path / "in", tmp_path / "more", train=1, valid=0, test=0)


def test_dry_run_counts_and_writes_nothing(speech: Path, tmp_path: Path):
    summary = run(speech, tmp_path / "out", dry_run=True)
    assert summary.table()[0] == {
        "split": "train", "mixtures": 12, "hours": round(12 * 0.5 / 3600, 3), "utterances": 12, "talkers": 4
    }  # fmt: skip
    assert summary.mebibytes > 0 and not (tmp_path / "out").exists()


def test_full_disk(speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(self: Any, data: bytes) -> int:
        self.fault = OSError(28, "No space left on device")
        return 0

    monkeypatch.setattr(io._Sink, "write", full)
    with pytest.raises(IOFault, match=r"No space left"):
        run(speech, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()} == {"prepare.partial.json"}


def test_lists_of_existing_corpora_copy_nothing(speech: Path, tmp_path: Path):
    summary = prepare(speech, tmp_path / "out", "folder", {"seed": 3}, quiet=True)
    assert sum(summary.mixtures.values()) == 24
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"manifest.csv", "prepare.json"}
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.root == speech and manifest.resolve(manifest.rows[0].mixture).is_file()
    assert prepare(speech, tmp_path / "out", "folder", {"seed": 3}, quiet=True).mixtures == summary.mixtures
    with pytest.raises(OutputError, match=r"corpus folder, now csv|seed was 3"):
        prepare(speech, tmp_path / "out", "folder", {"seed": 4}, quiet=True)


def test_a_list_beside_its_recordings_moves_with_them(speech: Path, tmp_path: Path):
    io.write(tmp_path / "in" / "a.wav", np.ones(100) * 0.1, 8000)
    prepare(tmp_path / "in", tmp_path / "in" / "list", "folder", {}, quiet=True)
    (tmp_path / "in").rename(tmp_path / "moved")
    manifest = Manifest.read(tmp_path / "moved" / "list")
    assert manifest.resolve(manifest.rows[0].mixture).is_file()


def test_options_are_the_constructors_arguments(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"sedonds.*did you mean 'seconds'") as caught:
        bind("speakers", {"sedonds": 3.0, "rate": "8k"})
    assert "rate" in str(caught.value)
    with pytest.raises(ConfigError, match=r"did you mean 'speakers'"):
        prepare(tmp_path, tmp_path / "out", "speaker", quiet=True)
    with pytest.raises(InputNotFound):
        prepare(tmp_path / "absent", tmp_path / "out", "folder", quiet=True)


@pytest.mark.parametrize("name", registry.CORPORA)
def test_every_corpus_is_reachable_by_name(name: str):
    adapter, settings = bind(name, {})
    assert isinstance(adapter, Corpus) and set(settings) == set(signature("corpus", name).parameters)


@pytest.mark.parametrize("corpus", ["speakers", "events"])
def test_queries_of_recordings_reach_the_pool_and_the_mixtures(tmp_path: Path, corpus: str):
    lines = ["path,label,query,split,role"]
    for i in range(4):
        io.write(tmp_path / "in" / f"{i}.wav", np.random.default_rng(i).normal(size=4000) * 0.1, 4000)
        lines.append(f"{i}.wav,kind{i},the sound of {i},train,{'background' if i > 2 else 'foreground'}")
    (tmp_path / "in" / "manifest.csv").write_text("\n".join(lines) + "\n")
    options = {**COUNTS, "valid": 0, "test": 0, "rate": 4000, "seconds": 0.5}
    prepare(tmp_path / "in", tmp_path / "out", corpus, options, workers=1, quiet=True)
    assert {row.query for row in Pool.read(tmp_path / "out").rows} >= {f"the sound of {i}" for i in range(3)}
    for row in Manifest.read(tmp_path / "out").rows:
        assert len(row.queries) == len(row.sources) and all(q.startswith("the sound of ") for q in row.queries)
