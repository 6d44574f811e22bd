from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.engine.mixing import inputs
from usepcli.engine.mixing.automation import curve, read_automation
from usepcli.engine.mixing.inputs import check_stems, find_stems
from usepcli.engine.scoring import layouts
from usepcli.errors import BadInput, InputNotFound, UsageError


def sound(path: Path, frames: int = 10, channels: int = 1, rate: int = 8000) -> Path:
    io.write(path, np.zeros((channels, frames)), rate)
    return path


def ledger(path: Path, *rows: str, columns: str = "file,output,source,gain_db") -> Path:
    path.write_bytes("\n".join([columns, *rows, ""]).encode("utf-8", "surrogateescape"))
    return path


def test_files_are_named_by_their_stems(tmp_path: Path):
    found = find_stems([tmp_path / "b.wav", tmp_path / "a.flac"])
    assert found.names == ("b", "a") and found.scale == 1


def test_a_folder_in_natural_order(tmp_path: Path):
    for name in ("stem 10.wav", "stem 2.wav", "Stem 1.flac", ".hidden.wav"):
        sound(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no sound")
    sound(tmp_path / "deeper" / "x.wav")
    assert find_stems([tmp_path]).names == ("Stem 1", "stem 2", "stem 10")
    assert not find_stems([tmp_path]).ledger
    ledger(tmp_path / "outputs.csv")
    assert find_stems([tmp_path]).ledger.endswith("outputs.csv")


def test_a_folder_without_sounds_and_mixed_kinds(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputNotFound, match="no sound files there"):
        find_stems([tmp_path / "empty"])
    for other in ("empty", "x.csv"):
        with pytest.raises(UsageError, match="stands alone"):
            find_stems([tmp_path / "a.wav", tmp_path / other])
    with pytest.raises(UsageError, match=r"--file x: belongs to an outputs.csv"):
        find_stems([tmp_path / "a.wav"], "x")


def test_outputs_csv_of_one_recording(tmp_path: Path):
    path = ledger(tmp_path / "outputs.csv", "x.wav,x_1.wav,1,-6.0", "x.wav,,2,", "x.wav,sub/x_r.wav,residual,-6.0")
    found = find_stems([path])
    assert found.paths == (tmp_path / "x_1.wav", tmp_path / "sub/x_r.wav") and found.names == ("1", "residual")
    assert found.scale == pytest.approx(10 ** (6 / 20))


def test_sources_that_separate_left_out_are_named(tmp_path: Path):
    columns = "file,output,source,gain_db,left_out"
    path = ledger(tmp_path / "outputs.csv", "x.wav,x_1.wav,1,0,2 3", columns=columns)
    assert find_stems([path]).left_out == "2 3"


def test_outputs_of_different_results_are_not_mixed(tmp_path: Path):
    columns = "file,output,source,gain_db,settings,file_sha256"
    for second, message in (("b,s", r"x_2\.wav was made with other settings than x_1\.wav"),
                            ("a,t", r"x_2\.wav was made from another x\.wav than x_1\.wav")):  # fmt: skip
        path = ledger(tmp_path / "outputs.csv", "x.wav,x_1.wav,1,0,a,s", f"x.wav,x_2.wav,2,0,{second}", columns=columns)
        with pytest.raises(BadInput, match=message):
            find_stems([path])
    # Chosen one after the other, by one method.
    rows = ("x.wav,x_1.wav,1,0,a,s,m", "x.wav,x_2.wav,2,0,b,s,m")
    path = ledger(tmp_path / "outputs.csv", *rows, columns=f"{columns},method")
    assert find_stems([path]).names == ("1", "2")


def test_outputs_csv_of_several_recordings(tmp_path: Path):
    path = ledger(tmp_path / "outputs.csv", "in/x.wav,x.wav,1,0", "in/y.wav,y.wav,1,0", "on/y.wav,y2.wav,1,0")
    with pytest.raises(UsageError, match=r"lists 3 recordings; choose one with --file: in/x.wav, in/y.wav, on/y.wav"):
        find_stems([path])
    for name in ("in/x.wav", "x.wav", "x"):
        assert find_stems([path], name).paths == (tmp_path / "x.wav",)
    assert find_stems([path], "on/y.wav").paths == (tmp_path / "y2.wav",)
    with pytest.raises(UsageError, match="fits 2 recordings"):
        find_stems([path], "y")
    with pytest.raises(UsageError, match=r"there are in/x.wav"):
        find_stems([path], "z")


def test_tables_of_shares_are_read_together_and_apart(tmp_path: Path):
    second = ledger(tmp_path / "outputs-2-of-3.csv", "x.wav,x_1.wav,1,-6", "x.wav,x_2.wav,2,-6", "y.wav,y_1.wav,1,0")
    whole = tmp_path / "outputs.csv"  # not there: no run has brought the shares together
    found = find_stems([whole], "x.wav")
    assert found.names == ("1", "2") and found.lacking == "no table of share 1, 3 of 3 yet"
    assert find_stems([second], "y").paths == (tmp_path / "y_1.wav",)
    with pytest.raises(UsageError, match=r"not in .*; there are x\.wav, y\.wav; no table of share 1, 3 of 3 yet"):
        find_stems([whole], "z.wav")
    # Another share, later, made one of them again with another gain: an output has one row, the last.
    third = ledger(tmp_path / "outputs-3-of-3.csv", "x.wav,x_1.wav,1,-3", "x.wav,x_2.wav,2,-3")
    os.utime(second, (1, 1))
    assert find_stems([whole], "x.wav").scale == pytest.approx(10 ** (3 / 20))
    assert find_stems([second, third], "x.wav").lacking == "no table of share 1 of 3 yet"
    ledger(tmp_path / "outputs-1-of-3.csv", "z.wav,z_1.wav,1,0")
    assert find_stems([whole], "z.wav").lacking == ""
    sound(tmp_path / "x_1.wav")
    assert find_stems([tmp_path]).ledger.endswith("outputs.csv")
    ledger(whole, "w.wav,w_1.wav,1,0")
    assert find_stems([whole], "w").names == find_stems([whole], "z").names == ("1",)
    with pytest.raises(UsageError, match="tables of several folders"):
        find_stems([whole, tmp_path / "other" / "outputs.csv"])


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ((), "file,output,source,gain_db", "no output is listed"),
        (("a,b",), "file,output", "no column 'source'; expected an outputs.csv"),
        (("a,b.wav,1,soft",), "file,output,source,gain_db", "gain_db of a is 'soft'"),
        (("a,b.wav,1,0", "a,c.wav,2,-1"), "file,output,source,gain_db", "gain_db of a is '-1', '0'"),
        (
            ("a,b.wav,1,0", "a,c.wav,2,0", "a,d/b.flac,1,0"),
            "file,output,source,gain_db",
            r"source 1 of a is listed twice, as b\.wav and d/b\.flac",
        ),
    ],
)
def test_broken_outputs_csv(tmp_path: Path, rows: tuple[str, ...], columns: str, message: str):
    with pytest.raises(BadInput, match=message):
        find_stems([ledger(tmp_path / "outputs.csv", *rows, columns=columns)])
    with pytest.raises(InputNotFound, match="no such file"):
        find_stems([tmp_path / "none.csv"])


def test_names_in_any_bytes(tmp_path: Path):
    name = os.fsdecode(b"\xff\xfe.wav")
    sound(tmp_path / name)
    found = find_stems([ledger(tmp_path / "outputs.csv", f"{name},{name},1,0")])
    assert check_stems(found.paths).frames == 10
    found.names[0].encode()
    find_stems([tmp_path]).names[0].encode()


def test_stems_must_agree(tmp_path: Path):
    first = sound(tmp_path / "a.wav")
    for other in (sound(tmp_path / "b.wav", rate=16_000), sound(tmp_path / "c.wav", 12, channels=2)):
        with pytest.raises(BadInput, match=f"{other.name}: .*stems must agree"):
            check_stems([first, other])
    assert check_stems([first, sound(tmp_path / "d.wav", 12)]).frames == 12


def test_automation_by_source(tmp_path: Path):
    path = tmp_path / "rides.csv"
    path.write_text("\ufefftime,source,gain\n0,1,-6\n0.5,bass,0\n2, 1 ,-inf\n3e0,1,+2\n", encoding="utf-8")
    found = read_automation(path)
    assert found == {"1": curve([(0, -6), (2, -math.inf), (3, 2)]), "bass": curve([(0.5, 0)])}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'time'"),
        ("time,source,gian\n", r"no column 'gain' \(did you mean 'gian'\?\)"),
        ("time,source,gain\n", "no line under the header"),
        ("time,source,gain\n0,1,0\n1,1,loud\n", "line 3: gain 'loud'; expected dB"),
        ("time,source,gain\n0,1,\n", "line 2: gain ''"),
        ("time,source,gain\n0,1\n", "rides.csv:2: 2 cells where the header names 3"),
        ("time,source,gain\n0,1,nan\n", "line 2: gain 'nan'"),
        ("time,source,gain\n0,1,inf\n", "line 2: gain inf; expected at most 120 dB"),
        ("time,source,gain\n1:30,1,0\n", "line 2: time '1:30'; expected seconds"),
        ("time,source,gain\n-1,1,0\n", "line 2: time -1; expected seconds from the start, 0 or more"),
        ("time,source,gain\n0,,0\n", "line 2: the source is empty"),
        ("time,source,gain\n2,1,0\n3,2,0\n1,1,0\n", "line 4: time 1 of source '1' comes after 2; sort"),
        ("time,source,gain\n2,1,0\n2,1,3\n", "line 3: time 2 of source '1' comes after 2; .*one line per time"),
    ],
)
def test_wrong_automation(tmp_path: Path, text: str, message: str):
    (tmp_path / "rides.csv").write_text(text)
    with pytest.raises(BadInput, match=message):
        read_automation(tmp_path / "rides.csv")


def test_no_automation_file(tmp_path: Path):
    with pytest.raises(InputNotFound, match="no such automation file"):
        read_automation(tmp_path / "none.csv")


def test_digits_that_are_no_numbers_are_letters() -> None:
    """Superscripts are digits to Python, and not numbers."""
    assert inputs.natural("²1") != inputs.natural("21") and layouts.natural("²1") != layouts.natural("21")
    assert sorted(["s10", "s2", "²1", "①"], key=inputs.natural) == ["s2", "s10", "²1", "①"]
