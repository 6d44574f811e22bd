"""What it means where an exchange between ranks breaks off: another rank has gone, and it or a third one knows why."""

from __future__ import annotations

from usepcli.errors import WorkerDied


class Apart(WorkerDied):
    """An exchange with other ranks broke off; the reason lies with one of them."""


class Broken:
    """A block in which a store that is gone means what a broken exchange does."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RuntimeError):
            raise Apart("the ranks lost each other; run the same command again") from error
