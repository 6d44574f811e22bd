"""Tars among the inputs: each sound is an input, its outputs stay below the output folder, a bad tar stops no other."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from usepcli.audio import raws, tars
from usepcli.engine.separation import inputs, jobs, shards
from usepcli.engine.separation.record import Identity
from usepcli.engine.shards import Shard
from usepcli.errors import InputNotFound


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sound = io.BytesIO()
    sf.write(sound, np.zeros(800), 8000, format="WAV", subtype="PCM_16")
    for tar, names in {"0.tar": ("a/x.mix.wav", "../../up.wav", "/abs.wav", "t.txt"), "1.tar": ("y.wav",)}.items():
        with tarfile.open(tmp_path / tar, "w") as file:
            for name in names:
                entry = tarfile.TarInfo(name)
                entry.size = len(sound.getvalue())
                file.addfile(entry, io.BytesIO(sound.getvalue()))
    (tmp_path / "z.wav").write_bytes(sound.getvalue())
    return tmp_path


def test_names_in_tars_lead_nowhere_but_below_the_output_folder(folder: Path) -> None:
    pytest.importorskip("braceexpand")
    found = inputs.find([f"{folder}/{{0..2}}.tar", folder / "z.wav"], folder / "out")
    assert list(found.faults) == [f"{folder}/2.tar"]
    plan = jobs.lay_out(found.sources, folder / "out", 1)
    outputs = [str(job.outputs[0].relative_to(folder / "out")) for job in plan]
    assert outputs == ["0/a/x.mix_1.wav", "0/up_1.wav", "0/abs_1.wav", "1/y_1.wav", "z_1.wav"]
    assert [job.file for job in plan][:2] == [f"{folder}/0.tar/a/x.mix.wav", f"{folder}/0.tar/../../up.wav"]
    one = Identity.of(folder / "z.wav")
    for job in plan:
        assert raws.facts(job.source).size == one.bytes and Identity.of(job.source).sha256 == one.sha256


def test_one_tar_a_pattern_and_a_member_alone(folder: Path) -> None:
    assert len(inputs.find([folder / "0.tar"], folder / "out").sources) == 3
    assert len(inputs.find([f"{folder}/*.tar"], folder / "out").sources) == 4
    assert len(inputs.find([folder / "1.tar" / "y.wav"], folder / "out").sources) == 1
    with pytest.raises(InputNotFound):
        inputs.find([folder / "none.tar"], folder / "out")
    assert len(inputs.find([folder], folder / "out").sources) == 1  # a tar in a folder may be a backup: name it


def test_a_share_reads_only_its_own_tars(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in (2, 3, 4):
        (folder / f"{n}.tar").write_bytes((folder / "1.tar").read_bytes())
    looked: list[str] = []
    look = tars.index
    monkeypatch.setattr(tars, "index", lambda tar, fresh=False: looked.append(Path(tar).stem) or look(tar, fresh))
    texts = [f"{folder}/*.tar", f"{folder}/z.wav"]
    everyone = jobs.lay_out(inputs.find(texts, folder / "out").sources, folder / "out", 1)
    found = []
    for index, own in ((1, {"0", "3"}), (2, {"1", "4"}), (3, {"2"})):
        looked.clear()
        share = Shard(index, 3)
        plan = jobs.lay_out(inputs.find(texts, folder / "out", share=share).sources, folder / "out", 1)
        mine = shards.of(share, plan)
        assert mine == shards.of(share, everyone) and {job.relative.parts[0] for job in mine} <= {*own, "z"}
        assert set(looked) == own
        found += mine
    assert sorted(job.file for job in found) == sorted(job.file for job in everyone)


def test_more_shares_than_tars_share_the_members(folder: Path) -> None:
    texts = [f"{folder}/*.tar"]
    plans = [
        shards.of(Shard(n, 3), jobs.lay_out(inputs.find(texts, folder, share=Shard(n, 3)).sources, folder, 1))
        for n in (1, 2, 3)
    ]
    assert sorted(len(plan) for plan in plans) != [0, 1, 3] and sum(map(len, plans)) == 4


def test_tars_of_one_name_are_looked_at_by_every_share(folder: Path) -> None:
    """Their outputs would lie in one folder, and only who knows both sees it."""
    (folder / "b").mkdir()
    (folder / "b" / "1.tar").write_bytes((folder / "1.tar").read_bytes())
    texts = [str(folder / "1.tar"), str(folder / "b" / "1.tar")]
    assert len(inputs.find(texts, folder / "out", share=Shard(1, 2)).sources) == 2
