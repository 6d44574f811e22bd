from __future__ import annotations

from pathlib import Path

import pytest

from usepcli.engine import shards
from usepcli.engine.separation.jobs import Job, lay_out, lay_out_some, rivals
from usepcli.engine.separation.shards import lacking, of, planned
from usepcli.engine.separation.source import Source
from usepcli.engine.shards import Shard, asked, parse, parts
from usepcli.errors import UsageError

EXPECTED = ["120", "128", "129", "151", "180"]
JOBS = [Job(Path(f"in/{k}.wav"), (), relative=Path(f"{k}")) for k in range(200)]


def test_every_file_belongs_to_one_share_whatever_the_order_and_the_other_files():
    shares = [of(Shard(k, 3), JOBS) for k in (1, 2, 3)]
    assert sorted(job.source for share in shares for job in share) == sorted(job.source for job in JOBS)
    assert all(40 < len(share) < 95 for share in shares)
    assert {j.source for j in of(Shard(2, 3), JOBS[150:20:-1])} == {j.source for j in shares[1]} & {
        j.source for j in JOBS[21:151]
    }


def test_shares_are_the_same_everywhere():
    # Written down once: another machine or version has to agree, or files are done twice or never.
    assert [job.source.stem for job in of(Shard(1, 40), JOBS)] == EXPECTED


@pytest.mark.parametrize("template", ["{stem}_{i}", "{folder}{stem}_{i}.{ext}", "{i}{stem}"])
def test_a_share_knows_its_rivals_and_no_other_jobs(template: str, tmp_path: Path):
    names = [
        f"{folder}/{k}{ext}" for k in range(30) for folder in ("a", "a/b", "A") for ext in (".wav", ".flac", ".WAV")
    ]
    names += [f"lone/{k}.wav" for k in range(100)]
    sources = [Source(f"in/{name}", Path(name).with_suffix("")) for name in names]
    everyone = lay_out(sources, tmp_path, 2, name=template)
    wanted, whole = rivals(everyone), [planned(sources, None, lambda all_of: (everyone, []), False)]
    assert whole == [(everyone, everyone)]
    for k in (1, 2, 3):
        share = Shard(k, 3)
        mine, known = planned(sources, share, lambda own: lay_out_some(sources, tmp_path, 2, own, name=template), False)
        assert mine == of(share, everyone) and len(known) < len(everyone)
        keys = {str(path).casefold() for job in mine for path in job.outputs}
        found = rivals(known)
        assert {key: found.get(key) for key in keys} == {key: wanted.get(key) for key in keys}


def slurm(task: str, count: str = "4", least: str = "1", step: str | None = None) -> dict[str, str]:
    known = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": count, "SLURM_ARRAY_TASK_MIN": least}
    return known | ({"SLURM_ARRAY_TASK_STEP": step} if step else {})


def test_what_names_a_share():
    assert parse("") is None and parse("2/8") == Shard(2, 8) and Shard(2, 8).suffix == "-2-of-8"
    assert parse("slurm", slurm("3")) == Shard(3, 4)
    assert parse("SLURM", slurm("0", least="0")) == Shard(1, 4)
    assert parse("slurm", slurm("9", "3", "5", "2")) == Shard(3, 3)


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3", "1/2/3", "1/1000000", "1/" + "9" * 5000])
def test_wrong_shares(text: str):
    with pytest.raises(UsageError, match="--shard"):
        parse(text)


@pytest.mark.parametrize("environment", [{}, slurm("7"), slurm("6", "3", "5", "2"), slurm("x")])
def test_array_tasks_that_do_not_count_from_one_to_n(environment: dict[str, str]):
    with pytest.raises(UsageError, match="--shard slurm"):
        parse("slurm", environment)


def test_lists_are_shared_out_evenly_and_a_share_without_items_is_no_fault():
    shares = [Shard(k, 3).of(range(8)) for k in (1, 2, 3)]
    assert sorted(i for share in shares for i in share) == list(range(8))
    assert [len(share) for share in shares] == [3, 3, 2]
    assert list(Shard(5, 9).of(range(3))) == []


@pytest.mark.parametrize(
    ("shard", "merge", "overwrite"), [("1/2", True, False), ("1/2", False, True), ("", True, True)]
)
def test_options_of_shares_that_exclude_each_other(shard: str, merge: bool, overwrite: bool):
    with pytest.raises(UsageError, match="leave"):
        asked(shard, merge, overwrite)


def test_parts_in_a_folder_and_those_that_lack(tmp_path: Path):
    for name in ("outputs-3-of-4.csv", "outputs-1-of-4.csv", "outputs.csv", "outputs-x-of-4.csv", "seams-2-of-4.csv"):
        (tmp_path / name).touch()
    assert list(parts(tmp_path, "outputs", ".csv").values()) == [Shard(1, 4), Shard(3, 4)]
    assert shards.lacking([Shard(1, 4), Shard(3, 4), Shard(1, 1)]) == "2, 4 of 4"
    assert lacking([tmp_path / "outputs-1-of-4.csv"]) == "no table of share 2, 3, 4 of 4 yet"
    assert parts(tmp_path / "none", "outputs", ".csv") == {}


def test_a_name_that_claims_billions_of_shares_is_no_part(tmp_path: Path):
    (tmp_path / "outputs-1-of-9999999999.csv").touch()
    assert parts(tmp_path, "outputs", ".csv") == {}
