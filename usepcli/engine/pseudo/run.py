"""A set of pseudo-mixtures from the sources of many mixtures: what `usep remix --shuffle` does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from usepcli import device as devices
from usepcli.data.manifest import Manifest
from usepcli.engine import shards
from usepcli.engine.pseudo.plan import Settings, rows_of
from usepcli.engine.pseudo.shuffled_folder import ShuffledFolder
from usepcli.engine.separation.ending import Ending
from usepcli.weights import cards, reach

if TYPE_CHECKING:
    from usepcli.engine.pseudo.pseudo_set import Shuffled

# Below this the residual is what rounding to 16 bits leaves, and no source.
_ROUNDING_DB = -60.0


def shuffle(
    manifest: Path,
    out: Path,
    *,
    model: str | None = None,
    kind: str = "constrained",
    channel_shuffle: bool = True,
    n_remix: int = 0,
    residual: bool = True,
    batch: int = 16,
    rounds: int = 1,
    split: str = "",
    seconds: float = 0.0,
    normalize: bool = True,
    subtype: str = "",
    seed: int = 0,
    device: str = "auto",
    threads: int = 0,
    overwrite: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    shard: str = "",
    merge: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Shuffled:
    """Make the set and return what it holds; the options are those of `usep remix --shuffle`.

    What can be wrong with them alone is told before torch is loaded.
    """
    settings = Settings(
        kind, channel_shuffle, n_remix, residual, batch, rounds, split, seconds, seed, normalize,
        subtype.upper() or "FLOAT",
    )  # fmt: skip
    settings.check(model is not None)
    share = shards.asked(shard, merge, overwrite)
    devices.check(device)
    table = Manifest.read(manifest)
    rows_of(table, split)
    if model is not None:
        cards.read_card(reach.find_model(model))
    folder = ShuffledFolder(out, {})
    folder.refuse_input(table)
    if out.is_file() or folder.earlier() is None:  # what an earlier set was made with is compared when all is known
        folder.check(overwrite)
    from usepcli.engine.pseudo.pseudo_set import remix_set

    with Ending() as ending:
        done = remix_set(
            table, out, settings, model=model, device=device, threads=threads, overwrite=overwrite, dry_run=dry_run,
            quiet=quiet, share=share, merge=merge, check=ending.check,
        )  # fmt: skip
    if not quiet:
        _note(done, dry_run, say)
    return done


def _note(done: Shuffled, dry_run: bool, say: Callable[[str], None]) -> None:
    """Say what a user may not expect in the set."""
    if dry_run:
        say(f"nothing was written; about {done.mebibytes:g} MiB would be in {done.out}")
    if done.kept:
        say(f"{done.kept} pseudo-mixtures were there already and stayed")
    if done.averaged:
        say(
            f"{done.averaged} files have several channels: the mean of them was taken, and what was written has one "
            "channel"
        )
    if done.share:
        say(done.share)
    if done.silent:
        say(f"{done.silent} pseudo-mixtures of silent sources alone were left out")
    if done.residual_db is not None and done.residual_db < _ROUNDING_DB:
        say("the listed sources add up to the mixtures: the residual is a silent source; see --no-residual")
