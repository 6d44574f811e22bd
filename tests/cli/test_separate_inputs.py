"""What `usep separate` takes for a recording, and what it does when one of several cannot be separated."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usepcli.audio import io

Usep = Callable[..., Any]


@pytest.fixture
def usep(separating: Usep) -> Usep:
    return separating


def sound(*names: str, seconds: float = 0.05) -> None:
    for seed, name in enumerate(names):
        io.write(name, 0.1 * np.random.default_rng(seed).standard_normal(round(8000 * seconds)), 8000, overwrite=True)


def table(path: str) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def sounds(folder: str) -> list[str]:
    return sorted(str(path) for path in Path(folder).rglob("*.wav"))


def expanded(folder: str = ".") -> list[str]:
    """What a shell makes of *.wav, or find of a tree."""
    return sorted(str(path) for path in Path(folder).rglob("*.wav"))


def test_outputs_named_by_an_expanded_pattern_are_skipped_and_said_so(usep: Usep):
    sound("a.wav")
    assert usep(*expanded(), "-o", ".").code == 0
    for _ in range(2):
        answer = usep(*expanded(), "-o", ".")
        assert answer.code == 0 and sounds(".") == ["a.wav", "a_1.wav", "a_2.wav"]
        assert "2 inputs are outputs of earlier runs (outputs.csv), skipped; to separate one" in answer.err.replace(
            f"{os.getcwd()}/", ""
        )


def test_outputs_in_a_list_are_skipped_whatever_folder_they_were_written_to(usep: Usep):
    sound("p/a.wav", "p/deep/b.wav")
    # With other names, other settings, a residual and a page: all of it is usep's own.
    assert usep("p", "-o", "p/first", "--residual", "--report").code == 0
    assert usep("p", "-o", "p/deep/second", "--name", "{i}-{stem}", "--clip", "allow").code == 0
    assert len(sounds("p")) == 2 + 6 + 4
    Path("list").write_bytes(b"".join(os.fsencode(path) + b"\0" for path in expanded("p")))
    for words in (["--files-from", "list", "-0"], ["p"], ["p/**/*.wav"], [*expanded("p")]):
        answer = usep(*words, "-o", "other")
        assert answer.code == 0 and {row["file"] for row in table("other/outputs.csv")} == {"p/a.wav", "p/deep/b.wav"}
        assert "10 inputs are outputs of earlier runs (" in answer.err and " and 1 more)" in answer.err
        assert "outputs of earlier" not in usep(*words, "-o", "other", "-q").err
        shutil.rmtree("other")


@pytest.mark.parametrize("kind", ["share", "killed", "link", "parent"])
def test_outputs_are_known_by_every_kind_of_table_and_through_links(usep: Usep, kind: str):
    sound("rec/a.wav")
    words = ["--shard", "1/1"] if kind == "share" else []
    assert usep("rec/a.wav", "-o", "rec/out", *words).code == 0
    look = "rec"
    if kind == "killed":
        os.remove("rec/out/outputs.csv")
        Path("rec/out/.usep.pending").write_text('["a_1.wav", "a_2.wav"]')
    elif kind == "link":
        Path("seen").mkdir()
        os.symlink("../rec/a.wav", "seen/a.wav")
        for name in ("a_1.wav", "a_2.wav"):
            os.symlink(f"../rec/out/{name}", f"seen/link_{name}")
        look = "seen"
    elif kind == "parent":
        assert usep("rec", "-o", "top").code == 0  # top/a_1.wav
        sound("top/sub/a.wav")
        assert usep("top", "-o", "top").code == 0  # top/sub/a_1.wav, named in the folder above
        look = "top/sub"
    answer = usep(*expanded(look), "-o", "new")
    assert answer.code == 0 and len(table("new/outputs.csv")) == 2, answer.err
    assert {os.path.basename(row["file"]) for row in table("new/outputs.csv")} == {"a.wav"}


def test_the_sound_of_a_page_is_no_recording(usep: Usep):
    sound("p/a.wav")
    assert usep("p", "-o", "p/out", "--report").code == 0
    sound("p/out/report_media/mixture.wav", "p/my_media/song.wav")  # beside report.html, and beside no page
    assert usep(*expanded("p"), "-o", "new").code == 0
    assert {row["file"] for row in table("new/outputs.csv")} == {"p/a.wav", "p/my_media/song.wav"}


def test_one_output_named_alone_is_separated_again_into_another_folder_only(usep: Usep):
    sound("a.wav")
    assert usep("a.wav", "-o", "out").code == 0
    again = usep("out/a_1.wav", "-o", "again")
    assert again.code == 0 and "out/a_1.wav: an output of an earlier run (" in again.err
    assert sounds("again") == ["again/a_1_1.wav", "again/a_1_2.wav"]
    for words in (["out/a_1.wav", "-o", "out"], ["out", "-o", "new"], ["out/a_1.wav", "out/a_2.wav", "-o", "new"]):
        answer = usep(*words)  # as in `for f in *.wav; do usep separate "$f" -o out; done`
        assert answer.code == 66 and answer.err.count("\n") == 1 and "name it alone with another -o" in answer.err
    Path("list").write_text("out/a_1.wav\n")
    assert usep("--files-from", "list", "-o", "new").code == 66 and not Path("new").exists()
    shutil.copytree("out", "copy")
    os.remove("copy/outputs.csv")
    assert usep("copy", "-o", "new").code == 0  # no table, no output


def test_a_table_of_another_program_names_no_outputs(usep: Usep):
    sound("in/a.wav")
    Path("outputs.csv").write_text("output,score\nin/a.wav,1\n")
    Path("in/outputs-1-of-2.csv").write_bytes(b"\xff\0,\n")
    answer = usep("in", "-o", "out")
    assert answer.code == 0 and len(table("out/outputs.csv")) == 2


def test_a_changed_input_stops_no_other_and_is_made_again_by_overwrite(usep: Usep):
    sound(*(f"in/{name}.wav" for name in "abc"))
    assert usep("in", "-o", "out").code == 0
    before = {path: Path(path).stat().st_mtime_ns for path in sounds("out")}
    sound("in/b.wav", seconds=0.07)
    sound("in/d.wav")
    answer = usep("in", "-o", "out", "--json")
    assert answer.code == 4 and "b_1.wav: exists already, made from an earlier in/b.wav; choose" in answer.err
    assert "1 of 4 files failed" in answer.err and "with --overwrite also the 1 whose outputs exist" in answer.err
    assert [(row["file"], row["code"]) for row in table("out/errors.csv")] == [("in/b.wav", "73")]
    assert len(answer.out.splitlines()) == 3 and Path("out/d_1.wav").exists()
    assert all(Path(path).stat().st_mtime_ns == time for path, time in before.items())
    assert usep("in", "-o", "out", "--overwrite").code == 0
    new = {path: Path(path).stat().st_mtime_ns for path in before}
    assert {path for path in before if new[path] != before[path]} == {"out/b_1.wav", "out/b_2.wav"}
    assert not Path("out/errors.csv").exists() and len(table("out/outputs.csv")) == 8


def test_where_nothing_can_be_done_nothing_is_written(usep: Usep):
    sound("in/a.wav", "in/b.wav")
    assert usep("in", "-o", "out").code == 0
    answer = usep("in", "-o", "out", "--clip", "allow")
    assert answer.code == 73 and answer.err.count("\n") == 1 and "none of the 2 files can be done" in answer.err
    assert not Path("out/errors.csv").exists()


def test_an_output_that_would_hit_an_input_is_refused_alone(usep: Usep):
    sound("a.wav", "a_1.wav", "c.wav")
    before = Path("a_1.wav").read_bytes()
    answer = usep("a.wav", "a_1.wav", "c.wav", "-o", ".", "--overwrite")
    assert answer.code == 4 and "a_1.wav: is an input" in answer.err and Path("a_1.wav").read_bytes() == before
    assert {row["file"] for row in table("outputs.csv")} == {"a_1.wav", "c.wav"}


def test_the_one_that_has_an_output_keeps_it(usep: Usep):
    sound("a/x.wav", "b/x.wav", "y.wav")
    assert usep("b/x.wav", "-o", "out").code == 0
    answer = usep("a/x.wav", "b/x.wav", "y.wav", "-o", "out", "--overwrite")
    assert answer.code == 4 and "would be written for both b/x.wav and a/x.wav" in answer.err
    assert {row["file"] for row in table("out/outputs.csv")} == {"b/x.wav", "y.wav"}


def test_inputs_that_hold_nothing_stop_no_others(usep: Usep):
    sound("a.wav", "full/b.wav")
    Path("empty.wav").mkdir()
    os.mkfifo("pipe.wav")
    os.symlink("nowhere.wav", "dangling.wav")
    answer = usep("a.wav", "empty.wav", "none*.wav", "pipe.wav", "dangling.wav", "/dev/null", "full", "-o", "out")
    assert answer.code == 4 and "5 of 7 files failed" in answer.err, answer.err
    assert {row["file"]: row["code"] for row in table("out/errors.csv")} == {
        "empty.wav": "66", "none*.wav": "66", "pipe.wav": "65", "dangling.wav": "66", "/dev/null": "65",
    }  # fmt: skip
    assert {row["file"] for row in table("out/outputs.csv")} == {"a.wav", "full/b.wav"}
    sound("empty.wav/c.wav", "none1.wav")
    again = usep("a.wav", "empty.wav", "none*.wav", "-o", "out")
    assert again.code == 0, again.err
    assert {row["file"] for row in table("out/errors.csv")} == {"pipe.wav", "dangling.wav", "/dev/null"}


def test_a_dry_run_lists_what_can_be_done_and_says_what_cannot(usep: Usep):
    sound("a.wav", "b.wav")
    assert usep("a.wav", "-o", "out", "--clip", "allow").code == 0
    answer = usep("a.wav", "b.wav", "-o", "out", "--dry-run", "--json")
    assert answer.code == 4 and '"b.wav"' in answer.out and '"a.wav"' not in answer.out
    assert "a_1.wav: exists already, made with other settings" in answer.err


def test_files_that_only_a_missing_package_reads_stop_no_others(usep: Usep, monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    sound("a.wav")
    Path("film.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    answer = usep("a.wav", "film.mp4", "-o", "out")
    assert answer.code == 4 and [row["code"] for row in table("out/errors.csv")] == ["69"]
    assert usep("film.mp4", "-o", "new").code == 69 and not Path("new").exists()


@pytest.mark.parametrize(
    ("data", "null", "says"),
    [
        (b"a.wav\0b.wav\0", False, "-0"),
        (b"a.wav\nb.wav\n", True, "leave -0 out"),
        ("a.wav\nb.wav\n".encode("utf-16"), False, "UTF-8"),
    ],
)
def test_a_list_of_the_other_kind_is_told(usep: Usep, data: bytes, null: bool, says: str):
    sound("a.wav", "b.wav")
    Path("list").write_bytes(data)
    answer = usep("--files-from", "list", *(["-0"] if null else []), "-o", "out")
    assert answer.code == 2 and answer.err.startswith("usep: error: --files-from list: holds ") and says in answer.err
    assert answer.err.count("\n") == 1 and not Path("out").exists()


def test_an_empty_text_is_not_the_whole_folder(usep: Usep):
    sound("a.wav")
    answer = usep("", "-o", "out")
    assert answer.code == 2 and "an input is an empty text" in answer.err and not Path("out").exists()


@pytest.mark.parametrize(
    "wrong", [["--threads", "100000"], ["--threads", "-1"], ["--threads", "1e3"], ["--chunk-s", "1e300"]]
)
def test_numbers_out_of_all_range_are_wrong_usage(usep: Usep, wrong: list[str]):
    sound("a.wav")
    answer = usep("a.wav", "-o", "out", *wrong)
    assert answer.code == 2 and wrong[0] in answer.err and not Path("out").exists()


def test_a_rate_that_no_recording_has_is_a_fault_of_its_file(usep: Usep):
    sound("a.wav", "b.wav", "c.wav")
    for name, rate in (("b.wav", 1), ("c.wav", 10_000_000)):
        data = bytearray(Path(name).read_bytes())
        data[24:28] = rate.to_bytes(4, "little")
        Path(name).write_bytes(data)
    answer = usep("a.wav", "b.wav", "c.wav", "-o", "out")
    assert answer.code == 4 and "b.wav: a sample rate of 1 Hz; expected 500 to 4000000" in answer.err
    assert "c.wav: a sample rate of 10000000 Hz" in answer.err
    assert {row["file"] for row in table("out/outputs.csv")} == {"a.wav"}


@pytest.mark.parametrize("error", [MemoryError, RecursionError, PermissionError(13, "Permission denied"), SystemError])
def test_whatever_one_file_raises_stops_no_other(usep: Usep, monkeypatch: pytest.MonkeyPatch, error: Any):
    from usepcli.separator.separator import Separator

    whole = Separator.file

    def file(self: Separator, path: Path, *more: Any) -> Any:
        for k, piece in enumerate(whole(self, path, *more)):
            if path.name == "b.wav" and k == 0:
                raise error
            yield piece

    monkeypatch.setattr(Separator, "file", file)
    sound("a.wav", "b.wav", "c.wav")
    answer = usep("a.wav", "b.wav", "c.wav", "-o", "out", "--report")
    assert answer.code == 4 and answer.err.count("usep: error: b.wav: ") == 1
    assert {row["file"] for row in table("out/outputs.csv")} == {"a.wav", "c.wav"}
    assert Path("out/c_report.html").exists() and not list(Path("out").glob(".*"))


def test_a_file_that_goes_while_others_are_separated_is_a_fault_of_its_own(usep: Usep, monkeypatch: pytest.MonkeyPatch):
    from usepcli.separator.separator import Separator

    whole = Separator.file

    def file(self: Separator, path: Path, *more: Any) -> Any:
        if path.name == "a.wav":
            os.remove("b.wav")
        yield from whole(self, path, *more)

    monkeypatch.setattr(Separator, "file", file)
    sound("a.wav", "b.wav", "c.wav")
    answer = usep("a.wav", "b.wav", "c.wav", "-o", "out")
    assert answer.code == 4 and "b.wav: no such file" in answer.err and len(table("out/outputs.csv")) == 4


def test_empty_standard_input_stops_no_file(usep: Usep, monkeypatch: pytest.MonkeyPatch):
    import io as streams
    import sys

    monkeypatch.setattr(sys, "stdin", streams.TextIOWrapper(streams.BytesIO(b"")))
    sound("a.wav")
    answer = usep("-", "a.wav", "-o", "out")
    assert answer.code == 4 and "standard input: is empty" in answer.err and len(table("out/outputs.csv")) == 2
    assert [row["file"] for row in table("out/errors.csv")] == ["-"]


def test_what_the_model_is_for_is_said_once_where_something_is_separated(usep: Usep):
    sound("a.wav", "b.wav")
    answer = usep("a.wav", "b.wav", "-o", "out")
    assert answer.err.count("model toy.safetensors: The card of this model does not say what it was trained for") == 1
    assert "model toy" not in usep("a.wav", "b.wav", "-o", "out").err + usep("a.wav", "-o", "new", "-q").err


def test_bars_tell_which_file_of_how_many_and_the_time_left_for_all(usep: Usep, monkeypatch: pytest.MonkeyPatch):
    from usepcli.report import progress

    monkeypatch.setattr(progress.Progress.__init__, "__defaults__", (None, None, "", "item", False, None, 0.0))
    sound("a.wav", "b.wav", seconds=0.5)
    said = usep("a.wav", "b.wav", "-o", "out").err
    assert "[1/2] a.wav: 1/1 block" in said and "[2/2] b.wav: 1/1 block" in said and "all files: " in said


def test_bars_move_inside_a_block_of_many_channels(usep: Usep, monkeypatch: pytest.MonkeyPatch):
    from usepcli.report import progress

    monkeypatch.setattr(progress.Progress.__init__, "__defaults__", (None, None, "", "item", False, None, 0.0))
    io.write("a.wav", 0.1 * np.random.default_rng(0).standard_normal((20, 4000)), 8000, "FLOAT")
    answer = usep("a.wav", "-o", "out", "--channels", "each")
    assert answer.code == 0 and "channel 8 of 20" in answer.err and "channel 16 of 20" in answer.err
    total = sum(io.read(f"out/a_{i}.wav")[0] for i in (1, 2))
    np.testing.assert_allclose(total, io.read("a.wav")[0], atol=1e-6)


def test_words_complete_and_hidden_ones_are_not_offered(usep: Usep):
    from usepcli.cli import app

    options = {name: p for p in app.command("separate").params for name in p.opts}

    def words(option: str) -> list[str]:
        from typer._click.core import Context  # type: ignore[import-not-found]

        found = options[option].shell_complete(Context(app.command("separate")), "")
        return sorted(item.value for item in found)

    assert words("--channels") == ["each", "first", "linked", "mix"] and words("--rest") == ["leave", "share"]
    assert words("--sources") == ["all", "auto"] and words("--clip") == ["allow", "error", "gain"]
    sound("a.wav")
    for wrong in ("source", "none"):
        answer = usep("a.wav", "-o", "out", "--rest", wrong)
        assert answer.code == 2 and "choose from: leave, share; --residual writes it" in answer.err
