"""Word vectors for the conditioner `lexicon`, from a sentence encoder: one for each of the words that it knows whole.

    python benchmarks/make_lexicon.py MINILM words.vec --words 12000 --dim 64 --also data/words/manifest.csv

Its vocabulary lists words by how often they are used; the first `--words` of three letters and more are taken but for
those that say nothing of a sound, and all words of the queries of `--also`. Each is read alone; the vectors' mean is
taken off, their `--dim` strongest directions are kept, and every word has the norm sqrt(dim), so that all count alike.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import torch
import torch.nn.functional as F

from usepcli.encoders.lists import phrases_of
from usepcli.encoders.sentence import Sentence

# Words of sentences and of prompts, not of sounds.
EMPTY = frozenset(
    re.findall(r"\w+", """
    a about above after again all also am among amongst an and another any are around as at be became because
    become been before being below between both but by came can come could did does doing done during each
    either else etc even ever every few for from further get gets getting goes going had has have having he hear
    heard hears her here hers him his how however i if in into is it its itself just like made make makes making
    many may me might mixture more most much must my near nearby neither no nor not now of off often on once one
    ones only onto or other others our out over own per quite rather really recording same say says she should
    since so some someone something sometimes soon sound sounding sounds still such than that the their them
    then there these they thing things this those though through thus to together too toward towards under until
    up upon us use used uses using very via was way we well were what when where whether which while who whole
    whom whose why will with within without would yet you your
    """)
)  # fmt: skip
PLAIN = re.compile(r"[a-z]{3,}")


def main() -> None:
    """Read the words and write their vectors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", help="folder of a sentence encoder")
    parser.add_argument("out", type=Path)
    parser.add_argument("--words", type=int, default=12_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--also", action="append", default=[], help="a manifest or a list of phrases; may be repeated")
    given = parser.parse_args()
    encoder = Sentence(given.encoder)
    tokenizer, _ = encoder.opened()
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    asked = {
        word for path in given.also for phrase in phrases_of(path) for word in re.findall(r"[^\W_]+", phrase.lower())
    }
    common = [word for word, _ in vocabulary if PLAIN.fullmatch(word) and word not in EMPTY][: given.words]
    words = list(dict.fromkeys([*sorted(asked - EMPTY), *common]))
    whole = torch.cat([encoder.read(words[at : at + 256]).pooled for at in range(0, len(words), 256)]).double()
    whole = whole - whole.mean(0)
    _, values, directions = torch.linalg.svd(whole, full_matrices=False)
    kept = F.normalize(whole @ directions[: given.dim].T, dim=1) * given.dim**0.5
    share = float((values[: given.dim] ** 2).sum() / (values**2).sum())
    lines = [" ".join([word, *(f"{x:.4f}" for x in row)]) for word, row in zip(words, kept.tolist(), strict=True)]
    given.out.write_text("\n".join([f"{len(words)} {given.dim}", *lines, ""]), encoding="utf-8")
    print(f"{given.out}: {len(words)} words of {given.dim} numbers, which keep {share:.0%} of the variance")


if __name__ == "__main__":
    main()
