from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.data.corpora.folder import Folder
from usepcli.errors import BadInput


def test_what_separate_wrote_below_the_recordings_is_no_recording(tmp_path: Path):
    for name in ("a.wav", "b.wav", "c.wav", "apart/a_1.wav", "apart/a_2.wav", "apart/new.wav"):
        io.write(tmp_path / name, np.full(800, 0.1), 8000)
    (tmp_path / "apart/outputs.csv").write_text(
        "file,output,source,settings,file_sha256\na.wav,a_1.wav,1,0,0\na.wav,a_2.wav,2,0,0\n"
    )
    corpus = Folder()
    assert sorted(row.mixture for row in corpus.scan(tmp_path)) == ["a.wav", "apart/new.wav", "b.wav", "c.wav"]
    assert [bad.path for bad in corpus.bad] == ["apart/a_1.wav", "apart/a_2.wav"]
    assert "is an output of usep separate (" in corpus.bad[0].reason
    (tmp_path / "apart/new.wav").unlink()
    with pytest.raises(BadInput, match=r"no recordings found: a_1\.wav is an output of usep separate"):
        Folder().scan(tmp_path / "apart")
