from __future__ import annotations

from pathlib import Path

import pytest

from usepcli.engine.separation.batch_lock import BatchLock
from usepcli.errors import OutputError

WHOLE, ONE, TWO = "", "-1-of-2", "-2-of-2"


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [(WHOLE, WHOLE, False), (WHOLE, ONE, False), (ONE, WHOLE, False), (ONE, ONE, False), (ONE, TWO, True)],
)
def test_who_may_run_beside_whom(tmp_path: Path, first: str, second: str, together: bool):
    with BatchLock(tmp_path, first):
        if together:
            with BatchLock(tmp_path, second):
                pass
        else:
            with pytest.raises(OutputError, match=r"in use by pid \d+ on "), BatchLock(tmp_path, second):
                pass
        with pytest.raises(OutputError), BatchLock(tmp_path, first):  # the refused one took nothing away
            pass
    with BatchLock(tmp_path, second) as lock:
        assert lock.works
    assert not list(tmp_path.iterdir())


def test_a_lock_left_behind_by_a_kill_is_free(tmp_path: Path):
    (tmp_path / ".usep.lock").write_text("pid 1 on somewhere")
    with BatchLock(tmp_path):
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made"), BatchLock(tmp_path / "file" / "deeper"):
        pass
