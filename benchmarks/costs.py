"""What the models of the ledger's profiles take: writes usepcli/published/costs.csv, of which --figure draws.

    python benchmarks/costs.py

One row per profile and settings that stand in usepcli/published/published.csv with an SI-SNRi: millions of parameters,
and 10^9 floating-point operations (two per multiply-add) per second of audio, counted by usepcli.models.cost on our own
model at the size of the profile. It takes some minutes and no training.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from usepcli.engine.scoring import compare
from usepcli.profile.load import load_profile
from usepcli.weights import build

OUT = Path(compare.LEDGER).parent / "costs.csv"


def main() -> None:
    """Count every model once, and write the table."""
    named = dict.fromkeys(
        (row["profile"], row["set"])
        for row in compare.ledger()
        if row["profile"] and row["metric"] == compare.FIGURE_METRIC and row["data"] == "WSJ0-2mix 8 kHz test"
    )
    made: dict[tuple[str, str], tuple[str, str]] = {}
    rows = []
    for profile, settings in named:
        model = load_profile(profile, sets=settings.split()).model
        key = ("", repr(sorted(model.items(), key=str)))
        if key not in made:
            built = build.model(model)
            made[key] = (f"{built.n_params / 1e6:.3f}", f"{built.flops_per_second() / 1e9:.3f}")
        rows.append((profile, settings, *made[key]))
        print(*rows[-1], file=sys.stderr, flush=True)
    with OUT.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(
            [("profile", "set", "parameters_m", "gflop_per_second"), *sorted(rows)]
        )


if __name__ == "__main__":
    main()
