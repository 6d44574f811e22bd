"""Slurm's job file: a step that is warned before the time is over, and a job that goes back into the queue.

`--signal=USR1@S` reaches the processes of steps, not the batch shell: without srun nobody is told, and at the limit
SIGTERM ends the shell before it could ask for anything. The shell catches no signal: a cancelled job that called
`scontrol requeue` on its way out would come to life again, and a preempted one is requeued by Slurm itself.
"""

from __future__ import annotations

import re
import shlex

from usepcli.engine.cluster.job import Job, line
from usepcli.errors import UsageError

_MEM = re.compile(r"\d+[KMGT]?")
_ARRAY = re.compile(r"(\d+)-(\d+)(?::(\d+))?(?:%(\d+))?")
# What of the files below "$out" shows that something was done.
_STATE = {
    "train": """stat -c '%i %y' "$out/last.ckpt" 2> /dev/null""",
    "sweep": """find "$out" -type f \\( -name last.ckpt -o -path '*/sweep_scores/*' \\) ! -name '.*' """
    """-printf '%i %T@ %p\\n' 2> /dev/null | sort | cksum""",
    "": """find "$out" -type f ! -name '.*' -printf '%T@ %p\\n' 2> /dev/null | sort | cksum""",
}
_TOLD = """stat -c '%i %y' "$out/status.json" 2> /dev/null"""
_RANKS = r"""
# torchrun has an exit code of its own; how the run ended stands in its folder.
if [ "$code" -ne 0 ] && [ "$(told)" != "$earlier" ]; then
    found=$(sed -n 's/^ *"code": \([0-9][0-9]*\).*/\1/p' "$out/status.json")
    code=${found:-$code}
fi
"""
_REQUEUE = """
# 75: stopped by the signal before the time limit, all is saved. A start that got nothing done is not repeated.
if [ "$code" -eq 75 ]; then
    if [ "$(state)" != "$before" ]; then
        echo "usep: saved, and requeued at $(date '+%F %T')"
        scontrol requeue "$SLURM_JOB_ID"
    else
        echo "usep: this start got nothing done, so the job is not requeued; ask for more --time" >&2
    fi
fi
exit "$code"
"""


def script(job: Job) -> str:
    """Return a job file for sbatch; UsageError for what Slurm would not take."""
    if job.mem and not _MEM.fullmatch(job.mem):
        raise UsageError(f"--mem: found '{job.mem}'; expected a number with K, M, G or T, e.g. 32G")
    body = [*_head(job), "", *_place(job)]
    if not job.out:
        return "\n".join([*body, *_step(job), ""])
    body += [f"state() {{ {_STATE.get(job.kind, _STATE[''])}; }}", "before=$(state)"]
    if job.shared:
        body += [f"told() {{ {_TOLD}; }}", "earlier=$(told)"]
    return "\n".join([*body, "", *_step(job), "code=$?", ""]) + (_RANKS if job.shared else "") + _REQUEUE


def _head(job: Job) -> list[str]:
    array = _array(job)
    wanted = {
        "job-name": job.name,
        "time": job.time,
        "nodes": job.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": job.cpus * job.ranks,
        "gpus-per-node": job.gpus,
        "mem": job.mem,
        "partition": job.partition,
        "account": job.account,
        "array": array,
        "signal": f"USR1@{job.signal_s}",
        "output": job.log or ("%x-%A_%a.out" if array else "%x-%j.out"),
    }
    lines = [f"--{key}={value}" for key, value in wanted.items() if value]
    lines += ["--requeue", "--open-mode=append", *job.lines]
    return ["#!/bin/bash", *_how(job), *(f"#SBATCH {each}" for each in lines)]


def _how(job: Job) -> list[str]:
    """Return the comment at the head: how the file is submitted, and what follows an array of shares."""
    if not job.array:
        return ["# Written by usep cluster slurm. Submit it with: sbatch FILE"]
    place = f"cd {shlex.quote(job.chdir)} && " if job.chdir else ""
    setup = "".join(f"{each} && " for each in job.setup)
    whole = f"{place}{setup}srun {line(['usep', *job.together])}"
    return [
        "# Written by usep cluster slurm. Submit it, and the job that takes the shares together, with:",
        "#   id=$(sbatch --parsable FILE)",
        f"#   sbatch --dependency=afterany:${{id%%;*}} --wrap {shlex.quote(whole)}",
    ]


def _array(job: Job) -> str:
    if job.runs:
        return f"0-{len(job.runs) - 1}"
    match = _ARRAY.fullmatch(job.array)
    if job.array and not (match and int(match[1]) <= int(match[2]) and match[3] != "0" and match[4] != "0"):
        raise UsageError(
            f"--array: found '{job.array}'; expected FIRST-LAST or FIRST-LAST%AT_ONCE, e.g. 1-8 or 1-100%4"
        )
    return job.array


def _place(job: Job) -> list[str]:
    lines = [f"cd {shlex.quote(job.chdir)} || exit 66"] if job.chdir else []
    for each in job.setup:
        lines += ["# shellcheck disable=SC1091", each] if re.match(r"(source|\.)\s", each) else [each]
    if job.out:
        lines.append(f"out={shlex.quote(job.out)}")
    if job.runs:
        lines.append('case "$SLURM_ARRAY_TASK_ID" in')
        for number, (folder, *words) in enumerate(job.runs):
            lines.append(f"    {number}) out=$out/{shlex.quote(folder)}; set -- {line(words)} ;;")
        lines += ["esac", 'set -- "$@" --out "$out"']
    return lines


def _step(job: Job) -> list[str]:
    words = [*job.command, *(["--shard", "slurm"] if job.array else [])]
    more = ' "$@"' if job.runs else ""
    cores = f" --cpus-per-task={job.cpus * job.ranks}" if job.cpus else ""  # srun takes none over from sbatch
    if not job.shared:
        return [f"srun --ntasks=1{cores} usep {line(words)}{more}"]
    # torchrun itself is to live on through the signal that its ranks, which get it as well, answer.
    ranks = (
        'trap \'\' USR1; exec torchrun --nnodes="$SLURM_NNODES" --node-rank="$SLURM_NODEID" '
        f'--nproc-per-node={job.ranks} --max-restarts=0 --master-addr="$head" --master-port="$port" '
        '-m usepcli "$@"'
    )
    return [
        'head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        "port=$((20000 + SLURM_JOB_ID % 20000))",
        "export head port",
        "# One torchrun on each node; when one ends, the others do. What is quoted is expanded there.",
        "# shellcheck disable=SC2016",
        f"srun --ntasks-per-node=1 --kill-on-bad-exit=1{cores} bash -c {shlex.quote(ranks)} usep {line(words)}{more}",
    ]
