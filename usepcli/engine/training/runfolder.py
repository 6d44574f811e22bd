"""A run's folder: who holds it, what it was started with, and its logs cut back to the last checkpoint."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from usepcli import guard, registry, stops
from usepcli.engine import tables
from usepcli.engine.folder import Folder
from usepcli.engine.training import marks, states, status
from usepcli.engine.training.place import place
from usepcli.errors import BadInput, ConfigError
from usepcli.files import show
from usepcli.profile import signature
from usepcli.profile.bind import OPEN
from usepcli.profile.schema import Profile, plain
from usepcli.versions import versions

# Settings that may differ when a run goes on: they do not change what is learned from a given step on.
FREE = {
    "about", "credits", "licence", "extends", "train.epochs", "train.max_steps", "train.max_hours", "train.workers",
    "train.worker_timeout_s", "train.threads", "train.device", "train.checkpoint_every_s", "train.log_every",
    "train.compile", "valid.also", "data.cache",
}  # fmt: skip

STARTS = 99  # that the record keeps besides the first

# What a setting of the closed sections was for runs that were begun before it had a name.
BEFORE = {"data.crops": "one"}


def defaults(profile: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of model, loss and objective that a profile leaves to their defaults, by dotted key."""
    found: dict[str, Any] = {}
    for kind in OPEN:
        section = profile.get(kind) or {}
        try:
            parameters = signature.signature(kind, section.get("name", "")).parameters.values()
        except (ConfigError, KeyError):  # a part that this version does not have: its settings differ anyhow
            continue
        unset = [one for one in parameters if one.name not in section and not one.required]
        found |= {f"{kind}.{one.name}": plain(one.default) for one in unset}
    return found


def training_data(manifest: str, pools: Iterable[str]) -> str:
    """Return what a run learns from, for its card: manifest and pools, each folder once."""
    named: dict[str, str] = {}
    for path in filter(None, (manifest, *pools)):
        named.setdefault(os.path.normpath(path), path)
    return ", ".join(named.values())


def _moved(earlier: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what a run goes on with that is other than at its last start: versions and device."""
    starts = earlier.get("starts")
    last = starts[-1] if isinstance(starts, list) and starts and isinstance(starts[-1], dict) else earlier
    known = last.get("versions")
    pairs = {**known} if isinstance(known, dict) else {}
    found = {**now["versions"], "device": now["device"]}
    pairs |= {"device": last.get("device", now["device"])}
    return [
        f"goes on with {name} {found[name]}, its last start had {pairs[name]}: the same to the last bit is not promised"
        for name in found
        if name in pairs and pairs[name] != found[name]
    ]


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def _settings(earlier: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of an earlier record; what had no name yet was as BEFORE has it."""
    found = flatten(earlier.get("profile", {}))
    if "data.crops" not in found and found.get("data.mixing") == "fixed":
        found["data.epoch_items"] = 0  # nothing read it
    return BEFORE | found


class RunFolder(Folder):
    """Creates or reopens a run's folder, and holds its lock until it is released or the process ends."""

    name, command = "run", "usep train"
    made = ("best",)

    def __init__(self, path: Path, take: bool = True) -> None:
        super().__init__(path)
        self.marks: dict[str, marks.Mark] = {}
        self._open = False  # whether it is still to say how this start ends
        self.said: list[str] = []  # of its data, where they have changed
        self.tables: list[Any] = []  # the lists that the run learns from, held until all have read them
        if take:
            self.lock.take()
            self.clean()
            status.begin(path)
            self._open = True
            if place().world == 1:  # several have their watch
                stops.last_word(self._signalled)

    def refuse_other(self, profile: dict[str, Any], force: bool) -> None:
        """Raise ConfigError if the folder holds a run of other settings; looks only, so that it needs no lock.

        A start that was refused, or ended before anything was saved, has learned nothing: its settings bind nobody.
        """
        self.facts = json.loads(json.dumps({"profile": profile, "defaults": defaults(profile)}))
        earlier = self.earlier()
        if force or earlier is None or not self._begun_before():
            return
        if not earlier:
            raise BadInput(
                f"{show(self.done)}: damaged, so nobody knows what the run beside it was started with; bring it back, "
                "or go on with the settings that you give by --force, or choose another -o"
            )
        if differences := self.differences(earlier):
            raise ConfigError(
                f"{self.path}: holds a run of other settings ({differences}); choose another -o, or --force, or "
                "give the former values with --set"
            )

    def refuse_data(self, data: Any, force: bool) -> None:
        """Raise ConfigError if the run in the folder has learned from other rows than its lists have now; looks only.

        With force, that is told by `begin`, as is all that has changed besides.
        """
        self.marks, self.tables = marks.marks(data)
        earlier = self.earlier()
        before = earlier.get("data") if earlier and self._begun_before() else None
        learned, other = marks.changes(before, self.marks) if isinstance(before, dict) else ([], [])
        if learned and not force:
            raise ConfigError(
                f"{self.path}: the run learned from other data ({'; '.join(learned)}); bring the former list back, "
                "choose another -o, or go on with these data by --force"
            )
        self.said = [f"warning: {line}: by --force the run goes on with these" for line in learned] + other

    def begin(self, profile: dict[str, Any], force: bool, where: dict[str, Any]) -> list[str]:
        """Record what the run starts with, and return what of it is other than before; errors as for `refuse_other`.

        where: device, number of ranks, and the step that the run goes on from.  The record keeps the first start and
        the latest ones.
        """
        self.refuse_other(profile, force)
        earlier = self.earlier() or {}
        now = {"started": time.strftime("%F %T"), "argv": sys.argv, "versions": versions("torch"), **where}
        before = earlier.get("starts")
        starts = [*before, now] if isinstance(before, list) else [now]
        said = [*self.said, *(_moved(earlier, now) if self._begun_before() else ())]
        kept = [*starts[:1], *starts[1:][-STARTS:]]
        self._begun = {key: now[key] for key in ("argv", "versions", "started")} | {"data": self.marks, "starts": kept}
        self.finish(self._begun)
        self.tables = []
        return said

    def close(self, error: BaseException | None = None) -> None:
        """Write how a start in the folder came to its end, well without an error, and give the lock back, once."""
        if not self._open:
            return
        self._open = False
        line, code = ("", 0) if error is None else guard.explain(error)
        status.end(self.path, code, line.removeprefix("usep: ").removeprefix("error: "))
        if place().world == 1:
            stops.last_word(None)
        self.release()

    def _signalled(self, number: int, code: int) -> None:
        again = "; run the same command again" if self._begun_before() else ""
        status.end(self.path, code, f"stopped by {stops.name_of(number)} at once{again}")

    def note(self, facts: dict[str, Any]) -> None:
        """Add facts that are known once all is built to the record of the start."""
        self._begun |= facts
        self.finish(self._begun)

    def as_begun(self, profile: Any) -> Any:
        """Return the profile with the `data.crops` that the run in the folder began with, unless it names its own."""
        earlier = self.earlier()
        if not self._begun_before() or not earlier or profile.origin.get("data.crops", "default") != "default":
            return profile
        crops = _settings(earlier)["data.crops"]
        if crops not in get_args(type(profile.data).model_fields["crops"].annotation):  # told as another setting
            return profile
        changed = profile.model_copy(update={"data": profile.data.model_copy(update={"crops": crops})})
        changed._name, changed._origin = profile.name, profile.origin
        return changed

    def earlier(self) -> dict[str, Any] | None:
        """Return the record of an earlier start, {} for one that is none, None without one."""
        found = super().earlier()
        return found if found is None or _is_record(found) else {}

    def _begun_before(self) -> bool:
        return any((self.path / name).exists() for name in (*states.SAVED, "best.safetensors"))

    def differences(self, earlier: dict[str, Any]) -> str:
        """Return the settings, at most eight, that bind a run and differ from an earlier record's; '' for none."""
        then = _settings(earlier)
        told = earlier.get("defaults")
        if told is None:  # an earlier version's record: as things are now, but for what has changed since
            nested: dict[str, Any] = earlier.get("profile", {})
            told = json.loads(json.dumps(defaults(nested)))
            for kind, parts in registry.FORMER.items():
                former = parts.get(str((nested.get(kind) or {}).get("name")), {})
                told |= {f"{kind}.{key}": value for key, value in former.items()}
        # Keys that came since, of the profile or of a part, stand at their defaults; a key that is set to its default
        # is no other setting.
        parts = {kind: {"name": (self.facts["profile"].get(kind) or {}).get("name", "")} for kind in OPEN}
        fixed = {**flatten(Profile().as_dict()), **json.loads(json.dumps(defaults(parts)))}
        before = {**fixed, **told, **then}
        now = {**fixed, **flatten(self.facts["profile"])}
        changed = [k for k in sorted({*before, *now}) if before.get(k) != now.get(k) and k not in FREE]
        return "; ".join(f"{k}: {_brief(before.get(k))} then, {_brief(now.get(k))} now" for k in changed[:8])

    def cut_logs(self, step: int, due: bool = False) -> None:
        """Drop the rows that lie after the checkpoint, so that no step appears twice after a kill.

        due: the validation of that step is still to come, so a row of it is another try's.
        """
        logs = [(self.path / name, last) for name, last in (("train.csv", step), ("valid.csv", step - due))]
        # Both are read before either is touched.
        for file, end, last in [(file, _end(file, last), last) for file, last in logs]:
            if end is not None:
                tables.cut(file, end)
                continue
            kept = [row for row in _log(file) if int(row["step"]) <= last]
            tables.save(file, kept, list(kept[0]) if kept else ())  # a new start may have other columns


def _end(file: Path, last: int) -> int | None:
    """Return behind how many bytes of a log the rows up to step `last` end, 0 where there are none.

    None where it has to be read in whole: later steps stand before earlier ones, or something in it is odd.
    """
    end, over = 0, False
    if not os.access(file, os.R_OK):
        return None
    with file.open("rb") as log:
        head = log.readline()
        columns = head.rstrip(b"\n").split(b",")
        if b'"' in head or b"step" not in columns:
            return None if head else 0
        at, place = len(head), columns.index(b"step")
        for line in log:  # a million of them, so none is kept
            at += len(line)
            cells = line.rstrip(b"\n").split(b",")
            if not line.endswith(b"\n"):
                break  # torn
            if len(cells) != len(columns) or not cells[place].isdigit() or not all(map(_is_number, cells)):
                return None
            if int(cells[place]) > last:
                over = True
            elif over:
                return None
            else:
                end = at
    return end


def _log(file: Path) -> list[tables.Cells]:
    """Return the rows of a log; BadInput where anything but a torn last line, which a kill leaves, is no number."""
    rows = tables.load(file, ("step",), strict=True)
    for number, row in enumerate(rows, 2):
        for name, text in row.items():
            if not (text.isdecimal() if name == "step" else _is_number(text)):
                raise BadInput(
                    f"{show(file)}:{number}: {name} is {_brief(text)}, a number was expected; mend the table, or move "
                    "it away, and run again"
                )
    return rows


def _is_number(text: str | bytes) -> bool:
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True


def _brief(value: Any) -> str:
    said = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return said if len(said) <= 80 else f"{said[:77]}..."


def _is_record(found: dict[str, Any]) -> bool:
    """Return whether a record says what a run was started with, each thing in its place."""
    profile, told = found.get("profile"), found.get("defaults", {})
    if not isinstance(profile, dict) or not isinstance(told, dict):
        return False
    parts = [profile.get(kind) or {} for kind in OPEN]
    return all(isinstance(part, dict) and isinstance(part.get("name", ""), str) for part in parts)
