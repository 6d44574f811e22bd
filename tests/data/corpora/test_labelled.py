"""Corpora with labels and captions: mixtures with words, and a training's data that open no stem."""

import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from usepcli.audio import io
from usepcli.cli.app import app
from usepcli.data.batch import collate
from usepcli.data.corpora.labelled import Labelled
from usepcli.data.examples import FixedMixtures
from usepcli.data.known import Split
from usepcli.data.manifest import Manifest, PoolRow

RATE = 11025


def _sounds(root, paths, seconds=1.0):
    rng = np.random.default_rng(0)
    for path in paths:
        io.write(root / path, (rng.standard_normal(round(seconds * RATE)) * 0.1).astype(np.float32), RATE)


def _prepare(*words, code=0):
    done = CliRunner().invoke(app, ["prepare-data", *map(str, words), "--quiet", "--workers", "1"])
    fault = done.exception
    assert getattr(fault, "code", done.exit_code) == code, (done.output, fault)
    return done


COUNTS = ("--train", 4, "--valid", 0, "--test", 2, "--seconds", 1)


@pytest.mark.parametrize("corpus", ["labelled", "music"])
def test_three_classes_at_once_with_words_for_each(tmp_path, corpus):
    top = "audio/" if corpus == "music" else ""
    names = ("cello", "acoustic_guitar", "tuba")
    _sounds(tmp_path / "in", [f"{top}{name}/{k}.wav" for name in names for k in range(9)])
    _prepare(tmp_path / "in", "-o", tmp_path / "out", "--corpus", corpus, "--sources", 3, 3, *COUNTS)
    for row in Manifest.read(tmp_path / "out" / "manifest.csv").rows:
        assert len(row.sources) == 3 and len(set(row.queries)) == 3
        assert [phrase.text for phrase in row.phrases] == list(row.queries)
        assert row.caption.startswith("The sound mixture of ") and row.sample_rate == RATE
        assert "The sound of acoustic guitar" in row.queries
    _prepare(tmp_path / "out", "--check")


def test_a_weak_training_opens_no_stem(tmp_path):
    _sounds(tmp_path / "in", [f"{name}/{k}.wav" for name in ("dog", "rain") for k in range(9)])
    _prepare(tmp_path / "in", "-o", tmp_path / "out", "--corpus", "labelled", "--no-stems", *COUNTS)
    shutil.rmtree(tmp_path / "in")
    files = sorted(path.name for path in (tmp_path / "out").rglob("*.wav"))
    assert files == ["mix.wav"] * 6 and not (tmp_path / "out" / "pool.csv").exists()
    rows = Manifest.read(tmp_path / "out" / "manifest.csv")
    for row in rows.rows:
        assert not row.sources and row.caption and len(row.phrases) == 2
    data = FixedMixtures(rows, RATE, 0.5, 0, with_sources=False, needs=("caption", "phrases"))
    for k in range(len(data)):
        batch = collate([data[0, k]])
        assert batch.sources is None and batch.mix.abs().sum() > 0
        assert batch.caption[0].startswith("The sound mixture of ") and len(batch.phrases[0]) == 2
    _prepare(tmp_path / "out", "--check")


def test_no_recording_is_heard_with_its_stem_and_without():
    rows = [
        PoolRow(f"{name}{k}", "train", name, f"{name}/{k}.wav", RATE, RATE, query=name)
        for name in "abcdefgh"
        for k in range(5)
    ]
    planner = Labelled(seconds=1.0, supervised=0.2, seed=3).planner("train", rows, [], 0)
    plans = [planner.plan(i) for i in range(50)]
    assert [plan.id for plan in plans] == [f"train_{i:05d}" for i in range(50)]
    heard = {stems: [turn.paths[0] for plan in plans if plan.stems == stems for turn in plan.turns]
             for stems in (True, False)}  # fmt: skip
    assert len(heard[True]) == 2 * 10 and not {*heard[True]} & {*heard[False]}
    assert {path[0] for path in heard[True]} == set("abcdefgh") and len({*heard[True]}) == 8
    assert len({*heard[False]}) == 32
    other = Labelled(seconds=1.0, supervised=0.2, seed=4).planner("train", rows, [], 0)
    assert {turn.paths for i in range(50) for turn in other.plan(i).turns if other.plan(i).stems} != {*heard[True]}


def test_sources_of_a_share_of_the_recordings_alone(tmp_path):
    _sounds(tmp_path / "in", [f"{name}/{k}.wav" for name in ("dog", "rain", "bell") for k in range(9)])
    words = (tmp_path / "in", "-o", tmp_path / "out", "--corpus", "labelled", "--supervised", 0.5, *COUNTS)
    _prepare(*words)
    rows = Manifest.read(tmp_path / "out" / "manifest.csv")
    assert [bool(row.sources) for row in rows.rows] == [True, False, True, False, True, True]  # the last two are a test
    assert all(row.caption and row.phrases and len(row.queries) == 2 for row in rows.rows)
    assert len(list((tmp_path / "out").rglob("s?.wav"))) == 8 and not list((tmp_path / "out").rglob("pool*"))
    data = FixedMixtures(rows.split("train"), RATE, 0.5, 0, False, needs=("caption", "phrases"), split=Split(0.0))
    assert collate([data[0, k] for k in range(len(data))]).known == [True, False, True, False]
    _prepare(tmp_path / "out", "--check")
    for wrong in (["--supervised", 1], ["--supervised", 0.5, "--no-stems"]):
        done = _prepare(tmp_path / "in", "-o", tmp_path / "no", "--corpus", "labelled", *wrong, code=2)
        assert "a share of 0 up to 1" in str(done.exception) and not (tmp_path / "no" / "manifest.csv").exists()


def test_lists_of_esc50_and_fsd50k(tmp_path):
    names = [f"{label}{fold}.wav" for label in ("dog", "rain") for fold in range(1, 6)]
    _sounds(tmp_path / "esc", [f"audio/{name}" for name in names])
    (tmp_path / "esc/meta").mkdir()
    lines = [f"{name},{name[-5]},0,{name[:-5]}" for name in names]
    (tmp_path / "esc/meta/esc50.csv").write_text("\n".join(["filename,fold,target,category", *lines, "no.wav,1,0,dog"]))
    _prepare(tmp_path / "esc", "-o", tmp_path / "a", "--corpus", "labelled", *COUNTS, code=4)
    assert "no.wav" in (tmp_path / "a/bad_files.csv").read_text()
    _sounds(tmp_path / "fsd", [f"FSD50K.dev_audio/{k}.wav" for k in range(8)])
    lines = [f'{k},"{("Bark,Dog", "Rain")[k % 2]}",/m/0,{"train" if k < 4 else "test"}' for k in range(8)]
    (tmp_path / "fsd/dev.csv").write_text("\n".join(["fname,labels,mids,split", *lines]))
    _prepare(tmp_path / "fsd", "-o", tmp_path / "b", "--corpus", "labelled", *COUNTS)
    said = {query for row in Manifest.read(tmp_path / "b/manifest.csv").rows for query in row.queries}
    assert said == {"The sound of Bark", "The sound of Rain"}


def test_captions_of_audiocaps(tmp_path):
    _sounds(tmp_path, ["wav/abc_30.wav", "wav/-x_y_0.wav"])
    head = "audiocap_id,youtube_id,start_time,caption"
    (tmp_path / "train.csv").write_text(f"{head}\n1,abc,30,A man yells and a group sings\n2,gone,0,Rain\n")
    (tmp_path / "test.csv").write_text(f"{head}\n3,-x_y,0,Rain\n")
    _prepare(tmp_path, "-o", tmp_path / "out", "--corpus", "audiocaps", code=4)
    rows = Manifest.read(tmp_path / "out/manifest.csv").rows
    assert [(row.split, [p.text for p in row.phrases]) for row in rows] == [
        ("train", ["A man yells", "A group sings"]),
        ("test", ["Rain"]),
    ]
    assert "gone_0" in (tmp_path / "out/bad_files.csv").read_text()


@pytest.mark.parametrize("corpus", ["labelled", "music"])
def test_by_default_a_mixture_lasts_as_long_as_the_published_ones_and_names_its_origins(tmp_path, corpus):
    names = [f"{name}/{k}.wav" for name in ("cello", "tuba") for k in range(4)]
    _sounds(tmp_path / "in", names)
    lines = [f"{name},{name.split('/')[0]},train,collection{k % 2},CC0" for k, name in enumerate(names)]
    (tmp_path / "in" / "manifest.csv").write_text("\n".join(["path,label,split,source_repo,licence", *lines]) + "\n")
    words = ("--corpus", corpus, "--train", 4, "--valid", 0, "--test", 0, "--sources", 2, 2)
    _prepare(tmp_path / "in", "-o", tmp_path / "out", *words)
    rows = Manifest.read(tmp_path / "out" / "manifest.csv").rows
    assert {row.frames for row in rows} == {65535} and {row.sample_rate for row in rows} == {11025}
    assert {origin for row in rows for origin in row.origin.split(" + ")} == {"collection0", "collection1"}
