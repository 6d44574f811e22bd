"""`usep cluster`: a command of usep as a job file for a scheduler."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from usepcli import registry
from usepcli.cli import _options as options
from usepcli.errors import UsageError, UsepError, choices


def cluster(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help=f"The scheduler: {', '.join(registry.CLUSTERS)}.",
            autocompletion=options.among(*registry.CLUSTERS),
        ),
    ],
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="-- COMMAND ...", help="The command with its options, as after `usep`.", show_default=False
        ),
    ],
    time: Annotated[str, typer.Option("--time", metavar="H:M:S", help="Time limit of a job, also D-H or minutes.")] = (
        "1:00:00"
    ),
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Machines that share the batch of a training.")] = 1,
    ranks_per_node: Annotated[
        int,
        typer.Option("--ranks-per-node", min=0, help="Processes on each; by default one for each GPU, or one."),
    ] = 0,
    gpus: Annotated[int, typer.Option("--gpus", min=0, help="GPUs on each machine.")] = 0,
    cpus_per_task: Annotated[
        int, typer.Option("--cpus-per-task", min=0, help="Cores of each process; 0: as the cluster has it.")
    ] = 0,
    mem: Annotated[str, typer.Option("--mem", metavar="SIZE", help="Memory on each machine, e.g. 32G.")] = "",
    partition: Annotated[str, typer.Option("--partition", metavar="NAME", help="Partition (queue).")] = "",
    account: Annotated[str, typer.Option("--account", metavar="NAME", help="Account that pays.")] = "",
    array: Annotated[
        str,
        typer.Option(
            "--array",
            metavar="1-N",
            help="Share the files of the command, or the runs of train --sweep, among N jobs; 1-100%4: four at a time.",
        ),
    ] = "",
    sweep: Annotated[
        list[str],
        typer.Option(
            "--sweep",
            metavar="KEY=V,V",
            help="A training for every combination of values, each in a folder of its own; may be repeated.",
        ),
    ] = [],  # noqa: B006 - Typer copies it
    signal_s: Annotated[
        int, typer.Option("--signal-s", metavar="SECONDS", min=1, help="Before the limit, when the command is to save.")
    ] = 120,
    chdir: Annotated[str, typer.Option("--chdir", metavar="DIR", help="Folder in which the command runs.")] = "",
    setup: Annotated[
        list[str],
        typer.Option("--setup", metavar="LINE", help="Shell line before it, such as 'source venv/bin/activate'."),
    ] = [],  # noqa: B006
    directive: Annotated[
        list[str],
        typer.Option("--directive", metavar="OPTION", help="Another option of the scheduler; may be repeated."),
    ] = [],  # noqa: B006
    job_name: Annotated[str, typer.Option("--job-name", metavar="NAME", help="By default usep-COMMAND.")] = "",
    log: Annotated[
        str, typer.Option("--log", metavar="FILE", help="Where the job prints to; by default NAME-ID.out.")
    ] = "",
) -> None:
    """Print a job file for a cluster's scheduler, and submit nothing.

    The command is told SECONDS before its time is over, saves and exits 75; the job then goes back into the queue and
    goes on, unless a start got nothing done. Other exit codes are the job's. A training on several machines runs under
    torchrun. What takes the shares of an array together stands at the head of the file.

    Examples:

      usep cluster slurm --time 4:00:00 --gpus 1 -- train --profile small_pit > job.sh && sbatch job.sh

      usep cluster slurm --nodes 2 --gpus 4 --setup 'source venv/bin/activate' -- train --profile small_pit

      usep cluster slurm --array 1-8 -- separate recordings/ -o separated

      usep cluster slurm --array 1-4 -- train --sweep grid.yaml -o runs/grid

      usep cluster slurm --sweep optim.lr=1e-3,3e-4 --sweep seed=0,1,2 -- train --profile small_pit
    """
    asked = dict(locals())
    from usepcli.cli import app
    from usepcli.engine.cluster.job import job_file, runs

    if kind not in registry.CLUSTERS:
        raise UsageError(choices("scheduler", kind, registry.CLUSTERS))
    if command[0] not in app.COMMANDS:
        raise UsageError(choices("command", command[0], app.COMMANDS))
    # Whether the command will be understood is told now and not when the job starts.
    shared = ["--shard", "1/1"] if array else []
    understood = app.command(command[0]).make_context(f"usep {command[0]}", [*command[1:], *shared]).params
    text = job_file(**asked)
    if command[0] == "train":
        try:
            _check_settings(understood, runs(sweep))
        except UsepError as fault:
            if not (chdir or setup):
                raise
            # There may be other files and variables where the job runs.
            print(f"usep: warning: as things are here, the training would end with: {fault}", file=sys.stderr)
    typer.echo(text, nl=False)


def _check_settings(train: Mapping[str, Any], each: Sequence[Sequence[str]]) -> None:
    """Raise what a training would say of its profile and --set; each: a folder and more --set, for every run."""
    from usepcli.engine import sweeps
    from usepcli.engine.training.run import settings

    profile, sets = train["profile"], [more[1::2] for _, *more in each] or [[]]
    if train["sweep"]:
        plan = sweeps.read(train["sweep"])
        profile, sets = profile or plan.profile, [run.sets for run in plan.runs]
    if not profile:
        raise UsageError("train: no profile; name one with --profile, or in the file of --sweep")
    for more in sets:
        settings(profile, train["init_from"], [*train["sets"], *more])
