"""What has changed around a run is told when it goes on, and other data than it learned from are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from usepcli.data.manifest import Manifest
from usepcli.engine.training import runfolder
from usepcli.engine.training.marks import changes, marks
from usepcli.engine.training.train import Trainer
from usepcli.errors import ConfigError
from usepcli.profile.load import load_profile
from usepcli.profile.schema import Data

HEAD = "id,split,mixture,sources,sample_rate,frames\n"
ROWS = [
    "a,train,a.wav,,8000,10\n",
    "v,valid,v.wav,,8000,10\n",
    '"b",train,"b ""x"".wav",,8000,10\n',
    "t,test,t.wav,,8000,9\n",
]


def of(root: Path, rows: list[str], **more: object) -> dict[str, dict[str, object]]:
    (root / "manifest.csv").write_text(HEAD + "".join(rows))
    return marks(Data(manifest=str(root), **more))[0]  # type: ignore[arg-type]


def test_rows_of_training_of_validation_and_others_are_told_apart(tmp_path: Path) -> None:
    begun = of(tmp_path, ROWS)
    assert begun["data.manifest"]["train"]["rows"] == 2 and changes(begun, of(tmp_path, ROWS)) == ([], [])
    learned, other = changes(begun, of(tmp_path, [*ROWS, "c,train,c.wav,,8000,10\n"]))
    assert learned == ["data.manifest: 2 rows of training when the run began, 3 now"] and not other
    assert changes(begun, of(tmp_path, [ROWS[2], ROWS[1], ROWS[0]]))[0]  # the order decides which is drawn when
    learned, other = changes(begun, of(tmp_path, [ROWS[0], ROWS[1].replace("v.wav", "w.wav"), *ROWS[2:]]))
    assert not learned and "the 1 rows of validation are others" in other[0] and len(other) == 1
    learned, other = changes(begun, of(tmp_path, ROWS[:3]))
    assert not learned and other == [
        "data.manifest: the file has changed since the run began, what is learned from has not"
    ]
    with (tmp_path / "manifest.csv").open("w") as file:  # a byte order mark, and other line ends: the same rows
        file.write("\ufeff" + (HEAD + "".join(ROWS)).replace("\n", "\r\n"))
    assert not changes(begun, marks(Data(manifest=str(tmp_path)))[0])[0]


def test_pools_noise_and_rooms_are_learned_from_where_mixtures_are_made_afresh(tmp_path: Path) -> None:
    pool = "id,split,path,sample_rate,frames\nx,train,x.wav,8000,5\ny,test,y.wav,8000,5\n"
    (tmp_path / "pool.csv").write_text(pool)
    (tmp_path / "hum").mkdir()
    (tmp_path / "hum/n.wav").touch()
    (tmp_path / "halls").mkdir()
    more = {"mixing": "dynamic", "pool": [str(tmp_path)], "noise": str(tmp_path / "hum")}
    more |= {"rooms": str(tmp_path / "halls")}
    begun = of(tmp_path, ROWS, **more)
    assert "train" not in begun["data.manifest"]
    (tmp_path / "pool.csv").write_text(pool.replace("y.wav", "z.wav"))
    assert changes(begun, of(tmp_path, ROWS[1:], **more))[0] == []
    (tmp_path / "pool.csv").write_text(pool.replace("x.wav", "z.wav"))
    (tmp_path / "hum/o.wav").touch()
    (tmp_path / "halls/o.wav").touch()
    learned, _ = changes(begun, of(tmp_path, ROWS, **more))
    assert [line.split(":")[0] for line in learned] == ["data.noise", "data.pool[0]", "data.rooms"]


def test_a_run_goes_on_with_what_it_began_with_or_says_so(
    profile_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"

    def go(steps: int, force: bool = False) -> str:
        Trainer(load_profile(str(profile_file), [f"train.max_steps={steps}"]), run, force).fit()
        return capsys.readouterr().err

    go(1)
    real = runfolder.versions
    monkeypatch.setattr(runfolder, "versions", lambda *names: real(*names) | {"torch": "9.9"})
    said = go(2)
    assert f"goes on with torch 9.9, its last start had {real('torch')['torch']}" in said and "rows" not in said
    table = Manifest.read(load_profile(str(profile_file)).data.manifest)
    rows = list(table.rows)
    table.rows = [row for row in rows if row.id != next(row.id for row in rows if row.split == "train")]
    table.write()
    with pytest.raises(ConfigError, match=r"learned from other data \(data\.manifest: \d+ rows of training"):
        go(3)
    assert "by --force the run goes on with these" in go(3, force=True)
    assert "goes on with" not in go(4)
    starts = json.loads((run / "run.json").read_text())["starts"]
    assert [(start["step"], start["ranks"], start["device"]) for start in starts] == [
        (step, 1, "cpu") for step in (0, 1, 2, 3)
    ]
    assert [start["versions"]["torch"] == "9.9" for start in starts] == [False, True, True, True]
