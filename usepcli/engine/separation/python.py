"""What Python has of the command: a separator that also reads and writes files, with the command's own promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from usepcli.engine.separation import run
from usepcli.engine.separation.record import Record
from usepcli.errors import BadInput, UsageError
from usepcli.files import show
from usepcli.separator.how import USUAL, How
from usepcli.separator.separator import Separator as Waves


class Separator(Waves):
    """A loaded model that separates waveforms, streams and files; see `usepcli.separator.separator.Separator`."""

    def separate_file(
        self,
        path: str | Path,
        out: str | Path,
        how: How = USUAL,
        *,
        sources: str = "all",
        keep: str = "",
        name: str = "{stem}_{i}",
        form: str = "wav",
        subtype: str = "",
        clip: str = "gain",
        overwrite: bool = False,
        resume: bool = True,
        say: Callable[[str], None] = lambda line: None,
    ) -> Record:
        """Separate one sound file into the folder `out` as `usep separate` does, and return what became of it.

        Names, tables, tags, and the skipping of what is done are those of the command, which goes on where this ended;
        `say` is told what a user should know. Whatever is wrong is raised, as a class of `usepcli.errors`, and leaves
        nothing half written. UsageError for a model that `load` did not find in a file.
        """
        if not self.ref:
            raise UsageError("separate_file: outputs are known by the model's file; take Separator.load(...)")
        if Path(path).is_dir():
            raise BadInput(f"{show(path)}: is a folder where one sound file was expected; see usep separate")
        done = run.separate(
            [Path(path) if str(path) != "-" else "./-"], Path(out), model=self, queries=self.asked,
            always=self.always,
            channels=how.channels,
            rest="" if how.rest == "source" else how.rest, residual=how.rest == "source", overlap=how.overlap,
            shifts=how.shifts, speeds=how.speeds, track=how.track, two_stems=how.two_stems, sources=sources, keep=keep,
            name=name, form=form, subtype=subtype, clip=clip, overwrite=overwrite, resume=resume, quiet=True, say=say,
        )  # fmt: skip
        return done.records[0]
