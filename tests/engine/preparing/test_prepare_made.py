"""Corpora whose audio is made here other than from pairs of talkers: scenes of events, rooms, pieces."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.data import mixtures, simulate
from usepcli.data.manifest import Manifest, Pool
from usepcli.data.mixtures import Turn
from usepcli.data.pairs import RoomPlan
from usepcli.engine.preparing.prepare import prepare
from usepcli.engine.preparing.prepared import Prepared
from usepcli.errors import BadInput, MissingDependency, OutputError

EVENTS: dict[str, Any] = {"train": 12, "valid": 4, "test": 4, "rate": 4000, "seconds": 0.5}
ROOMS: dict[str, Any] = {
    "train": 5, "valid": 1, "test": 1, "rate": 2000, "min_s": 0.1, "split_ratios": (0.5, 0.25, 0.25),
    "rt60_s": (0.2, 0.2),
}  # fmt: skip


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five classes of foregrounds and two backgrounds for each split."""
    root, draw, lines = tmp_path_factory.mktemp("events"), np.random.default_rng(0), ["path,label,role,split"]
    for split in ("train", "valid", "test"):
        for kind in range(7):
            role = "background" if kind > 4 else "foreground"
            wave = draw.normal(size=int(draw.integers(1700, 3000))) * 0.1
            io.write(root / split / f"{kind}.flac", wave.clip(-1, 1), 8000)
            lines.append(f"{split}/{kind}.flac,k{kind},{role},{split}")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, draw = tmp_path_factory.mktemp("speech"), np.random.default_rng(1)
    for talker in range(8):
        for utterance in range(2):
            wave = draw.normal(size=int(draw.integers(1500, 3000))) * 0.1
            io.write(root / f"t{talker}" / f"u{utterance}.wav", wave.clip(-1, 1), 4000)
    return root


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def codes(path: Path) -> np.ndarray:
    return np.rint(io.read_mono(path)[0] * 32768).astype(int)


def run(source: Path, out: Path, corpus: str, options: dict[str, Any], workers: int = 1, **more: Any) -> Prepared:
    return prepare(source, out, corpus, options, workers=workers, quiet=True, **more)


def test_scenes_add_up_and_list_what_is_there(events: Path, tmp_path: Path):
    summary = run(events, tmp_path / "out", "events", EVENTS)
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.splits() == {"train": 12, "valid": 4, "test": 4} == summary.mixtures and summary.bad == []
    for row in manifest.rows:
        parts = [codes(manifest.resolve(path)) for path in row.sources]
        assert np.array_equal(codes(manifest.resolve(row.mixture)), sum(parts)) and row.frames == 2000
        assert all(part.any() for part in parts)
        assert len(parts) == row.n_src == len(row.label.split(";")) and row.speakers == ()
    assert {row.n_src for row in manifest.rows} == {1, 2, 3, 4}
    pool, behind = Pool.read(tmp_path / "out"), Pool.read(tmp_path / "out" / "noise")
    assert len(pool) == 15 and len(behind) == 6
    assert all(io.info(table.resolve(row.path)).frames == row.frames for table in (pool, behind) for row in table.rows)


def test_scenes_are_the_same_on_any_number_of_workers_and_after_a_stop(
    events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run(events, tmp_path / "one", "events", EVENTS)
    run(events, tmp_path / "two", "events", EVENTS, workers=2)
    calls, render = [], mixtures.render

    def stop_at_five(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return render(*arguments)

    monkeypatch.setattr(mixtures, "render", stop_at_five)
    with pytest.raises(KeyboardInterrupt):
        run(events, tmp_path / "out", "events", EVENTS)
    assert not (tmp_path / "out" / "manifest.csv").exists()
    assert run(events, tmp_path / "out", "events", EVENTS).kept == 21 + 4
    assert contents(tmp_path / "one") == contents(tmp_path / "two") == contents(tmp_path / "out")


def test_scenes_in_lufs_by_shares_are_those_made_at_once(events: Path, tmp_path: Path):
    summary = run(events, tmp_path / "one", "fuss-mix", EVENTS)
    manifest = Manifest.read(tmp_path / "one")
    assert manifest.splits() == summary.mixtures and {row.n_src for row in manifest.rows} == {1, 2, 3, 4}
    for row in manifest.rows:
        parts = [codes(manifest.resolve(path)) for path in row.sources]
        assert np.array_equal(codes(manifest.resolve(row.mixture)), sum(parts)) and all(part.any() for part in parts)
        assert ";".join(row.queries) == row.label
    for share in ("1/2", "2/2"):
        run(events, tmp_path / "two", "fuss-mix", EVENTS, shard=share)
    run(events, tmp_path / "two", "fuss-mix", EVENTS, merge=True)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    with pytest.raises(OutputError, match=r"background_lufs was -45.0, now -55.0"):
        run(events, tmp_path / "one", "fuss-mix", {**EVENTS, "background_lufs": -55.0})


def test_scenes_in_measured_rooms_and_without_them(events: Path, tmp_path: Path):
    draw = np.random.default_rng(2)
    for name in (f"{room}/{k}" for room in ("hall", "attic", "cave") for k in range(4)):
        response = draw.normal(size=(2, 3000)) * 10 ** (-np.arange(3000) / 800)
        response[:, :50] = 0
        io.write(tmp_path / "rirs" / f"{name}.wav", response / 8, 8000, "FLOAT")
    (tmp_path / "rirs/hall/0.wav").write_bytes(b"RIFF")
    options = {**EVENTS, "rirs": str(tmp_path / "rirs")}
    one = run(events, tmp_path / "one", "fuss-mix", options)
    assert [bad.path for bad in one.bad] == ["hall/0.wav"] and "11 room responses of 3 rooms" in one.notes()[0]
    run(events, tmp_path / "plain", "fuss-mix", EVENTS)
    heard, dry, plain = (Manifest.read(tmp_path / name) for name in ("one", "one/dry.csv", "plain"))
    for row, twin, bare in zip(heard.rows, dry.rows, plain.rows, strict=True):
        assert row.id == twin.id == bare.id and row.queries == twin.queries == bare.queries
        for table, each in ((heard, row), (dry, twin)):
            parts = [codes(table.resolve(path)) for path in each.sources]
            assert np.array_equal(codes(table.resolve(each.mixture)), sum(parts)) and len(parts[0]) == row.frames
        for path, other in zip((*twin.sources, twin.mixture), (*bare.sources, bare.mixture), strict=True):
            assert np.array_equal(codes(dry.resolve(path)), codes(plain.resolve(other)))
        assert not np.array_equal(codes(heard.resolve(row.sources[0])), codes(dry.resolve(twin.sources[0])))
    first = tmp_path / "one/rooms"
    assert len(list(first.rglob("*.wav"))) == 11 and {io.info(path).rate for path in first.rglob("*.wav")} == {4000}
    for share in ("2/2", "1/2"):
        run(events, tmp_path / "two", "fuss-mix", options, shard=share)
    run(events, tmp_path / "two", "fuss-mix", options, merge=True)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_scenes_in_simulated_rooms(events: Path, tmp_path: Path):
    pytest.importorskip("pyroomacoustics")
    options = {**EVENTS, "train": 4, "valid": 1, "test": 0, "rt60_s": (0.2, 0.2), "reverb": "simulated"}
    run(events, tmp_path / "one", "fuss-mix", options)
    run(events, tmp_path / "two", "fuss-mix", options, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert "pyroomacoustics" in json.loads((tmp_path / "one/prepare.json").read_text())["versions"]
    run(events, tmp_path / "few", "fuss-mix", {**options, "rooms": 1})
    assert {path.name for path in (tmp_path / "few/rooms").iterdir()} == {"train_00000.wav", "valid_00000.wav"}
    assert len(Manifest.read(tmp_path / "few/dry.csv")) == 5


def test_a_set_inside_its_backgrounds(events: Path, tmp_path: Path):
    io.write(tmp_path / "bg" / "1.wav", np.full(4000, 0.1), 4000)
    with pytest.raises(OutputError, match=r"lies inside the recordings; choose a folder outside of .*bg"):
        run(events, tmp_path / "bg" / "out", "fuss-mix", {**EVENTS, "backgrounds": str(tmp_path / "bg")})


def test_other_backgrounds_are_another_corpus(events: Path, tmp_path: Path):
    run(events, tmp_path / "out", "events", EVENTS, dry_run=True)
    run(events, tmp_path / "out", "events", EVENTS)
    with pytest.raises(OutputError, match=r"background_s was 10.0, now 9.0"):
        run(events, tmp_path / "out", "events", {**EVENTS, "background_s": 9.0})


def test_levels_and_offsets_in_a_room():
    draw = np.random.default_rng(0)
    waves = {name: np.rint(draw.normal(size=n) * 3000).astype(np.int16) for name, n in (("a", 4000), ("b", 2500))}
    waves["n"] = np.rint(draw.normal(size=6000) * 500).astype(np.int16)
    turns = (Turn(("a",), "a", (), 0, 4000, 0, 1.5), Turn(("b",), "b", (), 0, 2500, 700, -1.5))
    plan = RoomPlan("x", "train", 4000, turns, "n", 100, 15.0, anechoic=True)
    heard = np.zeros((4, 300), np.float32)
    heard[:, 40] = 0.5  # the sound arrives after 40 samples; an echo of the first talker 100 samples later
    heard[0, 140] = 0.25
    s1, s2, a1, a2, noise, mix = simulate.simulate(plan, heard, waves.__getitem__)
    assert np.array_equal(mix, s1.astype(int) + s2 + noise)
    assert [np.std(wave / 32768) * 71 for wave in (s1, s2)] == pytest.approx([10**0.075, 10**-0.075], rel=1e-3)
    speech = s1.astype(float) + s2
    assert 10 * np.log10(np.mean(speech**2) / np.mean(noise.astype(float) ** 2)) == pytest.approx(15, abs=0.02)
    assert np.array_equal(s2, a2) and not s2[:700].any() and not s2[3200:].any()
    echo = s1.astype(float) - a1
    assert np.abs(echo[:100]).max() <= 1 and np.abs(echo[100:] - 0.5 * a1[:-100]).max() <= 2
    assert np.corrcoef(a1, waves["a"])[0, 1] > 0.9999


def test_rooms_with_noise_and_anechoic_references(speech: Path, tmp_path: Path):
    pytest.importorskip("pyroomacoustics")
    for i in range(8):
        io.write(tmp_path / "noise" / f"{i}.wav", np.random.default_rng(i).normal(size=900) * 0.05, 2000)
    options = {**ROOMS, "noise": str(tmp_path / "noise"), "anechoic": True}
    run(speech, tmp_path / "one", "wsj-mix", options)
    run(speech, tmp_path / "two", "wsj-mix", options, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    manifest = Manifest.read(tmp_path / "one")
    direct = Manifest.read(tmp_path / "one" / "anechoic.csv")
    for row, other in zip(manifest.rows, direct.rows, strict=True):
        parts = [codes(manifest.resolve(path)) for path in (*row.sources, row.noise)]
        assert np.array_equal(codes(manifest.resolve(row.mixture)), sum(parts)) and row.label == "rt60 0.2 s nominal"
        assert row.frames == len(parts[0]) and other.mixture == row.mixture and len(set(row.speakers)) == 2
        for name, part in zip(other.sources, parts, strict=False):
            assert 0.3 < np.corrcoef(codes(direct.resolve(name)), part)[0, 1] < 0.999
    assert "pyroomacoustics" in json.loads((tmp_path / "one" / "prepare.json").read_text())["versions"]
    assert run(speech, tmp_path / "one", "wsj-mix", options).kept == 7 + 16 + 8


def test_shared_rooms_are_simulated_once(speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("pyroomacoustics")
    calls, real = [], simulate.responses
    monkeypatch.setattr(simulate, "responses", lambda *arguments: calls.append(1) or real(*arguments))
    options = {**ROOMS, "rooms": 2}
    summary = run(speech, tmp_path / "out", "wsj-mix", options)
    assert len(calls) == 4 == len(list((tmp_path / "out" / "rooms").iterdir()))  # two for train, one for each other
    assert any("no noise" in note for note in summary.notes())
    assert all(row.noise == "" for row in Manifest.read(tmp_path / "out").rows)
    run(speech, tmp_path / "out", "wsj-mix", {**options, "seed": 1}, overwrite=True)
    assert len(calls) == 8


def test_rooms_need_the_simulator(speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    with pytest.raises(MissingDependency, match=r"pip install 'usepcli\[sim\]'") as caught:
        run(speech, tmp_path / "out", "wsj-mix", ROOMS)
    assert caught.value.code == 69 and not (tmp_path / "out").exists()
    assert run(speech, tmp_path / "out", "wsj-mix", ROOMS, dry_run=True).mebibytes > 0


def test_texts_of_whole_utterances_follow_their_talkers(speech: Path, tmp_path: Path):
    pytest.importorskip("pyroomacoustics")
    lines = [f"t{t}/u{u}.wav,t{t},SAID BY {t}" for t in range(8) for u in range(2)]
    (tmp_path / "said.csv").write_text("\n".join(["path,speaker,text", *lines]) + "\n")
    run(speech, tmp_path / "out", "wsj-mix", {**ROOMS, "csv": str(tmp_path / "said.csv")})
    for row in Manifest.read(tmp_path / "out").rows:
        assert row.text == "|".join(f"SAID BY {name[1:]}" for name in row.speakers)


def sms(root: Path) -> Path:
    """SMS-WSJ with one example in each split, three channels and no tail worth its name."""
    draw, sets = np.random.default_rng(0), {}
    for name in ("train_si284", "cv_dev93", "test_eval92"):
        waves = {kind: np.rint(draw.normal(size=(3, 400)) * 1000) for kind in ("e0", "e1", "t0", "t1", "n")}
        waves["x"] = sum(waves.values())
        for kind, wave in waves.items():
            io.write(root / name / f"{kind}.wav", wave.astype(np.int16), 8000)
        at = f"/far/away/{name}"
        paths = {
            "observation": f"{at}/x.wav",
            "noise_image": f"{at}/n.wav",
            "speech_reverberation_early": [f"{at}/e0.wav", f"{at}/e1.wav"],
            "speech_reverberation_tail": [f"{at}/t0.wav", f"{at}/t1.wav"],
        }
        sets[name] = {"0_a_b": {"audio_path": paths, "speaker_id": [f"{name}a", f"{name}b"]}}
    (root / "sms_wsj.json").write_text(json.dumps({"datasets": sets}))
    return root


def test_sms_wsj_becomes_mono_copies(tmp_path: Path):
    root = sms(tmp_path / "sms")
    before = contents(root)
    run(root, tmp_path / "out", "sms-wsj", {"channel": 1}, workers=2)
    assert contents(root) == before
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.splits() == {"train": 1, "valid": 1, "test": 1} and manifest.root == tmp_path / "out"
    row = manifest.rows[0]
    original = {k: np.rint(io.read(root / "train_si284" / f"{k}.wav")[0][1] * 32768) for k in ("e1", "t1", "n", "x")}
    assert np.array_equal(codes(manifest.resolve(row.sources[1])), original["e1"] + original["t1"])
    assert np.array_equal(codes(manifest.resolve(row.mixture)), original["x"])
    parts = [codes(manifest.resolve(path)) for path in (*row.sources, row.noise)]
    assert np.array_equal(sum(parts), original["x"]) and (row.sample_rate, row.frames) == (8000, 400)
    assert run(root, tmp_path / "out", "sms-wsj", {"channel": 1}).kept == 3
    with pytest.raises(OutputError, match=r"channel was 1, now 0"):
        run(root, tmp_path / "out", "sms-wsj", {})


def test_what_cannot_be_cut_is_left_out_and_told(tmp_path: Path):
    root = sms(tmp_path / "sms")
    (root / "cv_dev93" / "t1.wav").unlink()
    summary = run(root, tmp_path / "out", "sms-wsj", {})
    ((path, reason, _),) = summary.bad
    assert path.endswith("cv_dev93/t1.wav") and reason == "no such file"
    assert Manifest.read(tmp_path / "out").splits() == {"train": 1, "test": 1}
    with pytest.raises(BadInput, match=r"none of 3 items.*3 channels, channel 5"):
        run(root, tmp_path / "more", "sms-wsj", {"channel": 5})
    with pytest.raises(OutputError, match=r"holds the recordings themselves"):
        run(root, root, "sms-wsj", {})


def test_clips_are_cut_padded_and_resampled(tmp_path: Path):
    wave = np.arange(8000) / 16000
    for stem in ("one", "two"):
        io.write(tmp_path / "in" / f"{stem}.wav", wave, 8000)
    (tmp_path / "in" / "test_clips.csv").write_text("v/one.mp4,0.25,0.75,0.5\nv/two.mp4,0.5,9,0\nv/two.mp4,5,9,0\n")
    (tmp_path / "in" / "test_mom.csv").write_text("v/one.mp4,0.25,0.75,0.5,v/two.mp4,0.5,1,0\n")
    summary = run(tmp_path / "in", tmp_path / "out", "yfcc", {"seconds": 1.5, "rate": 8000})
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.splits() == {"test": 2, "test_mom": 1} and all(row.frames == 12000 for row in manifest.rows)
    assert [bad.reason for bad in summary.bad] == ["ends after 1.00 s, before 5 s"]
    first, second, pair = (codes(manifest.resolve(row.mixture)) for row in manifest.rows)
    assert not first[:4000].any() and not first[8000:].any()
    assert np.array_equal(first[4000:8000], np.rint(wave[2000:6000] * 32768))
    assert np.array_equal(second[:4000], np.rint(wave[4000:] * 32768)) and not second[4000:].any()
    assert np.array_equal(pair, first + second)
    for more in ({"shard": "2/2"}, {"shard": "1/2"}, {"merge": True}):
        run(tmp_path / "in", tmp_path / "shared", "yfcc", {"seconds": 1.5, "rate": 8000}, **more)
    assert contents(tmp_path / "shared") == contents(tmp_path / "out")
    half = run(tmp_path / "in", tmp_path / "half", "yfcc", {"seconds": 1.5, "rate": 4000})
    assert half.seconds["test"] == 3.0 and Manifest.read(tmp_path / "half").rows[0].frames == 6000


def test_a_pair_that_would_clip_gets_one_gain_for_all(tmp_path: Path):
    loud = np.full(800, 0.75)
    io.write(tmp_path / "in" / "one.wav", loud, 8000)
    (tmp_path / "in" / "test_mom.csv").write_text("one.mp4,0,0.1,0,one.mp4,0,0.1,0\n")
    run(tmp_path / "in", tmp_path / "out", "yfcc", {"seconds": 0.1, "rate": 8000})
    manifest = Manifest.read(tmp_path / "out")
    one, two, both = (codes(manifest.resolve(p)) for p in (*manifest.rows[0].sources, manifest.rows[0].mixture))
    assert np.array_equal(both, one + two) and 32000 < both.max() < 32768 and np.array_equal(one, two)
