"""Tars among the inputs: each sound is an input, its outputs stay below the output folder, a bad tar stops no other."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from usepcli.audio import raws
from usepcli.engine.separation import inputs, jobs
from usepcli.engine.separation.record import Identity
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
