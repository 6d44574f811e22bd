"""Lists of corpora by words: headerless ones, both names of VGGSound's clips, test mixtures by list, and captions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.data.corpora.audiocaps import AudioCaps
from usepcli.data.corpora.labelled import Labelled
from usepcli.data.corpora.mom import Moms
from usepcli.data.corpora.music import Music
from usepcli.data.corpora.vggsound import VGGSound
from usepcli.data.manifest import Manifest, Phrase
from usepcli.errors import BadInput, ConfigError, InputNotFound

RATE = 8000


def sounds(root: Path, *names: str, seconds: float = 0.5, rate: int = RATE) -> None:
    rng = np.random.default_rng(0)
    for name in names:
        io.write(root / name, (rng.standard_normal(round(seconds * rate)) * 0.1).astype(np.float32), rate)


def table(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


COUNTS = {"train": 4, "valid": 2, "test": 2, "seconds": 0.2, "rate": RATE}


def test_lists_of_solos_name_their_splits_and_the_recordings_of_every_test_mixture(tmp_path: Path) -> None:
    classes = ("cello", "tuba", "acoustic_guitar")
    sounds(tmp_path, *(f"audio/{name}/{k}.wav" for name in classes for k in range(5)))
    sounds(tmp_path, "audio/cello/long.wav", seconds=0.9)
    sounds(tmp_path, "audio/tuba/long.wav", seconds=0.7)
    trained = [f"/{name}/{k}.wav,/{name}/{k}.mp4,7" for name in classes for k in range(4)]
    table(tmp_path / "train.csv", *trained)
    pairs = ["/cello/long.wav,/tuba/long.wav", "/cello/4.wav,/cello/long.wav", "/tuba/0.wav,/cello/4.wav"]
    table(tmp_path / "test_sep_2.csv", *pairs, "/tuba/4.wav,/acoustic_guitar/4.wav", "/tuba/4.wav,/cello/none.wav")
    corpus = Music(**COUNTS)
    rows = corpus.scan(tmp_path)
    splits = {row.path: row.split for row in rows}
    assert {splits[f"audio/{name}/4.wav"] for name in classes} == {"test"} and splits["audio/cello/long.wav"] == "test"
    assert (
        sorted(splits[f"audio/{name}/{k}.wav"] for name in classes for k in range(4)) == ["train"] * 9 + ["valid"] * 3
    )
    reasons = {bad.path: bad.reason for bad in corpus.bad}
    assert "one class twice" in reasons["test_sep_2.csv:2"] and "belongs to split" in reasons["test_sep_2.csv:3"]
    assert "not among the recordings" in reasons["test_sep_2.csv:5"]
    test = [row for row in rows if row.split == "test"]
    planner = corpus.planner("test", test, [], 2)
    plans = [planner.plan(i) for i in range(corpus.counts["test"])]
    # 0.7 s hold three stretches of 0.2 s, 0.5 s hold two.
    assert [plan.caption.removeprefix("The sound mixture of ") for plan in plans] == [
        *["cello and tuba"] * 3, *["tuba and acoustic guitar"] * 2,
    ]  # fmt: skip
    assert [turn.start for plan in plans for turn in plan.turns] == [0, 0, 1600, 1600, 3200, 3200, 0, 0, 1600, 1600]
    assert all(turn.at == 0 and turn.frames == 1600 for plan in plans for turn in plan.turns)
    said = corpus.remarks()
    assert "2 are listed in test_sep_2.csv" in said[1] and "3 of those for training are for validation" in said[0]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_k_sources_of_different_classes_are_heard_from_anywhere(tmp_path: Path, count: int) -> None:
    sounds(tmp_path, *(f"{name}/{k}.wav" for name in "abcd" for k in range(2)), seconds=2.0)
    corpus = Music(sources=(count, count), split_ratios=(1.0, 0.0, 0.0), **COUNTS)
    rows = corpus.scan(tmp_path)
    planner = corpus.planner("train", rows, [], 0)
    plans = [planner.plan(i) for i in range(8)]
    assert all(len({turn.query for turn in plan.turns}) == count == len(plan.phrases) for plan in plans)
    starts = {turn.start for plan in plans for turn in plan.turns}
    assert len(starts) > 2 * count and max(starts) + 1600 <= 16000
    assert [planner.plan(i) for i in range(8)] == plans


def test_clips_of_vggsound_by_either_name_are_heard_in_their_middle(tmp_path: Path) -> None:
    sounds(tmp_path, "audio/-a_b_000030.wav", "train/xyz_7.wav", "q_0_10.wav", "last.wav")
    table(
        tmp_path / "vggsound.csv", '-a_b,30,"pigeon, dove cooing",train', "xyz,7,rain,train", "q,0,rain,test",
        'last,5,"dog barking",test', "gone,20,rain,test",
    )  # fmt: skip
    corpus = VGGSound(**COUNTS | {"valid": 0})
    rows = corpus.scan(tmp_path)
    found = {row.path: (row.split, row.query) for row in rows}
    assert found == {
        "audio/-a_b_000030.wav": ("train", "The sound of pigeon dove cooing"),
        "train/xyz_7.wav": ("train", "The sound of rain"),
        "q_0_10.wav": ("test", "The sound of rain"),
        "last.wav": ("test", "The sound of dog barking"),
    }
    assert [bad.path for bad in corpus.bad] == ["gone_20"]
    turns = corpus.planner("test", [row for row in rows if row.split == "test"], [], 2).plan(0).turns
    assert [(turn.start, turn.frames, turn.at) for turn in turns] == [(1200, 1600, 0)] * 2
    longer = VGGSound(**COUNTS | {"valid": 0, "seconds": 1.0})
    turns = longer.planner("test", [row for row in longer.scan(tmp_path) if row.split == "test"], [], 2).plan(0).turns
    assert [(turn.start, turn.frames, turn.at) for turn in turns] == [(0, 4000, 2000)] * 2
    assert round(VGGSound().recipe.seconds * 11025) == VGGSound().recipe.frames == 110_000


def test_path_and_label_of_published_code(tmp_path: Path) -> None:
    sounds(tmp_path, "a.wav", "b.wav", "c.wav", "d.wav")
    table(tmp_path / "train.csv", "path,label", '/a.wav,"pigeon, dove cooing"', "b.wav,rain")
    table(tmp_path / "test.csv", "path,label", 'c.wav,"pigeon, dove cooing"', "d.wav,rain")
    rows = VGGSound(**COUNTS | {"valid": 0}).scan(tmp_path)
    assert {(row.path, row.split) for row in rows} == {
        ("a.wav", "train"), ("b.wav", "train"), ("c.wav", "test"), ("d.wav", "test"),
    }  # fmt: skip
    assert {row.query for row in rows} == {"The sound of pigeon dove cooing", "The sound of rain"}


def test_the_evaluation_list_of_fsd50k_tests(tmp_path: Path) -> None:
    sounds(tmp_path, *(f"FSD50K.dev_audio/{k}.wav" for k in range(4)), "FSD50K.eval_audio/9.wav")
    table(tmp_path / "FSD50K.ground_truth/dev.csv", "fname,labels,mids,split", *(
        f'{k},"{("Bark,Dog", "Rain")[k % 2]}",/m/0,{("train", "val")[k // 2]}' for k in range(4)
    ))  # fmt: skip
    table(tmp_path / "FSD50K.ground_truth/eval.csv", "fname,labels,mids", '9,"Bark,Dog,Animal",/m/0')
    rows = Labelled(**COUNTS).scan(tmp_path)
    assert {row.path.split("/")[1]: row.split for row in rows} == {
        "0.wav": "train", "1.wav": "train", "2.wav": "valid", "3.wav": "valid", "9.wav": "test",
    }  # fmt: skip
    assert {row.query for row in rows} == {"The sound of Bark", "The sound of Rain"}


def test_every_recording_keeps_where_it_came_from(tmp_path: Path) -> None:
    sounds(tmp_path, *(f"{k}.wav" for k in range(4)))
    lines = [f"{k}.wav,{'ab'[k % 2]},train,repository{k},CC0" for k in range(4)]
    table(tmp_path / "manifest.csv", "path,label,split,source_repo,licence", *lines)
    corpus = Labelled(**COUNTS | {"valid": 0, "test": 0})
    rows = corpus.scan(tmp_path)
    assert [row.origin for row in rows] == [f"repository{k}" for k in range(4)]
    plan = corpus.planner("train", rows, [], 0).plan(0)
    assert set(plan.origins) == {row.origin for row in rows for turn in plan.turns if row.path in turn.paths}


def test_a_list_of_test_mixtures_that_is_not_there_or_lists_none(tmp_path: Path) -> None:
    sounds(tmp_path, *(f"{name}/{k}.wav" for name in "ab" for k in range(4)))
    with pytest.raises(InputNotFound, match=r"none\.csv: no such list of test mixtures"):
        Labelled(test_list="none.csv", **COUNTS).scan(tmp_path)
    table(tmp_path / "list.csv", "first,second", "a/0.wav,a/9.wav")
    corpus = Labelled(test_list="list.csv", **COUNTS)
    rows = corpus.scan(tmp_path)
    with pytest.raises(BadInput, match="of 0 listed mixtures none has all its recordings"):
        corpus.planner("test", rows, [], 2)


def test_every_caption_of_a_clip_is_an_item_and_asks_for_its_phrases(tmp_path: Path) -> None:
    sounds(tmp_path, "abc_30.wav")
    lines = ["1,abc,30,A man yells and a group sings", "2,abc,30,Rain; thunder", "3,gone,0,Wind"]
    table(tmp_path / "test.csv", "audiocap_id,youtube_id,start_time,caption", *lines)
    corpus = AudioCaps()
    rows = corpus.scan(tmp_path)
    assert [(row.id, row.mixture, row.queries) for row in rows] == [
        ("abc_30", "abc_30.wav", ("A man yells", "A group sings")),
        ("abc_30_2", "abc_30.wav", ("Rain", "Thunder")),
    ]
    assert [bad.path for bad in corpus.bad] == ["gone_0"]
    assert [row.id for row in AudioCaps(captions="first").scan(tmp_path)] == ["abc_30"]


def test_captions_in_json_with_lists_of_ids(tmp_path: Path) -> None:
    sounds(tmp_path, "audio/abc_30.wav", "audio/Yxyz_0.wav")
    said = {
        "7": {"file_id": "abc_30", "caption": "A man yells and a group sings", "sources": ["A man|yells", "A group"]},
        "8": {"file_id": "xyz_0", "caption": "Rain", "sources": []},
    }
    (tmp_path / "captions.json").write_text(json.dumps(said))
    table(tmp_path / "train_ids.csv", "7")
    table(tmp_path / "test_sep2_ids.csv", "8,9")
    rows = AudioCaps().scan(tmp_path)
    assert [(row.id, row.split, row.phrases) for row in rows] == [
        ("7", "train", (Phrase("A man yells"), Phrase("A group"))), ("8", "test", (Phrase("Rain"),)),
    ]  # fmt: skip
    (tmp_path / "captions.json").write_text('{"7": {"file_id": 3}}')
    with pytest.raises(BadInput, match=r"captions\.json: 7: file_id, caption and a list of sources"):
        AudioCaps().scan(tmp_path)


@pytest.fixture
def captioned(tmp_path: Path) -> Path:
    """Six test clips, two with a phrase in common, one of another rate, one without a caption, and one to train."""
    sounds(tmp_path / "in", *(f"{name}_0.wav" for name in "abcdef"), "t_0.wav")
    sounds(tmp_path / "in", "slow_0.wav", rate=4000)
    words = {"a": "Rain", "b": "Rain, a dog barks", "c": "A man talks", "d": "Wind", "e": "A car", "f": "Bells"}
    lines = [f"1,{name},0,{text!r}" for name, text in words.items()]
    table(tmp_path / "in/test.csv", "audiocap_id,youtube_id,start_time,caption", *(
        line.replace("'", '"') for line in [*lines, "1,a,0,'Water falls'", "1,slow,0,'A whistle'"]
    ))  # fmt: skip
    table(tmp_path / "in/train.csv", "audiocap_id,youtube_id,start_time,caption", "1,t,0,A horn")
    Manifest(AudioCaps().scan(tmp_path / "in"), tmp_path / "in", tmp_path / "in/manifest.csv").write()
    return tmp_path / "in"


def test_sums_of_two_mixtures_are_asked_for_by_captions_and_never_share_a_sound(captioned: Path) -> None:
    corpus = Moms(seeds="0,1,2")
    rows = corpus.scan(captioned)
    assert rows == Moms(seeds="0,1,2").scan(captioned) and corpus.bad == []
    assert {row.split for row in rows} == {"test"} and all(row.mixture == "" and row.n_src == 2 for row in rows)
    for seed in range(3):
        own = [row for row in rows if row.id.startswith(f"test_s{seed}_")]
        used = [place for row in own for place in row.sources]
        assert len(own) == 3 and not {"slow_0.wav", "t_0.wav"} & set(used)  # of seven captions of one rate one is left
        assert not any({"Rain", "Rain, a dog barks"} <= set(row.queries) for row in own)
        assert not any(len(set(row.sources)) < 2 for row in own)
    assert len({row.sources for row in rows}) > 3


def test_sums_of_two_mixtures_by_a_list_of_ids(captioned: Path) -> None:
    table(captioned / "two.csv", "a_0,b_0", "a_0,none", "c_0", "c_0,slow_0")
    corpus = Moms(test_list="two.csv")
    (row,) = corpus.scan(captioned)
    assert (row.sources, row.queries) == (("a_0.wav", "b_0.wav"), ("Rain", "Rain, a dog barks"))
    reasons = {bad.path: bad.reason for bad in corpus.bad}
    assert set(reasons) == {"two.csv:2", "two.csv:3", "two.csv:4"} and "4000" in reasons["two.csv:4"]


def test_what_cannot_be_added_up_is_said(captioned: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--seeds 0;1"):
        Moms(seeds="0;1")
    rows = Manifest.read(captioned).rows
    Manifest([row for row in rows if row.split == "train"], captioned, tmp_path / "t.csv").write()
    with pytest.raises(BadInput, match="no row of split valid or test"):
        Moms().scan(tmp_path / "t.csv")
