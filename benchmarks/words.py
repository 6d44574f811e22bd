"""What teaches a network to hear words: scores and findings of a sweep over rows of Mahmud et al. 2024.

    usep prepare-data SOUNDS -o data/words --corpus labelled --sources 2 2 --seconds 3 --train 4000 --valid 100
    usep prepare-data SOUNDS -o data/words3 --corpus labelled --sources 3 3 --seconds 3 --train 0 --valid 0
    usep train --sweep benchmarks/sweeps/words.yaml -o runs/words --set data.manifest=data/words
    python benchmarks/words.py runs/words --two data/words --three data/words3 -o out

Every finished run, trained on mixtures of two sounds, is scored by BSS-eval on test mixtures of two and of three,
whose recordings no training met, asked by each sound's own words; networks that are not asked are scored with the order
of their outputs that fits best, which no user knows. The ideal ratio mask and the mixture stand beside them. The same
command goes on where it was left.

Written to the output folder: rows.csv (a line for each row and set: SDR, SIR, SAR with 95 % intervals), findings.csv
(what the paper found, as a difference of two rows with its interval, and whether it came back), table.md, words.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from study import Finding, Study, cell, draw, figures, summary, told, write

SCORES = ("sdr", "sir", "sar")
MARGIN = 0.5  # dB within which two rows are the same: the spread that the paper gives each of its figures is 0.2 to 0.4
FINDINGS = (
    Finding("captions and a judge beat captions alone", "all", "url", "sdr", 1, "7.9 to 5.5", "two"),
    Finding("the judge with the sum beats captions alone", "cnt_crl", "url", "sdr", 1, "6.8 to 5.5", "two"),
    Finding("captions help the judge and the sum", "all", "cnt_crl", "sdr", 1, "7.9 to 6.8", "two"),
    Finding("the judge is what helps, not the sum alone", "all", "url_crl", "sdr", 1, "not given", "two"),
    Finding("captions and a judge come near references", "all", "supervised", "sdr", 0, "7.9 to 8.1", "two"),
    Finding("and beat them on three sounds", "all", "supervised", "sdr", 1, "3.5 to 2.2", "three"),
    Finding("a judge helps references", "constraint", "supervised", "sdr", 1, "8.7 to 8.1", "two"),
    Finding("5 % of references help captions and a judge", "semi_5", "all", "sdr", 1, "8.8 to 7.9", "two"),
    Finding("half of the references, and captions, beat all references", "semi_50", "supervised", "sdr", 1,
            "9.4 to 8.1", "two"),
    Finding("more references help more", "semi_50", "semi_5", "sdr", 1, "9.4 to 8.8", "two"),
    Finding("words beat no words, by mixtures alone", "all", "mixit", "sdr", 1, "3.5 to -2.3 on three", ""),
    Finding("words beat no words, by references", "supervised", "pit", "sdr", 1, "2.3 to 2.1 on VGGSound", ""),
)  # fmt: skip


class Words(Study):
    """Rows of separation by words, scored by BSS-eval."""

    def scored(self, row: str, where: str, score: str) -> Path:
        """Return the scores of a row."""
        return self.evaluate(row, where, "bss", *(word for name in SCORES for word in ("--metric", name)),
                             "--oracle", "irm")  # fmt: skip

    def table(self) -> list[dict[str, Any]]:
        """Return one line for each row and set; oracle and mixture once for each set."""
        lines: list[dict[str, Any]] = []
        for where in self.sets:
            for row in self.rows:
                found = summary(self.scored(row, where, "sdr"))
                known = {line["row"] for line in lines if line["set"] == where}
                for system in dict.fromkeys(system for system, _ in found):
                    label = row if system == "separated" else system
                    if label not in known:
                        lines.append({"row": label, "set": where, **figures(found, system, SCORES)})
        return lines


def markdown(table: list[dict[str, Any]], findings: list[dict[str, Any]]) -> str:
    """Return both tables for people."""
    text = []
    for where in dict.fromkeys(line["set"] for line in table):
        text += [f"| {where} sounds | SDR (dB) | SIR (dB) | SAR (dB) |", "|---|---|---|---|"]
        mine = [line for line in table if line["set"] == where]
        for line in sorted(mine, key=lambda line: -float(line["sdr"] or "-inf")):
            text.append(f"| {line['row']} | {' | '.join(cell(line, score) for score in SCORES)} |")
        text.append("")
    return "\n".join([*text, *told(findings)])


def main() -> None:
    """Score what is there and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweeps", type=Path, nargs="+", help="folder of a sweep's runs")
    parser.add_argument("--two", type=Path, required=True, help="folder of the mixtures of two sounds")
    parser.add_argument("--three", type=Path, required=True, help="folder of the mixtures of three sounds")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    study = Words(given.sweeps, {"two": given.two, "three": given.three}, given.out, given.threads)
    table, findings = study.table(), study.findings(FINDINGS, MARGIN, {})
    write(study.out / "rows.csv", table)
    write(study.out / "findings.csv", findings)
    (study.out / "table.md").write_text(markdown(table, findings), encoding="utf-8")
    draw(table, {score: f"{score.upper()} (dB)" for score in SCORES}, study.out / "words.png")
    print((study.out / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
