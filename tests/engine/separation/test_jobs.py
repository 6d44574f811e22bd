from __future__ import annotations

import os
from pathlib import Path

import pytest

from usepcli.engine.separation import inputs, jobs
from usepcli.errors import InputNotFound, OutputError, UsageError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def outputs(plan: list[jobs.Job], out: Path) -> list[str]:
    return [str(path.relative_to(out)) for job in plan for path in job.outputs]


def test_folders_keep_their_tree_and_skip_what_is_no_sound(tmp_path: Path):
    data, out = tmp_path / "in", tmp_path / "out"
    touch(
        data / "a" / "x.wav",
        data / "b" / "x.FLAC",
        data / "b" / "notes.txt",
        data / ".cache" / "y.wav",
        data / "b" / "._x.wav",
    )
    plan = jobs.plan(inputs.find_sources([data], out), out, 2)
    assert outputs(plan, out) == ["a/x_1.wav", "a/x_2.wav", "b/x_1.wav", "b/x_2.wav"]


def test_outputs_inside_the_input_folder_are_not_inputs_of_the_next_run(tmp_path: Path):
    touch(tmp_path / "x.wav", tmp_path / "out" / "x_1.wav")
    assert [s.path.name for s in inputs.find_sources([tmp_path], tmp_path / "out")] == ["x.wav"]


def test_patterns_and_repeated_files(tmp_path: Path):
    touch(tmp_path / "a1.wav", tmp_path / "a2.wav", tmp_path / "b.wav", tmp_path / "a.txt")
    found = inputs.find_sources([str(tmp_path / "a*"), tmp_path / "a1.wav"], tmp_path / "out")
    assert [s.path.name for s in found] == ["a1.wav", "a2.wav"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("rec/**/*.wav", ["a/x", "b/deep/x", "x"]),
        ("rec/*/x.wav", ["a/x"]),
        ("r?c/**/x.wav", ["rec/a/x", "rec/b/deep/x", "rec/x"]),
        ("rec/b/**/*", ["deep/x"]),
    ],
)
def test_patterns_keep_the_tree_below_what_they_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, expected: list[str]
):
    monkeypatch.chdir(tmp_path)
    touch(*(tmp_path / "rec" / name for name in ("x.wav", "a/x.wav", "b/deep/x.wav", "b/notes.txt")))
    for given in (pattern, str(tmp_path / pattern)):
        found = inputs.find_sources([given], tmp_path / "out")
        assert sorted(str(source.relative) for source in found) == expected
        assert len(jobs.plan(found, tmp_path / "out", 2)) == len(expected)


def test_a_pattern_goes_down_no_loop_of_links_and_takes_no_folder_for_a_file(tmp_path: Path):
    touch(tmp_path / "rec/in/x.wav", tmp_path / "rec/d.wav/y.wav")
    for name in ("one", "two"):
        (tmp_path / "rec/in" / name).symlink_to("..")
    found = inputs.find_sources([str(tmp_path / "rec/**/*.wav")], tmp_path / "out")
    assert [str(source.relative) for source in found] == ["d.wav/y", "in/x"]
    touch(tmp_path / "rec/z.wav")
    assert [s.path.name for s in inputs.find_sources([str(tmp_path / "rec/*.wav")], tmp_path / "out")] == ["z.wav"]
    assert len(inputs.find_sources([str(tmp_path / "rec/**")], tmp_path / "out")) == 3
    with pytest.raises(InputNotFound, match=r"a \[ that is part of a name is written \[\[\]"):
        inputs.find_sources([str(tmp_path / "rec [1]/*.wav")], tmp_path / "out")


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path):
    out, paths = tmp_path / "out", [tmp_path / name for name in ("a/x.wav", "b/x.wav")]
    touch(*paths)
    sources = inputs.find_sources(paths, out)
    with pytest.raises(OutputError, match=r"or --name '\{folder\}_\{stem\}_\{i\}'"):
        jobs.plan(sources, out, 1)
    assert outputs(jobs.plan(sources, out, 1, name="{folder}_{stem}_{i}"), out) == ["a_x_1.wav", "b_x_1.wav"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path):
    touch(tmp_path / "take[1].wav")
    found = inputs.find_sources([str(tmp_path / "take[1].wav")], tmp_path / "out")
    assert found[0].relative == Path("take[1]")


@pytest.mark.parametrize("what", ["empty", "none*.wav"])
def test_a_folder_or_pattern_without_sound_files_is_a_mistake(tmp_path: Path, what: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputNotFound, match="no sound files there"):
        inputs.find_sources([str(tmp_path / what)], tmp_path / "out")


def test_links_that_lead_round_in_circles_end(tmp_path: Path):
    touch(tmp_path / "in" / "x.wav")
    os.symlink(tmp_path / "in", tmp_path / "in" / "again")
    assert len(inputs.find_sources([tmp_path / "in"], tmp_path / "out")) == 1


@pytest.mark.parametrize("names", [("a/x.wav", "b/x.wav"), ("x.wav", "x.flac"), ("x.wav", "sub/X.wav")])
def test_two_files_for_one_name_are_refused_before_any_work(tmp_path: Path, names: tuple[str, str]):
    paths = [tmp_path / name for name in names]
    touch(*paths)
    with pytest.raises(OutputError, match="would be written for both"):
        jobs.plan(inputs.find_sources(paths, tmp_path / "out"), tmp_path / "out", 2)
    assert not (tmp_path / "out").exists()


def test_existing_outputs_are_refused_unless_asked_for(tmp_path: Path):
    out = tmp_path / "out"
    touch(tmp_path / "x.wav", out / "x_2.wav")
    sources = inputs.find_sources([tmp_path / "x.wav"], out)
    with pytest.raises(OutputError, match=r"x_2\.wav: exists already"):
        jobs.plan(sources, out, 2)
    assert len(jobs.plan(sources, out, 2, overwrite=True)) == 1


@pytest.mark.parametrize("link", [False, True])
def test_an_input_is_never_overwritten(tmp_path: Path, link: bool):
    touch(tmp_path / "x.wav", tmp_path / "x_1.wav")
    source = tmp_path / "x_1.wav"
    if link:
        source.unlink()
        os.symlink(tmp_path / "x.wav", source)
    with pytest.raises(OutputError, match="input is never overwritten"):
        jobs.plan(inputs.find_sources([tmp_path / "x.wav", source], tmp_path), tmp_path, 2, overwrite=True)


@pytest.mark.parametrize(
    "name", ["{stem}", "fixed", "{i}/{stem}", "../{stem}{i}", "{stem}_{k}", "{i", "{i.__class__}", "{0}_{i}"]
)
def test_bad_templates(tmp_path: Path, name: str):
    with pytest.raises(UsageError, match="--name"):
        jobs.plan([inputs.Source(tmp_path / "x.wav", Path("x"))], tmp_path / "out", 2, name=name)


def test_template_and_format(tmp_path: Path):
    plan = jobs.plan([inputs.Source(tmp_path / "x.wav", Path("x"))], tmp_path, 2, name="{i:02d} of {stem}", form="flac")
    assert outputs(plan, tmp_path) == ["01 of x.flac", "02 of x.flac"]


def test_one_stem_with_two_suffixes_is_told_apart_by_ext(tmp_path: Path):
    touch(tmp_path / "in" / "x.wav", tmp_path / "in" / "x.mp3")
    sources, out = inputs.find_sources([tmp_path / "in"], tmp_path / "out"), tmp_path / "out"
    with pytest.raises(OutputError, match=r"x\.mp3 and .*x\.wav; .*\{ext\}"):
        jobs.plan(sources, out, 1)
    plan = jobs.plan(sources, out, 1, name="{stem}.{ext}_{i}")
    assert outputs(plan, out) == ["x.mp3_1.wav", "x.wav_1.wav"]


@pytest.mark.parametrize("name", ["{stem}{i!s:.0}", "{stem}_{i:.0e}"])
def test_a_template_that_names_two_sources_alike_is_refused(tmp_path: Path, name: str):
    with pytest.raises(UsageError, match="gives two sources one name"):
        jobs.plan([inputs.Source(tmp_path / "x.wav", Path("x"))], tmp_path / "out", 21, name=name)


def test_formats_and_sample_formats_are_checked_before_any_work(tmp_path: Path):
    source = [inputs.Source(tmp_path / "x.wav", Path("x"))]
    with pytest.raises(UsageError, match=r"\.mp3 files hold MPEG_LAYER_III only"):
        jobs.plan(source, tmp_path, 2, form="mp3", subtype="PCM_24")
    with pytest.raises(UsageError, match=r"unknown format 'wave' \(did you mean 'wav'"):
        jobs.plan(source, tmp_path, 2, form="wave")
    with pytest.raises(UsageError, match="cannot hold FLOAT"):
        jobs.plan(source, tmp_path, 2, form="flac", subtype="FLOAT")


def test_an_output_folder_that_is_a_file_is_refused(tmp_path: Path):
    touch(tmp_path / "x.wav", tmp_path / "out")
    with pytest.raises(OutputError, match="cannot be made"):
        jobs.plan(inputs.find_sources([tmp_path / "x.wav"], tmp_path / "out"), tmp_path / "out" / "deeper", 2)


def test_lists_hold_names_in_any_bytes():
    assert inputs.read_list(b"a.wav\r\n\n-b \xff.wav\nlast") == ["a.wav", "-b \udcff.wav", "last"]
    assert inputs.read_list(b"two\nlines.wav\0\0x\0", null=True) == ["two\nlines.wav", "x"]
    assert inputs.read_list(b"") == []


def test_standard_input_has_a_name_of_its_own(tmp_path: Path):
    (found,) = inputs.find_sources(["-"], tmp_path, stdin=tmp_path / "copy.wav")
    (job,) = jobs.lay_out([found], tmp_path, ["1", "residual"])
    assert job.file == "-" and job.source == tmp_path / "copy.wav"
    assert outputs([job], tmp_path) == ["stdin_1.wav", "stdin_residual.wav"]


def test_chosen_sources():
    names = ("1", "2", "3", "residual")
    assert jobs.choose(names, "") == names and jobs.choose(names, " 3,1") == ("1", "3", "residual")
    for wrong in ("4", "0", "1,,2", "residual", "1;2"):
        with pytest.raises(UsageError, match="--keep"):
            jobs.choose(names, wrong)
    named = ("drums", "bass", "residual")
    assert jobs.choose(named, "bass") == ("bass", "residual")
    with pytest.raises(UsageError, match="--keep 1: found '1'; expected names of sources: drums, bass"):
        jobs.choose(named, "1")


def test_an_input_is_known_under_its_other_names(tmp_path: Path):
    touch(tmp_path / "x.wav")
    os.link(tmp_path / "x.wav", tmp_path / "x_1.wav")
    sources = inputs.find_sources([tmp_path / "x.wav"], tmp_path)
    with pytest.raises(OutputError, match=r"x_1\.wav: is an input"):
        jobs.plan(sources, tmp_path, 2, overwrite=True)


def test_own_outputs_may_be_replaced_and_others_are_explained(tmp_path: Path):
    touch(tmp_path / "x.wav", tmp_path / "out" / "x_1.wav", tmp_path / "out" / "x_2.wav")
    sources = inputs.find_sources([tmp_path / "x.wav"], tmp_path / "out")
    (job,) = jobs.lay_out(sources, tmp_path / "out", 2)
    known = {jobs.identity(source.path) for source in sources}
    jobs.refuse_outputs(job, False, known, set(job.outputs))
    with pytest.raises(OutputError, match=r"x_2\.wav: exists already, made by hand; choose"):
        jobs.refuse_outputs(job, False, known, {job.outputs[0]}, lambda _: ", made by hand")


def test_an_output_that_several_want_is_the_first_ones_or_that_of_the_one_who_has_it(tmp_path: Path):
    paths = [tmp_path / name for name in ("a/x.wav", "b/x.wav", "c/X.wav", "d/y.wav")]
    touch(*paths)
    plan = jobs.lay_out(inputs.find_sources(paths, tmp_path / "out"), tmp_path / "out", 2)
    wanted = jobs.rivals(plan)
    assert len(wanted) == 2  # x_1.wav and x_2.wav, in whatever case

    def refused(done: tuple[str, ...]) -> list[str]:
        found = []
        for job in plan:
            try:
                jobs.refuse_rival(job, wanted, lambda one: one.source.parent.name in done)
            except OutputError:
                found.append(job.source.parent.name)
        return found

    assert refused(()) == ["b", "c"] and refused(("b",)) == ["a", "c"] and refused(("d",)) == ["b", "c"]
