"""A batch with its tables: what is done, what is refused, what a kill leaves, and shares that come together."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from usepcli.audio import io
from usepcli.engine.separation import batch, inputs, jobs
from usepcli.engine.separation.jobs import Job
from usepcli.engine.separation.ledger import Ledger
from usepcli.engine.separation.record import Record
from usepcli.engine.separation.separate_files import Wish
from usepcli.engine.shards import Shard
from usepcli.errors import BadInput, IOFault, OutputError
from usepcli.files import sha256
from usepcli.models.separator import SeparationModel
from usepcli.separator.separator import How, Separator

KEY = "0123"


class Halver(SeparationModel):
    """The input in two halves, or all of it in the first output where it is loud at the start."""

    def __init__(self) -> None:
        super().__init__(n_src=2, sample_rate=8000, hop=1)

    def estimate(self, mix: Tensor) -> Tensor:
        share = mix.new_tensor([1.0, 0.0] if float(mix[0, 0]) > 0.5 else [0.5, 0.5])
        return mix[:, None] * share[:, None]


class Quarterer(Halver):
    """The input in four parts."""

    def __init__(self) -> None:
        SeparationModel.__init__(self, n_src=4, sample_rate=8000, hop=1)

    def estimate(self, mix: Tensor) -> Tensor:
        return mix[:, None] * mix.new_tensor([0.25] * 4)[:, None]


SEPARATOR, QUARTERER = Separator(Halver(), chunk_s=4), Separator(Quarterer(), chunk_s=4)


def sound(path: Path, seconds: float = 0.5, level: float = 0.1, seed: int = 0) -> Path:
    wave = level * np.sin(np.arange(round(8000 * seconds)) * (0.1 + 0.01 * seed)) + 0.01
    io.write(path, wave.astype(np.float32), 8000, overwrite=True)
    return path


def layout(folder: Path, *names: str, **more: object) -> tuple[list[Job], list[inputs.Source]]:
    sources = inputs.find_sources([folder / name for name in names], folder / "out")
    return jobs.lay_out(sources, folder / "out", 2, **more), sources  # type: ignore[arg-type]


def work(
    folder: Path, *names: str, key: str = KEY, shard: Shard | None = None, overwrite: bool = False,
    sources: str = "all", resume: bool = True, n_src: int = 2, keep: tuple[str, ...] = (), method: str = "",
) -> tuple[list[Record], list[Record], list[str]]:  # fmt: skip
    """Do a batch as the command does it; return what was done before, what was done now, and what failed."""
    sound = inputs.find_sources([folder / name for name in names], folder / "out")
    everyone = jobs.lay_out(sound, folder / "out", keep or n_src)
    plan = shard.of(everyone) if shard else everyone
    with Ledger(folder / "out", shard) as ledger:
        found = batch.triage(ledger, plan, key, sound, everyone=everyone, resume=resume, overwrite=overwrite,
                             method=method)  # fmt: skip
        if fault := found.nothing():
            raise fault
        faults = [job.source.name for job, _ in found.refused]
        wish = Wish(sources=sources, settings=key, method=method, replace=lambda path: overwrite or path in found.ours)
        model = SEPARATOR if n_src == 2 else QUARTERER
        run = batch.run(model, found.todo, ledger, wish, failed=lambda job, _: faults.append(job.source.name))
        return found.done, list(run), faults


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def names(records: list[Record]) -> list[str]:
    return [record.source.name for record in records]


def test_the_row_of_an_output_holds_what_a_reader_can_check(tmp_path: Path):
    sound(tmp_path / "a.wav", 10)
    work(tmp_path, "a.wav")
    out = tmp_path / "out"
    rows = table(out / "outputs.csv")
    assert [(r["output"], r["source"]) for r in rows] == [("a_1.wav", "1"), ("a_2.wav", "2")]
    wave = io.read(out / "a_2.wav")[0]
    row = rows[1]
    assert row["file"] == str(tmp_path / "a.wav") and row["sha256"] == sha256(out / "a_2.wav")
    assert int(row["bytes"]) == (out / "a_2.wav").stat().st_size and float(row["seconds"]) == 10.0
    assert (row["frames"], row["rate"], row["channels"], row["subtype"]) == ("80000", "8000", "1", "PCM_16")
    assert float(row["peak"]) == pytest.approx(np.abs(wave).max(), abs=2e-5)
    assert float(row["level_db"]) == pytest.approx(10 * math.log10((wave**2).mean()), abs=0.06)
    assert row["active"] == "true" and float(row["activity"]) == 1.0 and float(row["null_db"]) < -120
    seams = table(out / "seams.csv")
    assert [float(s["time_s"]) for s in seams] == [3.0, 6.0] and {s["order"] for s in seams} <= {"1 2", "2 1"}
    assert not (out / "errors.csv").exists() and sorted(p.name for p in out.iterdir()) == [
        "a_1.wav", "a_2.wav", "outputs.csv", "seams.csv",
    ]  # fmt: skip


def test_the_second_run_does_only_what_is_missing(tmp_path: Path):
    for k in range(4):
        sound(tmp_path / f"{k}.wav", seed=k)
    files = [f"{k}.wav" for k in range(4)]
    work(tmp_path, *files[:2])
    before = (tmp_path / "out" / "0_1.wav").stat().st_mtime_ns
    (tmp_path / "out" / "1_2.wav").unlink()
    done, new, _ = work(tmp_path, *files)
    assert names(done) == ["0.wav"] and names(new) == ["1.wav", "2.wav", "3.wav"]
    assert (tmp_path / "out" / "0_1.wav").stat().st_mtime_ns == before
    rows = [row["output"] for row in table(tmp_path / "out" / "outputs.csv")]
    assert sorted(rows) == sorted(f"{k}_{i}.wav" for k in range(4) for i in (1, 2))  # each of them once
    again, new, _ = work(tmp_path, *files)
    assert names(again) == files and not new
    first = again[0]
    assert first.resumed and first.frames == 4000 and first.written[0].sha256 == sha256(tmp_path / "out" / "0_1.wav")
    assert not work(tmp_path, *files, resume=False, overwrite=True)[0]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("settings", "exists already, made with other settings; choose"),
        ("input", r"exists already, made from an earlier .*0\.wav; choose"),
        ("output", "exists already, changed since it was written; choose"),
        ("foreign", "exists already; choose"),
    ],
)
def test_what_is_not_this_runs_own_is_refused_and_stops_no_other(tmp_path: Path, change: str, why: str):
    sound(tmp_path / "0.wav"), sound(tmp_path / "1.wav")
    work(tmp_path, "0.wav")
    out, key = tmp_path / "out", KEY
    if change == "settings":
        key = "other"
    elif change == "input":
        sound(tmp_path / "new.wav", 0.7)
        os.replace(tmp_path / "new.wav", tmp_path / "0.wav")
    elif change == "output":
        with open(out / "0_1.wav", "ab") as file:
            file.write(b"more")
    else:
        (out / "outputs.csv").unlink()
    before = (out / "0_1.wav").read_bytes()
    with pytest.raises(OutputError, match=why):
        work(tmp_path, "0.wav", key=key)
    _, new, faults = work(tmp_path, "1.wav", "0.wav", key=key)
    assert names(new) == ["1.wav"] and faults == ["0.wav"] and (out / "0_1.wav").read_bytes() == before
    assert names(work(tmp_path, "0.wav", key=key, overwrite=True)[1]) == ["0.wav"]
    rows = table(out / "outputs.csv")
    assert [row["settings"] for row in rows if row["output"].startswith("0")] == [key] * 2


def test_another_input_of_the_same_size_and_time_is_another_input(tmp_path: Path):
    sound(tmp_path / "a" / "x.wav"), sound(tmp_path / "b" / "x.wav", seed=5)
    os.utime(tmp_path / "a" / "x.wav", (1, 1)), os.utime(tmp_path / "b" / "x.wav", (1, 1))
    work(tmp_path, "a/x.wav")
    with pytest.raises(OutputError, match="made from an earlier"):
        work(tmp_path, "b/x.wav")
    os.utime(tmp_path / "a" / "x.wav", (2, 2))  # touched or copied, but the same bytes
    assert names(work(tmp_path, "a/x.wav")[0]) == ["x.wav"]


def test_failures_are_named_until_they_are_mended(tmp_path: Path):
    sound(tmp_path / "a.wav"), (tmp_path / "b.wav").write_text("no sound")
    _, new, faults = work(tmp_path, "b.wav", "a.wav")
    assert names(new) == ["a.wav"] and faults == ["b.wav"]
    (row,) = table(tmp_path / "out" / "errors.csv")
    assert row["file"] == str(tmp_path / "b.wav") and row["code"] == "65" and "b.wav" in row["error"]
    sound(tmp_path / "b.wav")
    done, new, faults = work(tmp_path, "b.wav", "a.wav")
    assert names(done) == ["a.wav"] and names(new) == ["b.wav"] and not faults
    assert not (tmp_path / "out" / "errors.csv").exists()


def test_near_silent_sources_are_left_out_and_the_file_is_done(tmp_path: Path):
    io.write(tmp_path / "a.wav", np.full(4000, 0.6, np.float32), 8000)
    (record,) = work(tmp_path, "a.wav", sources="auto")[1]
    assert record.left_out == ["2"] and [t.active for t in record.tracks] == [True, False]
    assert not (tmp_path / "out" / "a_2.wav").exists()
    (row,) = table(tmp_path / "out" / "outputs.csv")
    assert row["left_out"] == "2"
    done, new, _ = work(tmp_path, "a.wav", sources="auto")
    assert names(done) == ["a.wav"] and not new and done[0].left_out == ["2"]


def test_what_an_earlier_run_wrote_for_a_source_that_is_left_out_now_goes(tmp_path: Path):
    io.write(tmp_path / "a.wav", np.full(4000, 0.6, np.float32), 8000)
    work(tmp_path, "a.wav", key="all")
    work(tmp_path, "a.wav", key="auto", sources="auto", overwrite=True)
    assert not (tmp_path / "out" / "a_2.wav").exists()
    assert [row["output"] for row in table(tmp_path / "out" / "outputs.csv")] == ["a_1.wav"]


def listed(out: Path) -> list[tuple[str, str]]:
    return [(row["output"], row["settings"]) for row in table(out / "outputs.csv")]


def test_a_result_that_is_replaced_goes_as_a_whole(tmp_path: Path):
    sound(tmp_path / "a.wav", 9), sound(tmp_path / "b.wav", seed=1)
    out = tmp_path / "out"
    work(tmp_path, "a.wav", "b.wav", key="four", n_src=4)
    with open(out / "a_4.wav", "ab") as file:
        file.write(b"edited")
    for name in ("a_1.wav", "a_2.wav"):  # what is in the way of nothing else is not removed unasked
        (out / name).rename(out / f"{name}.mine")
    with pytest.raises(OutputError, match=r"a_3\.wav: exists already, made with other settings; choose"):
        work(tmp_path, "a.wav")
    (record,) = work(tmp_path, "a.wav", overwrite=True)[1]
    assert [path.name for path in record.left] == ["a_4.wav"] and (out / "a_4.wav").read_bytes().endswith(b"edited")
    assert not (out / "a_3.wav").exists() and (out / "a_1.wav.mine").exists()
    others = [(f"b_{k}.wav", "four") for k in "1234"]
    assert sorted(listed(out)) == [("a_1.wav", KEY), ("a_2.wav", KEY), *others]
    with pytest.raises(OutputError, match=r"b_1\.wav: exists"):
        work(tmp_path, "b.wav")


def test_outputs_of_an_earlier_input_go_with_the_first_that_is_replaced(tmp_path: Path):
    sound(tmp_path / "a.wav")
    work(tmp_path, "a.wav", key="all", method="m")
    sound(tmp_path / "a.wav", seed=3)
    work(tmp_path, "a.wav", key="one", method="m", keep=("1",), overwrite=True)
    assert listed(tmp_path / "out") == [("a_1.wav", "one")] and not (tmp_path / "out" / "a_2.wav").exists()


def test_sources_that_are_chosen_one_after_the_other_stand_beside_each_other(tmp_path: Path):
    sound(tmp_path / "a.wav")
    for name in ("1", "2", "1"):
        work(tmp_path, "a.wav", key=name, method="m", keep=(name,), overwrite=name == "1")
    assert listed(tmp_path / "out") == [("a_1.wav", "1"), ("a_2.wav", "2")]
    assert {row["method"] for row in table(tmp_path / "out" / "outputs.csv")} == {"m"}


def test_an_input_is_never_removed_as_a_part_of_an_earlier_result(tmp_path: Path):
    sound(tmp_path / "a.wav")
    work(tmp_path, "a.wav", key="four", n_src=4)
    several = tmp_path / "a.wav", tmp_path / "out" / "a_3.wav"
    sources = [inputs.Source(str(path), path.stem) for path in several]
    with Ledger(tmp_path / "out") as ledger:
        plan = jobs.lay_out(sources, tmp_path / "out", 2)
        found = batch.triage(ledger, plan, KEY, sources, overwrite=True)
    ((_, fault),) = found.refused
    assert "a_3.wav: is an input; an input is never overwritten" in str(fault)


def test_rows_that_a_kill_left_of_an_ended_result_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sound(tmp_path / "a.wav")
    work(tmp_path, "a.wav", key="four", n_src=4)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "_save_outputs", lambda self: None)
        work(tmp_path, "a.wav", overwrite=True)
    assert len(listed(tmp_path / "out")) == 6
    assert names(work(tmp_path, "a.wav")[0]) == ["a.wav"]
    assert listed(tmp_path / "out") == [("a_1.wav", KEY), ("a_2.wav", KEY)]


def test_what_a_share_replaces_goes_from_the_common_table_when_they_come_together(tmp_path: Path):
    files = [f"{k}.wav" for k in range(5)]
    for k, name in enumerate(files):
        sound(tmp_path / name, 5, seed=k)
    work(tmp_path, *files, key="four", n_src=4)
    for k in (1, 2):
        work(tmp_path, *files, shard=Shard(k, 2), overwrite=True)
    assert len(work(tmp_path, *files)[0]) == 5
    expected = sorted((f"{k}_{i}.wav", KEY) for k in range(5) for i in (1, 2))
    assert sorted(listed(tmp_path / "out")) == expected


def test_what_a_kill_left_is_made_again(tmp_path: Path):
    sound(tmp_path / "a.wav"), sound(tmp_path / "b.wav")
    out = tmp_path / "out"
    plan, _ = layout(tmp_path, "a.wav", "b.wav")
    with Ledger(out) as ledger:
        ledger.begin(plan[0])  # and then nothing: killed while the outputs were put in place
    (out / "a_1.wav").write_bytes(b"whole, but without a row")
    (out / ".a_2.wav.77.tmp").write_bytes(b"half")
    _, new, _ = work(tmp_path, "a.wav", "b.wav")
    assert names(new) == ["a.wav", "b.wav"]
    assert sorted(p.name for p in out.iterdir()) == ["a_1.wav", "a_2.wav", "b_1.wav", "b_2.wav", "outputs.csv"]


def test_a_file_that_was_there_before_a_kill_is_not_taken_for_ours(tmp_path: Path):
    sound(tmp_path / "a.wav"), (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_1.wav").write_bytes(b"mine")
    plan, _ = layout(tmp_path, "a.wav")
    with Ledger(tmp_path / "out") as ledger:
        ledger.begin(plan[0])
    with pytest.raises(OutputError, match=r"a_1\.wav: exists already; choose"):
        work(tmp_path, "a.wav")


def test_outputs_whose_rows_could_not_be_written_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sound(tmp_path / "a.wav")

    def full(*_: object) -> None:
        raise IOFault("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("usepcli.engine.tables.append", full)
        with pytest.raises(IOFault):
            work(tmp_path, "a.wav")
    assert names(work(tmp_path, "a.wav")[1]) == ["a.wav"]


def test_shares_keep_tables_of_their_own_and_come_together(tmp_path: Path):
    files = [f"{k}.wav" for k in range(9)]
    for k, name in enumerate(files):
        sound(tmp_path / name, 5 if k == 3 else 0.5, seed=k)
    (tmp_path / "bad.wav").write_text("no sound")
    done = [names(work(tmp_path, *files, "bad.wav", shard=Shard(k, 2))[1]) for k in (1, 2)]
    assert done[0] and done[1] and sorted(done[0] + done[1]) == files
    out = tmp_path / "out"
    assert len(table(out / "outputs-1-of-2.csv")) == 2 * len(done[0]) and not (out / "outputs.csv").exists()
    assert names(work(tmp_path, *files, shard=Shard(1, 2))[0]) == done[0]
    sound(tmp_path / "bad.wav")
    before, new, _ = work(tmp_path, *files, "bad.wav")
    assert sorted(names(before)) == files and names(new) == ["bad.wav"]
    assert sorted(p.name for p in out.glob("*.csv")) == ["outputs.csv", "seams.csv"]
    assert len(table(out / "outputs.csv")) == 20 and len(table(out / "seams.csv")) == 1


def test_joins_of_an_earlier_run_come_back_from_the_table(tmp_path: Path):
    sound(tmp_path / "a.wav", 9)
    (record,) = work(tmp_path, "a.wav")[1]
    done = work(tmp_path, "a.wav")[0]
    (back,) = Ledger(tmp_path / "out").joined(done)
    assert [s.time_s for s in back.seams] == [s.time_s for s in record.seams] and back.swaps == record.swaps
    assert [s.order for s in back.seams] == [s.order for s in record.seams]


def test_a_foreign_table_is_not_written_to(tmp_path: Path):
    sound(tmp_path / "a.wav"), (tmp_path / "out").mkdir()
    (tmp_path / "out" / "outputs.csv").write_text("name,score\nx,1\n")
    with pytest.raises(BadInput, match=r"outputs\.csv: found no column"):
        work(tmp_path, "a.wav")
    assert (tmp_path / "out" / "outputs.csv").read_text() == "name,score\nx,1\n"


def test_what_the_hash_of_settings_depends_on(monkeypatch: pytest.MonkeyPatch):
    def key(wish: Wish | None = None, keep: tuple[str, ...] = ("1", "2"), sub: str = "", chunk: float = 4) -> str:
        model = Separator(Halver(), chunk_s=chunk)
        facts = batch.settings("default", model.chunk_s, wish or Wish(), keep, "{stem}_{i}", "wav", sub)
        return batch.fingerprint(facts)

    same = key()
    assert key() == same and key(Wish(settings="x")) == same
    others = [
        key(Wish(How(rest="leave"))), key(Wish(How("each"))), key(Wish(sources="auto")), key(Wish(clip="allow")),
        key(keep=("1",)), key(sub="FLOAT"), key(chunk=5),
    ]  # fmt: skip
    assert len({same, *others}) == 8
    monkeypatch.setattr(batch, "ALGORITHM", 2)
    assert key() != same
