"""Adapters whose audio is written anew: which pieces make which file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.data.corpora.cutter import Piece
from usepcli.data.corpora.sms_wsj import SmsWsj
from usepcli.data.corpora.yfcc import Yfcc
from usepcli.errors import BadInput, InputNotFound


def sms_json(root: Path, *drop: str, **more: Any) -> Path:
    """The description of one example in each split, its paths those of another machine."""

    def example(name: str) -> dict[str, Any]:
        def two(kind: str) -> list[str]:
            return [f"/elsewhere/sms/{kind}/{name}/0_a_b_{k}.wav" for k in (0, 1)]

        paths = {
            "observation": f"/elsewhere/sms/observation/{name}/0_a_b.wav",
            "noise_image": f"/elsewhere/sms/noise/{name}/0_a_b.wav",
            "speech_source": two("speech_source"),
            "speech_reverberation_early": two("early"),
            "speech_reverberation_tail": two("tail"),
            **more,
        }
        return {
            "audio_path": {key: value for key, value in paths.items() if key not in drop},
            "speaker_id": ["a", "b"],
            "kaldi_transcription": ["ONE | TWO", "THREE"],
        }

    sets = {name: {"0_a_b": example(name)} for name in ("train_si284", "cv_dev93", "test_eval92")}
    root.mkdir(parents=True, exist_ok=True)
    (root / "sms_wsj.json").write_text(json.dumps({"datasets": sets}))
    return root


def test_sms_wsj_takes_one_channel_and_adds_early_and_tail(tmp_path: Path):
    root = sms_json(tmp_path)
    for path in ("early/train_si284/0_a_b_0.wav", "tail/train_si284/0_a_b_0.wav", "observation/train_si284/0_a_b.wav"):
        io.write(root / path, np.zeros((6, 10)), 8000)
    jobs = SmsWsj(channel=2).jobs(root)
    assert [job.row.split for job in jobs] == ["train", "valid", "test"]
    row, files = jobs[0].row, dict(jobs[0].files)
    assert (row.id, row.mixture, row.noise) == (
        "train/0_a_b", "wav/train/0_a_b/mix.wav", "wav/train/0_a_b/noise.wav"
    )  # fmt: skip
    assert row.text == "ONE   TWO|THREE" and row.speakers == ("a", "b") and row.n_src == 2
    assert files[row.sources[0]] == (
        Piece("early/train_si284/0_a_b_0.wav", channel=2), Piece("tail/train_si284/0_a_b_0.wav", channel=2)
    )  # fmt: skip
    assert files[row.mixture] == (Piece("observation/train_si284/0_a_b.wav", channel=2),)
    assert jobs == SmsWsj(channel=2).jobs(root / "sms_wsj.json")


def test_other_references_and_the_keys_of_wsj_mix(tmp_path: Path):
    def sources(root: Path, reference: Any) -> list[list[str]]:
        job = SmsWsj(reference=reference).jobs(root)[0]
        return [[piece.path.split("/")[3] for piece in dict(job.files)[name]] for name in job.row.sources]

    root = sms_json(tmp_path / "sms")
    assert sources(root, "early") == [["early"]] * 2 and sources(root, "anechoic") == [["speech_source"]] * 2
    keys = {kind: [f"/elsewhere/mix/{kind}/{k}.wav" for k in (0, 1)] for kind in ("reverberant", "anechoic")}
    ours = sms_json(
        tmp_path / "ours",
        "speech_source",
        "speech_reverberation_early",
        "speech_reverberation_tail",
        **{f"speech_{kind}_clean": paths for kind, paths in keys.items()},
    )
    assert sources(ours, "reverberant") == [["reverberant"]] * 2 and sources(ours, "anechoic") == [["anechoic"]] * 2
    with pytest.raises(BadInput, match=r"no speech_reverberation_early; see --reference"):
        SmsWsj(reference="early").jobs(ours)


def test_what_is_no_sms_wsj(tmp_path: Path):
    with pytest.raises(InputNotFound, match=r"0 JSON files"):
        SmsWsj().jobs(tmp_path)
    for text, words in (("{", "not JSON"), ("[]", "no 'datasets'"), ('{"datasets": {"x": {}}}', "dataset 'x'")):
        (tmp_path / "any.json").write_text(text)
        with pytest.raises(BadInput, match=words):
            SmsWsj().jobs(tmp_path)
    with pytest.raises(BadInput, match=r"no audio_path.observation"):
        SmsWsj().jobs(sms_json(tmp_path, "observation"))


VIDEO = "data/videos/mp4/827/f6b/827f6b53.mp4"
OTHER = "data/videos/mp4/111/222/111222.mp4"


def yfcc(root: Path, **lists: str) -> Path:
    for name, text in lists.items():
        (root / f"{name}.csv").write_text(text)
    for stem in ("827f6b53", "111222"):
        io.write(root / "sound" / stem[:3] / f"{stem}.wav", np.zeros(160), 16000)
    return root


def test_clips_and_pairs_of_clips(tmp_path: Path):
    root = yfcc(
        tmp_path,
        train_clips=f"{VIDEO},0.0,10.0,0.0\n{VIDEO},12.5,20,1.25\n",
        validate_clips=f"video path,start,end,offset\n{OTHER},1,2,3\n",
        test_mom_clips=f"{VIDEO},0,10,0,{OTHER},1,2,3\n",
    )
    jobs = {job.row.id: job for job in Yfcc(root=str(root / "sound")).jobs(root)}
    assert {job.row.split for job in jobs.values()} == {"train", "valid", "test_mom"} and len(jobs) == 4
    second = jobs["train/827/827f6b53_12.500"]
    sound = str((root / "sound" / "827" / "827f6b53.wav").resolve())
    assert second.files == (("wav/train/827/827f6b53_12.500.wav", (Piece(sound, 12.5, 20.0, 1.25),)),)
    assert second.row.sources == () and second.row.n_src == 0 and (second.rate, second.seconds) == (16000, 10.0)
    pair = jobs["test_mom/00000"]
    assert [name for name, _ in pair.files] == [*pair.row.sources, pair.row.mixture] and pair.files[-1][1] == ()
    assert pair.files[1][1][0].at_s == 3 and pair.row.n_src == 2


def test_clips_without_sound_are_left_out_and_listed(tmp_path: Path):
    root = yfcc(tmp_path, train=f"{VIDEO},0,10,0\nx/gone.mp4,0,10,0\nx/gone.mp4,10,20,0\n{OTHER},0,10\n")
    corpus = Yfcc()
    assert len(corpus.jobs(root)) == 2
    assert [(bad.path, "no sound" in bad.reason) for bad in corpus.bad] == [("x/gone.mp4", True)] * 2
    (root / "train.csv").write_text("x/gone.mp4,0,10,0\n")
    with pytest.raises(InputNotFound, match=r"no sound of any of the 1 clips.*--root"):
        Yfcc().jobs(root)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{VIDEO},0,10\n{VIDEO},0\n", r":2: 2 cells"),
        (f"{VIDEO},0,10,0\n{VIDEO},a,10,0\n", r":2: start, end"),
        (f"{VIDEO},10,5,0\n", r":1: 10 to 5 s is no stretch"),
        (f"{VIDEO},0,5,inf\n", r":1: 0 to 5 s"),
    ],
)
def test_broken_lists(tmp_path: Path, text: str, words: str):
    with pytest.raises(BadInput, match=words):
        Yfcc().jobs(yfcc(tmp_path, train=text))


def test_a_list_without_a_split(tmp_path: Path):
    with pytest.raises(BadInput, match=r"neither train, valid nor test"):
        Yfcc().jobs(yfcc(tmp_path, clips=f"{VIDEO},0,10,0\n"))
