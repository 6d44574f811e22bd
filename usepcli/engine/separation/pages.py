"""The pages, pictures and labels of a batch: where they go, whose they are, what must not be replaced."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from usepcli.audio.io import show
from usepcli.engine.separation.jobs import Job
from usepcli.engine.separation.record import Record
from usepcli.errors import OutputError


class Pages:
    """The pages, pictures and labels of recordings, as far as they are wanted."""

    def __init__(self, out: Path, report: bool, figure: str, overwrite: bool, labels: str = "") -> None:
        self.out, self.report, self.figure, self.overwrite = out, report, figure, overwrite
        self.labels = labels
        self.alone = True
        self._owners: dict[str, str] = {}
        if labels:
            from usepcli.engine.separation.labels import check

            check(labels)
        if figure:
            from usepcli.engine.separation.report_files import check_figures

            check_figures(figure)

    @property
    def wanted(self) -> bool:
        """Whether there are to be any."""
        return bool(self.report or self.figure or self.labels)

    def begin(self, plan: Sequence[Job], total: int) -> None:
        """Take note of what is to be separated: a name that two recordings would have for a page is the first one's.

        total: how many recordings there are, where the plan leaves out some; it may where no pages are wanted.
        """
        self.alone = total == 1
        for job in plan:
            for path in self.of(job):
                self._owners.setdefault(str(path).casefold(), job.file)

    def of(self, one: Record | Job) -> list[Path]:
        """Return where the page, the picture and the labels of a recording go."""
        named = []
        if self.labels:
            from usepcli.engine.separation import labels

            named = [labels.path_of(one, self.out, self.labels)]
        return [*self._drawn(one), *named]

    def _drawn(self, one: Record | Job) -> list[Path]:
        if not (self.report or self.figure):
            return []
        from usepcli.engine.separation import report_files

        page = [report_files.report_path(one, self.out, self.alone)] if self.report else []
        return [*page, *([report_files.figure_path(one, self.out, self.figure)] if self.figure else [])]

    def lacks(self, record: Record) -> bool:
        """Whether a page, a picture or the labels of a recording are not there."""
        return not all(path.is_file() for path in self.of(record))

    def check(self, todo: Sequence[Job], bare: Sequence[Record]) -> None:
        """Raise OutputError before any work where something else stands under the name of the page of all.

        Of several recordings each is checked when its turn comes: its fault is no fault of the others.
        """
        if self.report:
            self._check_free(self.out / "report.html")
        if self.alone:
            for path in [
                *(path for job in todo for path in self._drawn(job)),
                *(p for one in bare for p in self._drawn(one)),
            ]:
                self._check_free(path)

    def _check_free(self, path: Path) -> None:
        from usepcli.engine.separation import report_files

        report_files.check_replaceable(path, self.overwrite)

    def check_one(self, one: Record | Job) -> None:
        """Raise OutputError where a page, a picture or labels of a recording are another one's, or nothing of ours."""
        for path in self.of(one):
            owner = self._owners.get(str(path).casefold(), one.file)
            if owner != one.file:
                raise OutputError(
                    f"{show(path)}: would be made for both {show(owner)} and {show(one.file)}; rename one, or leave "
                    "--report, --figure and --labels out"
                )
        for path in self._drawn(one):
            self._check_free(path)
