"""What critics teach beside PIT, or alone: scores and findings of a sweep over rows of Postolache et al. 2023.

    (data/near: the scenes of the profile universal, which says how they are made)
    usep train --profile small_universal -o runs/universal_start --set data.manifest=data/near \\
        --set objective.critics=[] --set objective.pit=fixed --set train.max_steps=4000
    usep train --sweep benchmarks/sweeps/universal.yaml -o runs/universal --set data.manifest=data/near \\
        --set init_from=runs/universal_start
    python benchmarks/universal.py runs/universal --data data/near -o out

Every finished run is scored by `usep evaluate --protocol advpit2023` on the test split, whose recordings and rooms no
training met, in rooms and dry (data/near/dry.csv), with mixture consistency as published and without, against the
ideal ratio mask and the mixture; by `--protocol fuss-google`; and for spectral holes. The same command goes on where it
was left.

The paper's SI-SNR_I gives a silent estimate 0 dB, and the mixture of a weak source less: the whole mixture in one
output and silence in all others scores well though nothing is separated. That is a row of its own, worked out from
the mixture's scores, and MSi of fuss-google, which leaves silent estimates out, stands beside it.

Written to the output folder: rows.csv (a line for each row and set: SI-SNR_I, MSi, SI-SNR_S and holes with 95 %
intervals, over- and under-separation), health.csv (the critics over the last fifth of each training), findings.csv
(what the paper found, as a difference of two rows with its interval, and whether it came back), table.md and a picture.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from study import Finding, Study, cell, draw, figures, mean, read, summary, told, write

SETS = {"rooms": "manifest.csv", "dry": "dry.csv"}
IMPROVED, ALONE, HEARD = "SI-SNR_I", "SI-SNR_S", "MSi heard"
SCORES = (IMPROVED, HEARD, ALONE, "holes")
ONE_OUTPUT = "mixture in one output"
LAST = 0.2  # of a training, over which the critics' figures are averaged


MARGIN = 0.6  # dB: "equal" in the paper is 12.5 against 12.4, and 12.9
FINDINGS = (
    Finding("replacing one source teaches more than none", "ctx_wave_1", "ctx_wave_0", IMPROVED, 1, "11.3 to 8.5"),
    Finding("replacing all but one teaches more than none", "ctx_wave_3", "ctx_wave_0", IMPROVED, 1, "12.1 to 8.5"),
    Finding("no replacement passes the mixture on: single sources", "ctx_wave_0", "ctx_wave_3", ALONE, 1,
            "39.9 to 35.9"),
    Finding("masks are judged better without the mixture", "ctx_mask_3_blind", "ctx_mask_3", IMPROVED, 1, "9.7 to 8.6"),
    Finding("waves teach more than spectra", "ctx_wave_3", "ctx_stft_3", IMPROVED, 1, "12.1 to 11.7"),
    Finding("a critic of single sources alone teaches least", "inst_wave", "ctx_wave_3", IMPROVED, -1, "4.7 to 12.1"),
    Finding("critics of single sources help those of all", "four", "ctx_two", IMPROVED, 1, "12.0 to 11.6"),
    Finding("critics alone equal PIT", "four", "pit", IMPROVED, 0, "12.0 to 12.4"),
    Finding("critics beside PIT beat PIT", "four_pit", "pit", IMPROVED, 1, "13.8 to 12.4"),
    Finding("PIT helps the critics", "four_pit", "four", IMPROVED, 1, "13.8 to 12.0"),
    Finding("critics beside PIT leave fewer spectral holes", "four_pit", "pit", "holes", -1, "shown, not counted"),
)  # fmt: skip
HEARD_TOO = tuple(
    claim._replace(text=f"{claim.text}: of estimates heard", score=HEARD)
    for claim in FINDINGS
    if claim.score == IMPROVED
)


class Universal(Study):
    """Rows of adversarial PIT, scored by the paper's protocol and for spectral holes."""

    def scored(self, row: str, where: str, score: str) -> Path:
        """Return the scores of a row among which `score` is."""
        kinds = {"holes": self.holes, HEARD: self.heard}
        return kinds.get(score, self.protocol)(row, where)

    def protocol(self, row: str, where: str) -> Path:
        """Return the scores of a row by the paper's protocol."""
        how = ("--protocol", "advpit2023", "--oracle", "irm", "--consistency", "none", "--consistency", "uniform")
        return self.evaluate(row, where, "advpit2023", *how)

    def heard(self, row: str, where: str) -> Path:
        """Return the scores of a row over the estimates that are not silent."""
        return self.evaluate(row, where, "google", "--protocol", "fuss-google", "--oracle", "irm")

    def holes(self, row: str, where: str) -> Path:
        """Return the spectral holes of a row, of the oracle and of the mixture."""
        return self.evaluate(row, where, "holes", "--metric", "holes", "--oracle", "irm")

    def table(self) -> list[dict[str, Any]]:
        """Return one line for each row and set; oracle and mixture, which are the same for all, once for each set."""
        lines: list[dict[str, Any]] = []
        for where in self.sets:
            for row in self.rows:
                found = {**summary(self.protocol(row, where)), **summary(self.holes(row, where))}
                google = summary(self.heard(row, where))
                found |= {(system, HEARD): line for (system, score), line in google.items() if score == "MSi"}
                systems = dict.fromkeys(system for system, _ in found)
                known = {line["row"] for line in lines if line["set"] == where}
                for system in systems:
                    label = row if system == "separated" else system
                    if label.startswith("consistency"):
                        label = f"{row} {system}"
                    if label not in known:
                        lines.append(
                            {"row": label, "set": where, **figures(found, system, (*SCORES, "under", "equal", "over"))}
                        )
            lines.append({"row": ONE_OUTPUT, "set": where, **one_output(read(self.protocol(row, where) / "items.csv"))})
        return lines

    def health(self) -> list[dict[str, Any]]:
        """Return the critics' figures over the last fifth of each training."""
        lines = []
        for row, folder in self.rows.items():
            log = read(folder / "train.csv") if (folder / "train.csv").exists() else [{}]
            log = log[-max(1, round(LAST * len(log))) :]
            for critic in [key.removeprefix("accuracy_") for key in log[0] if key.startswith("accuracy_")]:
                shown = ("accuracy", "real", "fake", "grad_norm", "silent")
                means = {key: mean(log, f"{key}_{critic}") for key in shown}
                lines.append({"row": row, "critic": critic, **means, "separator_grad_norm": mean(log, "grad_norm")})
        return lines


def one_output(items: list[dict[str, str]]) -> dict[str, Any]:
    """Return the scores of the whole mixture in one output beside silent ones, from the mixture's SI-SNR.

    By the protocol's formula an estimate that is silent has 0 dB; the mixture goes to where it gains most.
    """
    scenes: dict[str, list[float]] = {}
    for item in items:
        if item.get("system", "separated") == "separated":
            scenes.setdefault(item["id"], []).append(float(item["mix"]))
    alone = [mix[0] for mix in scenes.values() if len(mix) == 1]
    improved = [(max(mix) - sum(mix)) / len(mix) for mix in scenes.values() if len(mix) > 1]
    line: dict[str, Any] = {HEARD: 0.0}
    for score, values in ((ALONE, alone), (IMPROVED, improved)):
        middle, half = statistics.mean(values), 1.96 * statistics.stdev(values) / len(values) ** 0.5
        line |= {
            score: middle,
            f"{score}_low": middle - half,
            f"{score}_high": middle + half,
            f"{score}_n": len(values),
        }
    return line | {f"{HEARD}_low": 0.0, f"{HEARD}_high": 0.0, "holes": ""}


ALIASES = {IMPROVED: "MSi", ALONE: "1S", HEARD: "MSi"}


def markdown(table: list[dict[str, Any]], findings: list[dict[str, Any]]) -> str:
    """Return both tables for people."""
    text = []
    for where in dict.fromkeys(line["set"] for line in table):
        text += [f"| {where} | SI-SNR_I (dB) | MSi heard (dB) | SI-SNR_S (dB) | holes (%) | as many outputs |"]
        text += ["|---|---|---|---|---|---|"]
        mine = [line for line in table if line["set"] == where and " consistency " not in line["row"]]
        for line in sorted(mine, key=lambda line: -float(line[IMPROVED] or "-inf")):
            equal = f"{100 * float(line['equal']):.0f} %" if line.get("equal") else ""
            text.append(f"| {line['row']} | {' | '.join(cell(line, score) for score in SCORES)} | {equal} |")
        text.append("")
    return "\n".join([*text, *told(findings)])


def main() -> None:
    """Score what is there and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, help="folder of the sweep's runs")
    parser.add_argument("--data", type=Path, required=True, help="folder of the scenes")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    sets = {key: given.data / file for key, file in SETS.items()}
    study = Universal([given.sweep], sets, given.out, given.threads)
    table, findings = study.table(), study.findings((*FINDINGS, *HEARD_TOO), MARGIN, ALIASES)
    write(study.out / "rows.csv", table)
    write(study.out / "findings.csv", findings)
    write(study.out / "health.csv", study.health())
    (study.out / "table.md").write_text(markdown(table, findings), encoding="utf-8")
    shown = [line for line in table if " consistency " not in line["row"]]
    labels = {
        IMPROVED: "SI-SNR_I: 2 to 4 sounds (dB)", HEARD: "of estimates that are not silent (dB)",
        ALONE: "SI-SNR_S: 1 sound (dB)",
    }  # fmt: skip
    draw(shown, labels, study.out / "universal.png")
    print((study.out / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
