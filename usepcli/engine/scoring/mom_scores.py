"""MoMi, the score that needs mixtures alone, beside MSi, the score that it stands for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from usepcli.engine import tables
from usepcli.engine.scoring import momi
from usepcli.engine.scoring.results import PICTURES
from usepcli.errors import BadInput, MissingDependency
from usepcli.report import scatter, stats

if TYPE_CHECKING:
    import torch

    from usepcli.data.manifest import Manifest
    from usepcli.models.queried import Model

COLUMNS = ("id", "momi", "msi")
NOTES = {
    "momi": "of a sum of two mixtures: SI-SNR of each mixture, put together from the outputs in the best way, minus "
    "that of the sum; mean over the two, in dB; no sources are needed",
    "msi": "of the same sum: SI-SNR improvement of its sources, mean over them, in dB",
    "channels": "several are separated and scored one by one; mean over those that have a value",
    "pairs": "mixtures 2i and 2i + 1 of a seeded permutation",
}


def score(
    model: Model,
    manifest: Manifest,
    n_pairs: int,
    seed: int,
    device: str | torch.device = "cpu",
    channels: str = "mix",
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """Return one row per sum of two mixtures, the summary's rows, and how MoMi goes with MSi where sources exist.

    BadInput with fewer than two mixtures.
    """
    rows = momi.score_moms(model, manifest, drawn(manifest, n_pairs, seed), device=device, channels=channels)
    return rows, *told(rows, seed)


def drawn(manifest: Manifest, n_pairs: int, seed: int) -> list[tuple[int, int]]:
    """Return which mixtures are added up; BadInput with fewer than two."""
    pairs = momi.mom_pairs(len(manifest), n_pairs, seed)
    if not pairs:
        raise BadInput(f"{manifest.path}: {len(manifest)} mixtures; momi adds two up, so give two at least")
    return pairs


def told(rows: list[dict[str, Any]], seed: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the summary's rows of scored sums, and facts: how many, and how MoMi goes with MSi."""
    facts: dict[str, Any] = {"pairs": len(rows), "seed": seed}
    summary = []
    for name in COLUMNS[1:]:
        of = tables.summarise([row[name] for row in rows])
        if of.n or name == "momi":
            summary.append({"metric": name, **of._asdict(), "missing": len(rows) - of.n})
    if len(summary) > 1:
        facts |= stats.correlation([row["momi"] for row in rows], [row["msi"] for row in rows])._asdict()
    return summary, facts


def draw(rows: list[dict[str, Any]], facts: dict[str, Any], out: Path) -> str:
    """Draw MoMi against MSi into the folder `out`; return why there is no picture, '' where there is one."""
    if "pearson" not in facts:
        return "no msi to draw momi against; it needs sources, and as many outputs as two mixtures have of them"
    title = f"{facts['n']} sums of two mixtures, Pearson {facts['pearson']:.2f}, Spearman {facts['spearman']:.2f}"
    try:
        scatter.scatter(
            [row["msi"] for row in rows],
            [row["momi"] for row in rows],
            *(out / name for name in PICTURES),
            x_label="MSi (dB)",
            y_label="MoMi (dB)",
            title=title,
        )
    except MissingDependency as fault:
        return str(fault)
    return ""
