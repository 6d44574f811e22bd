"""The pages and pictures of a batch: where they go, which recording has which, and what must not be replaced."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from usepcli.audio.io import show
from usepcli.engine.separation.jobs import Job
from usepcli.engine.separation.record import Record
from usepcli.errors import OutputError


class Pages:
    """The pages and pictures of recordings, as far as they are wanted."""

    def __init__(self, out: Path, report: bool, figure: str, overwrite: bool) -> None:
        self.out, self.report, self.figure, self.overwrite = out, report, figure, overwrite
        self.alone = True
        self._owners: dict[str, str] = {}
        if figure:
            from usepcli.engine.separation.report_files import check_figures

            check_figures(figure)

    def begin(self, plan: Sequence[Job]) -> None:
        """Take note of what is to be separated: a name that two recordings would have for a page is the first one's."""
        self.alone = len(plan) == 1
        for job in plan:
            for path in self.of(job):
                self._owners.setdefault(str(path).casefold(), job.file)

    def of(self, one: Record | Job) -> list[Path]:
        """Return where the page and the picture of a recording go."""
        if not (self.report or self.figure):
            return []
        from usepcli.engine.separation import report_files

        page = [report_files.report_path(one, self.out, self.alone)] if self.report else []
        return [*page, *([report_files.figure_path(one, self.out, self.figure)] if self.figure else [])]

    def lacks(self, record: Record) -> bool:
        """Whether a page or a picture of a recording is not there."""
        return not all(path.is_file() for path in self.of(record))

    def check(self, todo: Sequence[Job], bare: Sequence[Record]) -> None:
        """Raise OutputError before any work where something else stands under the name of the page of all.

        Of several recordings each is checked when its turn comes: its fault is no fault of the others.
        """
        if self.report:
            self._check_free(self.out / "report.html")
        if self.alone:
            for path in [*(path for job in todo for path in self.of(job)), *(p for one in bare for p in self.of(one))]:
                self._check_free(path)

    def _check_free(self, path: Path) -> None:
        from usepcli.engine.separation import report_files

        report_files.check_replaceable(path, self.overwrite)

    def check_one(self, one: Record | Job) -> None:
        """Raise OutputError where a page or a picture of a recording is another one's, or nothing of ours."""
        for path in self.of(one):
            owner = self._owners.get(str(path).casefold(), one.file)
            if owner != one.file:
                raise OutputError(
                    f"{show(path)}: would be made for both {show(owner)} and {show(one.file)}; rename one, or leave "
                    "--report and --figure out"
                )
            self._check_free(path)
