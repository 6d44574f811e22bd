"""Fixed mixtures mixed afresh from their own training sources: all their talkers, nothing that is validated on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.data import lazy
from usepcli.data.audit_sets import known_voices
from usepcli.data.manifest import Manifest, Pool
from usepcli.engine.preparing import check
from usepcli.engine.preparing.prepare import prepare
from usepcli.engine.training import parts, valid_split
from usepcli.errors import BadInput
from usepcli.profile.load import load_profile

RATE = 8000
# As in WSJ0-2mix: training and validation share talkers, not utterances; the test has others.
SETS = {
    "tr": ("011a0101_1.5_012a0102_-1.5", "012a0103_0.3_013a0104_-0.3", "013a0105_2_011a0106_-2"),
    "cv": ("011a0201_1_013a0202_-1",),
    "tt": ("440a0301_1_441a0302_-1",),
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of WSJ0-2mix with a few tenths of a second of noise in every file."""
    draw = np.random.default_rng(0)
    for split, names in SETS.items():
        for name in names:
            waves = 0.1 * draw.standard_normal((2, 4000)).astype(np.float32)
            for part, wave in zip(("mix", "s1", "s2"), (waves.sum(0), *waves), strict=True):
                path = tmp_path / "wsj/2speakers/wav8k/min" / split / part / f"{name}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                io.write(path, wave, RATE)
    return tmp_path / "wsj"


def test_fresh_mixtures_have_all_training_talkers_and_no_other_split(tree: Path, tmp_path: Path) -> None:
    prepare(tree, tmp_path / "set", "wsj0-mix", {"rate": RATE}, quiet=True)
    listed = tmp_path / "set/manifest.csv"
    sets = [f"data.manifest={listed.parent}", f"data.pool=[{listed}]", "data.segment_s=0.25", "data.epoch_items=8"]
    profile = load_profile("wsj0_2mix_pit_dm", sets, environ={})
    data = parts.training_data(profile, RATE, {"mix", "sources"})
    assert {talker.split("/")[1] for talker in data.voices.talkers} == {"011", "012", "013"}
    utterances = (i for k in range(3) for i in data.voices.utterances(k))
    files = {pool.resolve(row.path) for pool, row in map(data.voices.row, utterances)}
    assert {path.parent.parent.name for path in files} == {"tr"} and len(files) == 6
    assert data[0, 0].sources.shape == (2, 2000)
    # The corpus itself has known voices in validation; that is told.
    (line,) = valid_split.known_voices(profile)
    assert line.startswith("warning: 2 talkers of data.pool speak in the validation split, too, e.g. '011'")
    assert not valid_split.known_voices(load_profile("wsj0_2mix_pit", sets[:1], environ={}))


def test_a_pool_of_sources_keeps_splits_names_and_paths(tree: Path, tmp_path: Path) -> None:
    prepare(tree, tmp_path / "set", "wsj0-mix", {"rate": RATE}, quiet=True)
    pool, listed = Pool.read(tmp_path / "set/manifest.csv"), Manifest.read(tmp_path / "set")
    assert len(pool) == 10 and pool.root == listed.root
    assert [row.speaker for row in pool.split("valid").rows] == ["011", "013"]
    assert all(pool.resolve(row.path).is_file() for row in pool.rows)
    listed.rows = [replace(row, speakers=()) for row in listed.rows]
    listed.write()
    assert {row.speaker for row in Pool.read(listed.path).rows} == {""}
    listed.rows = [replace(row, sources=(), n_src=0) for row in listed.rows]
    listed.write()
    with pytest.raises(BadInput, match="lists no sources"):
        Pool.read(listed.path)


def test_what_is_asked_of_all_sources_is_what_their_rows_say(tmp_path: Path) -> None:
    lines = [
        "a,m.wav,x.wav;y.wav,8000,10,2,train,A;B,dog;cat,here",
        "b,,x.wav; z.wav;w.wav,8000,20,3,valid,A;C,,there",  # names of two for three sources: of none
        "c,n.wav,,16000,30,0,train,,,",
        "d,o.wav,v.wav,16000,40,1,train, B ,bird,here",
        "e,p.wav,u.wav;t.wav,16000,50,2,test,C;C,dog;,here",
    ]
    listed = tmp_path / "manifest.csv"
    header = "id,mixture,sources,sample_rate,frames,n_src,split,speakers,queries,origin"
    listed.write_text("\n".join([header, *lines]) + "\n")
    pool = Pool.read(listed)
    made = list(pool.rows)
    assert [row.id for row in made] == ["a/1", "a/2", "b/1", "b/2", "b/3", "d/1", "e/1", "e/2"]
    assert [row.speaker for row in made] == ["A", "B", "", "", "", "B", "C", "C"]
    assert [row.query for row in made] == ["dog", "cat", "", "", "", "bird", "dog", ""]
    assert pool.sums == {"x.wav", "z.wav", "w.wav"}
    for rows in (pool.rows, lazy.some(pool.rows, np.array([6, 1, 3])), pool.rows[2:5], pool.rows[:0]):
        plain = list(rows)
        assert [rows[i] for i in range(len(rows))] == plain
        for name in ("frames", "sample_rate"):
            np.testing.assert_array_equal(lazy.numbers(rows, name), lazy.numbers(plain, name))
        for name in ("speaker", "path", "query", "split", "origin"):
            (names, which), (other, others) = lazy.names(rows, name), lazy.names(plain, name)
            assert names == other and which.tolist() == others.tolist(), name
            np.testing.assert_array_equal(lazy.given(rows, name), lazy.given(plain, name))


def test_a_pool_that_meets_the_talkers_of_another_split_is_found_by_the_audit(tree: Path, tmp_path: Path) -> None:
    prepare(tree, tmp_path / "set", "wsj0-mix", {"rate": RATE}, quiet=True)
    listed = Manifest.read(tmp_path / "set")
    pool = Pool.read(listed.path)
    kept = [row for row in pool.rows if row.split == "train" and row.speaker != "012"]
    # The folder's own mixtures keep their talkers apart here, so that what is found lies between the tables.
    listed.rows = [row for row in listed.rows if row.split != "train"]
    listed.write()
    Pool(kept, pool.root, listed.root / Pool.FILE).write(tmp_path / "set" / Pool.FILE)
    found = check.check(tmp_path / "set", quiet=True).findings
    told = [one.detail for one in found if one.kind == "talker"]
    assert told == [f"talker '{name}' of the pool's train speaks in the valid mixtures" for name in ("011", "013")]


def test_unnamed_talkers_and_those_of_the_same_split_are_no_known_voices() -> None:
    mixtures = [("a", "train"), ("b", "valid"), ("", "valid")]
    assert known_voices([("a", "train"), ("", "train"), ("c", "train")], mixtures) == {}
    assert known_voices([("b", "train"), ("b", "train")], mixtures) == {"b": ("train", "valid")}
