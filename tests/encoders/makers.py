"""How the tests make one small part of every registered conditioner and judge: name -> a function of a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from usepcli.encoders.base import Conditioner, Judge
from usepcli.encoders.labels import Labels
from usepcli.encoders.sentence import Sentence
from usepcli.encoders.vectors import Vectors

PHRASES = ("a dog barks", "rain on a roof", "glass")


def labels(folder: Path) -> Conditioner:
    return Labels(phrases=PHRASES, token_dim=6, pooled_dim=5)


def vectors(folder: Path) -> Conditioner:
    lines = [f"{phrase},{k},{0.5 - k},{k * k}" for k, phrase in enumerate(PHRASES)]
    (folder / "vectors.csv").write_text("phrase,a,b,c\n" + "\n".join(lines))
    return Vectors(str(folder / "vectors.csv"))


def sentence_folder(folder: Path) -> Path:
    """Write a folder as sentence-transformers has them, with a network of two small layers."""
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({w for phrase in PHRASES for w in phrase.split()})]
    (folder / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=24,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (folder / "modules.json").write_text('[{"type": "sentence_transformers.models.Normalize"}]')
    return folder


def sentence(folder: Path) -> Conditioner:
    return Sentence(str(sentence_folder(folder)))


CONDITIONERS: dict[str, Callable[[Path], Conditioner]] = {"labels": labels, "sentence": sentence, "vectors": vectors}
JUDGES: dict[str, Callable[[Path], Judge]] = {}
