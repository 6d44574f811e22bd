"""A command of usep as a job of a cluster: what is asked for, which runs a sweep has, and the file that says so.

A scheduler is one module with a function `script(job) -> str` and one line in the registry.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from usepcli import registry
from usepcli.engine import sweeps
from usepcli.errors import UsageError

_PLAIN = re.compile(r"[^\s\x00-\x1f\x7f]+")


@dataclass(frozen=True)
class Job:
    """What a job file is written from; counts of 0 and empty texts are the cluster's own choice."""

    command: list[str]  # without `usep`, and without what a sweep or an array adds
    together: list[str]  # the command that takes the shares of an array together
    runs: list[list[str]]  # of a sweep: what is added to the command
    name: str
    time: str
    time_s: int
    nodes: int
    ranks: int  # on each node
    gpus: int
    cpus: int  # of each rank
    mem: str
    partition: str
    account: str
    array: str
    signal_s: int
    chdir: str
    setup: list[str]
    lines: list[str]
    log: str
    out: str  # where the command writes, of a sweep all runs; '' where it does not say

    @property
    def kind(self) -> str:
        """The command, or `sweep` where that is `train` with a sweep of its own, whose runs an array shares out."""
        return "sweep" if _sweeps(self.command) else self.command[0]

    @property
    def shared(self) -> bool:
        """Whether several machines share the batch."""
        return self.nodes > 1


def job_file(
    kind: str,
    command: Sequence[str],
    *,
    time: str = "1:00:00",
    nodes: int = 1,
    ranks_per_node: int = 0,
    gpus: int = 0,
    cpus_per_task: int = 0,
    mem: str = "",
    partition: str = "",
    account: str = "",
    array: str = "",
    sweep: Sequence[str] = (),
    signal_s: int = 120,
    chdir: str = "",
    setup: Sequence[str] = (),
    directive: Sequence[str] = (),
    job_name: str = "",
    log: str = "",
) -> str:
    """Return the job file of a scheduler in which `usep` runs a command, given as words without the first.

    UsageError where what is asked for does not fit together.
    """
    words = list(command)
    name = words[0]
    ranks = ranks_per_node or max(gpus, 1)
    if nodes * ranks > 1 and name != "train":
        raise UsageError(f"usep {name} is one process: leave --nodes and --ranks-per-node, and share it with --array")
    swept = _sweeps(words)
    _check_sharing(words, nodes, array, sweep)
    out = option(words, "--out", "-o")
    if name == "train" and not out:
        profile = option(words, "--profile", "-p")
        out = f"runs/{sweeps.folder_name(swept, profile) if swept else Path(profile).stem}"
        words += [] if sweep else ["--out", out]
    together = [*words, "--merge"] if swept else words  # what a share of trainings lacks is no work for one last job
    if ranks > 1 and nodes == 1:
        words = [*words, "--ranks", str(ranks)]
    given = {"--partition": partition, "--account": account, "--job-name": job_name, "--log": log, "--mem": mem}
    for key, value in given.items():
        if value and not _PLAIN.fullmatch(value):
            raise UsageError(f"{key}: found {value!r}; expected one word")
    for line in directive:
        if not re.fullmatch(r"--?\w[^\n]*", line):
            raise UsageError(
                f"--directive: found {line!r}; expected an option of the scheduler, such as --constraint=a100"
            )
    for path in (chdir, *setup):
        if "\n" in path:
            raise UsageError(f"found a line break in {path!r}; give --setup once for each line")
    job = Job(
        words, together, runs(sweep), job_name or f"usep-{name}", time, seconds(time), nodes, ranks, gpus,
        cpus_per_task, mem, partition, account, array, signal_s, chdir, list(setup), list(directive), log, out,
    )  # fmt: skip
    if job.time_s <= signal_s:
        raise UsageError(
            f"--signal-s: {signal_s} s before the end of --time {time} no job has begun; ask for more time"
        )
    text: str = registry.load("cluster", kind)(job)
    return text


def _check_sharing(words: Sequence[str], nodes: int, array: str, sweep: Sequence[str]) -> None:
    """UsageError where --nodes, --array and --sweep do not fit each other or the command."""
    name, swept = words[0], _sweeps(words)
    if sweep and (name != "train" or array):
        raise UsageError("--sweep: makes an array of trainings; leave --array out, and give train as the command")
    if sweep and swept:
        raise UsageError("--sweep: stands in the command, too; name it once: there with --array, or here without")
    if swept and nodes > 1:
        raise UsageError(
            "--nodes: each run of train --sweep goes on within one machine; leave --nodes out and share the runs with "
            "--array, or give --sweep KEY=VALUE,VALUE before the --"
        )
    if array and name == "train" and not swept:
        raise UsageError(
            "--array: one training has nothing to share out among jobs; for several give train --sweep after the --, "
            "or --sweep KEY=VALUE,VALUE in place of --array"
        )
    for word in ("--shard", "--merge") if array else ():
        if word in words or option(words, word):
            raise UsageError(f"--array: adds --shard slurm to the command; leave {word} out")


def _sweeps(words: Sequence[str]) -> list[str]:
    """Return what a command asks for by --sweep, [] where it is no training or asks for none."""
    return _given(words, "--sweep") if words[0] == "train" else []


def option(words: Sequence[str], *names: str) -> str:
    """Return the value of an option on a command line, the last one given, '' for none."""
    return (_given(words, *names) or [""])[-1]


def _given(words: Sequence[str], *names: str) -> list[str]:
    """Return every value of an option on a command line."""
    found: list[str] = []
    for word, following in itertools.zip_longest(words, words[1:], fillvalue=""):
        for name in names:
            if word == name:
                found.append(following)
            elif name.startswith("--") and word.startswith(f"{name}="):
                found.append(word.partition("=")[2])
            elif not name.startswith("--") and word.startswith(name) and not word.startswith("--"):
                found.append(word[len(name) :].removeprefix("="))
    return found


def line(words: Sequence[str]) -> str:
    """Return words as a shell reads them."""
    return shlex.join(words)


def seconds(time: str) -> int:
    """Return a time as Slurm writes it, M, M:S, H:M:S, D-H, D-H:M or D-H:M:S, in seconds; UsageError otherwise."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time, re.ASCII)
    if not match:
        raise UsageError(f"--time: found '{time}'; expected hours:minutes:seconds, days-hours or minutes, e.g. 4:00:00")
    days, numbers = match[1], [int(part) for part in match.groups()[1:] if part is not None]
    units = (3600, 60, 1) if days is not None or len(numbers) == 3 else (60, 1)
    return int(days or 0) * 86400 + sum(n * unit for n, unit in zip(numbers, units, strict=False))


def runs(sweep: Sequence[str]) -> list[list[str]]:
    """Return for each combination of a sweep's values where it goes below the run folder, and what it adds."""
    return [[run.name, *(word for one in run.sets for word in ("--set", one))] for run in sweeps.from_words(sweep)]
