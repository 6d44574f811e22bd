"""Make a released model from a run: weights in a byte each, the score that `usep evaluate` gave, training data as text.

    usep evaluate runs/two_talkers_8k --metric si-snri -o scores
    python benchmarks/release.py runs/two_talkers_8k scores default --data "LibriSpeech ..." --test "..."

The file goes to usepcli/pretrained/NAME.safetensors.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from usepcli.engine.scoring.protocols import OWN
from usepcli.profile.load import load_profile
from usepcli.weights import build, cards, fitting, reach, store

BEST, FIXED = "best permutation", "outputs as the model has them"
# What the weights depend on; paths, lengths and validation may be others.
SAME = ("model", "loss", "objective", "optim")


def main() -> None:
    """Read the run and its scores, write the released file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("scores", type=Path, help="folder that usep evaluate wrote")
    parser.add_argument("name")
    parser.add_argument("--data", required=True, help="what the model learned from, in words")
    parser.add_argument("--test", required=True, help="what it was scored on, in words")
    parser.add_argument("--words", type=int, default=0, help="of a lexicon, how many of its words are kept; 0: all")
    parser.add_argument("--also", type=Path, action="append", default=[], help="one more folder of scores")
    parser.add_argument("--tried", type=Path, help="folder that usep evaluate --by query wrote: what was asked for")
    parser.add_argument("--profile", help="profile that the run repeats: its text, licence and credits are stored")
    given = parser.parse_args()
    best = reach.find_model(given.run)
    card, _ = cards.read_card(best)
    card.name, card.training_data = given.name, given.data
    if given.profile:
        profile = load_profile(given.profile)
        settings = profile.as_dict()
        # What goes on from another model has every argument written out.
        said, run = (
            {key: told[key] for key in SAME} | {"model": whole(told["model"])} for told in (settings, card.profile)
        )
        if other := [key for key in SAME if said[key] != run[key]]:
            raise SystemExit(f"{best}: was trained with another {', '.join(other)} than {given.profile}")
        card.profile, card.about, card.licence, card.credits = settings, profile.about, profile.licence, profile.credits
    card.scores = [score for folder in (given.scores, *given.also) for score in scores_of(folder, given.test)]
    if given.tried:
        card.tried = asked_for(given.tried, given.test)
    out = Path(__file__).resolve().parents[1] / "usepcli" / "pretrained" / f"{given.name}.safetensors"
    state = store.read_weights(best)
    if given.words:
        state["conditioner.table"] = state["conditioner.table"][: given.words].clone()
        card.model["classes"] = card.model["classes"][: given.words]
    card.cost = build.cost_of(fitting.model(card.model, state, str(best)))  # the code may have changed since
    store.save_model(out, state, card, "int8")
    print(out, out.stat().st_size, "bytes")


def whole(section: dict[str, Any]) -> dict[str, Any]:
    """Return a profile's model with every argument."""
    return build.config_of(build.model({key: value for key, value in section.items() if key != "preset" or value}))


def scores_of(folder: Path, data: str) -> list[dict[str, Any]]:
    """Return what a card says of the scores in a folder; what they mean is what the evaluation wrote of itself."""
    stated = json.loads((folder / "evaluate.json").read_text(encoding="utf-8")).get("protocol") or {"name": OWN}
    asked = stated.get("assignment", "").partition(":")[0]
    how = "each by its query" if asked.endswith("asked for") else BEST
    protocol = f"mean over items and sources, {FIXED if stated.get('assign') == 'default' else how}"
    if stated["name"] != OWN:
        protocol = f"{stated['name']}: " + "; ".join(f"{key} {text}" for key, text in stated.items() if key != "name")
    definitions = stated.get("metrics") or {}
    with open(folder / "summary.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        {
            "metric": row["metric"],
            "value": round(float(row["mean"]), 2),
            "ci95": [round(float(row["ci95_low"]), 2), round(float(row["ci95_high"]), 2)],
            "n": int(row["n"]),
            "data": data,
            "protocol": protocol,
            **({"definition": definitions[row["metric"]]} if row["metric"] in definitions else {}),
        }
        for row in rows
    ]


def asked_for(scores: Path, data: str) -> dict[str, Any]:
    """Return what a card says of the phrases that a test asked for: mean of the first score and mixtures of each."""
    with open(scores / "stats.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["by"] == "query" and row["condition"] != "pooled"]
    metric = rows[0]["metric"]
    means = {row["condition"]: [round(float(row["mean"]), 1), int(row["n"])] for row in rows if row["metric"] == metric}
    return {"metric": metric, "data": data, "phrases": means}


if __name__ == "__main__":
    main()
