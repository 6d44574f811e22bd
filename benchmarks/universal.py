"""What critics teach beside PIT, or alone: scores and findings of a sweep over rows of Postolache et al. 2023.

    usep prepare-data EVENTS -o data/rooms --corpus fuss-mix --reverb simulated --rooms 100 --seconds 4 --train 4000
    usep train --profile small_universal -o runs/universal_start --set data.manifest=data/rooms \\
        --set objective.critics=[] --set objective.pit=fixed --set train.max_steps=4000
    usep train --sweep benchmarks/sweeps/universal.yaml -o runs/universal --set data.manifest=data/rooms \\
        --set init_from=runs/universal_start
    python benchmarks/universal.py runs/universal --data data/rooms -o out

Every finished run is scored by `usep evaluate --protocol advpit2023` on the test split, whose recordings and rooms no
training met, in rooms and dry (data/rooms/dry.csv), with mixture consistency as published and without, against the
ideal ratio mask and the mixture; then for spectral holes. The same command goes on where it was left.

Written to the output folder: rows.csv (a line for each row and set: SI-SNR_I, SI-SNR_S and holes with 95 % intervals,
over- and under-separation), health.csv (the critics over the last fifth of each training), findings.csv (what the
paper found, as a difference of two rows with its interval, and whether it came back), table.md, universal.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from study import Finding, Study, cell, draw, figures, mean, read, summary, told, write

SETS = {"rooms": "manifest.csv", "dry": "dry.csv"}
IMPROVED, ALONE = "SI-SNR_I", "SI-SNR_S"
SCORES = (IMPROVED, ALONE, "holes")
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


class Universal(Study):
    """Rows of adversarial PIT, scored by the paper's protocol and for spectral holes."""

    def scored(self, row: str, where: str, score: str) -> Path:
        """Return the scores of a row among which `score` is."""
        return self.holes(row, where) if score == "holes" else self.protocol(row, where)

    def protocol(self, row: str, where: str) -> Path:
        """Return the scores of a row by the paper's protocol."""
        how = ("--protocol", "advpit2023", "--oracle", "irm", "--consistency", "none", "--consistency", "uniform")
        return self.evaluate(row, where, "advpit2023", *how)

    def holes(self, row: str, where: str) -> Path:
        """Return the spectral holes of a row, of the oracle and of the mixture."""
        return self.evaluate(row, where, "holes", "--metric", "holes", "--oracle", "irm")

    def table(self) -> list[dict[str, Any]]:
        """Return one line for each row and set; oracle and mixture, which are the same for all, once for each set."""
        lines: list[dict[str, Any]] = []
        for where in self.sets:
            for row in self.rows:
                found = {**summary(self.protocol(row, where)), **summary(self.holes(row, where))}
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


ALIASES = {IMPROVED: "MSi", ALONE: "1S"}


def markdown(table: list[dict[str, Any]], findings: list[dict[str, Any]]) -> str:
    """Return both tables for people."""
    text = []
    for where in dict.fromkeys(line["set"] for line in table):
        text += [f"| {where} | SI-SNR_I (dB) | SI-SNR_S (dB) | holes (%) |", "|---|---|---|---|"]
        mine = [line for line in table if line["set"] == where and " consistency " not in line["row"]]
        for line in sorted(mine, key=lambda line: -float(line[IMPROVED] or "-inf")):
            text.append(f"| {line['row']} | {' | '.join(cell(line, score) for score in SCORES)} |")
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
    table, findings = study.table(), study.findings(FINDINGS, MARGIN, ALIASES)
    write(study.out / "rows.csv", table)
    write(study.out / "findings.csv", findings)
    write(study.out / "health.csv", study.health())
    (study.out / "table.md").write_text(markdown(table, findings), encoding="utf-8")
    shown = [line for line in table if " consistency " not in line["row"]]
    labels = {IMPROVED: "SI-SNR improvement, 2 to 4 sounds (dB)", ALONE: "SI-SNR, 1 sound (dB)"}
    draw(shown, labels, study.out / "universal.png")
    print((study.out / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
