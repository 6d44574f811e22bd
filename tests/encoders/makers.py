"""How the tests make one small part of every registered conditioner and judge: name -> a function of a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from usepcli.encoders.base import Conditioner, Judge
from usepcli.encoders.clap import Clap, ClapJudge
from usepcli.encoders.labels import Labels
from usepcli.encoders.lexicon import Lexicon
from usepcli.encoders.sentence import Sentence
from usepcli.encoders.spelling import Spelling
from usepcli.encoders.tagger import TaggerJudge, Tower
from usepcli.encoders.vectors import Vectors
from usepcli.models.audio_text_opened import AudioTextJudge, AudioTextWords
from usepcli.weights import build, cards, store

PHRASES = ("a dog barks", "rain on a roof", "glass")


def labels(folder: Path) -> Conditioner:
    return Labels(phrases=PHRASES, token_dim=6, pooled_dim=5)


def vectors(folder: Path) -> Conditioner:
    lines = [f"{phrase},{k},{0.5 - k},{k * k}" for k, phrase in enumerate(PHRASES)]
    (folder / "vectors.csv").write_text("phrase,a,b,c\n" + "\n".join(lines))
    return Vectors(str(folder / "vectors.csv"))


def lexicon(folder: Path) -> Conditioner:
    words = sorted({word for phrase in PHRASES for word in phrase.split()} - {"a", "on"})
    (folder / "words.vec").write_text("\n".join(f"{word} {k} {0.5 - k} {k * k}" for k, word in enumerate(words, 1)))
    return Lexicon(str(folder / "words.vec"))


def sentence_folder(folder: Path) -> Path:
    """Write a folder as sentence-transformers has them, with a network of two small layers."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    folder.mkdir(exist_ok=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({w for phrase in PHRASES for w in phrase.split()})]
    (folder / "vocab.txt").write_text("\n".join(words))
    cut = tokenizers.BertWordPieceTokenizer({word: place for place, word in enumerate(words)})
    marks = {f"{mark}_token": f"[{mark.upper()}]" for mark in ("pad", "unk", "cls", "sep", "mask")}
    transformers.PreTrainedTokenizerFast(tokenizer_object=cut._tokenizer, **marks).save_pretrained(folder)
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


def clap_folder(folder: Path, parts: bool = False, places: int = 130) -> Path:
    """Write a small CLAP as transformers 5 lays it out, or in `parts`, as transformers 4 did."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.ByteLevelBPETokenizer()
    words.train_from_iterator(PHRASES, vocab_size=300, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    words._tokenizer.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    marks = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words._tokenizer, **marks)
    ears = transformers.ClapFeatureExtractor(
        feature_size=32, sampling_rate=8000, hop_length=160, max_length_s=1, fft_window_size=512, frequency_min=50,
        frequency_max=3500, truncation="rand_trunc", padding="repeatpad",
    )  # fmt: skip
    text = {"vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 32, "max_position_embeddings": places, "pad_token_id": 1}  # fmt: skip
    audio = {"spec_size": 64, "num_mel_bins": 32, "window_size": 4, "patch_embeds_hidden_size": 16, "hidden_size": 32,
             "depths": [1, 1], "num_attention_heads": [2, 4]}  # fmt: skip
    torch.manual_seed(0)
    config = transformers.ClapConfig(text_config=text, audio_config=audio, projection_dim=24)
    transformers.ClapModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    heard = json.loads(ears.to_json_string())
    name, told = ("preprocessor", heard) if parts else ("processor", {"feature_extractor": heard})
    (folder / f"{name}_config.json").write_text(json.dumps(told))
    return folder


def clap(folder: Path) -> Conditioner:
    return Clap(str(clap_folder(folder)))


def clap_judge(folder: Path) -> Judge:
    return ClapJudge(str(clap_folder(folder, parts=True)))


def tagger_folder(folder: Path) -> Path:
    """Write a tagger of two small layers, with the sentence encoder of `sentence_folder` beside it."""
    words = sentence_folder(folder / "text")
    torch.manual_seed(0)
    tower = Tower([4, 6], [2, 1])
    save_file(tower.state_dict(), folder / "tower.safetensors")
    joined = {"weight": torch.randn(16, 12), "bias": torch.randn(16), "centre": 0.01 * torch.randn(16)}
    save_file(joined, folder / "map.safetensors")
    front = {"rate": 8000, "window": 200, "hop": 80, "n_fft": 256, "bands": 16, "low_hz": 100, "high_hz": 3800}
    told = {"front_end": {**front, "offset": 0.001}, "patch": {"frames": 24, "hop": 12}, "widths": [4, 6],
            "strides": [2, 1], "scale": 8.0, "text": words.name}  # fmt: skip
    (folder / "tagger.json").write_text(json.dumps(told))
    return folder


def audio_text_file(folder: Path, **settings: object) -> Path:
    """Write an untrained audio-text model as the best of a run, with words by their spelling."""
    torch.manual_seed(0)
    options = {"name": "audio_text", "preset": "tiny", "conditioner": "spelling", **settings}
    made = build.model(options)
    card = cards.Card(name="toy", model=build.config_of(made), sample_rate=made.sample_rate)
    store.save_model(folder / "best.safetensors", made.state_dict(), card)
    return folder


def audio_text(folder: Path) -> Conditioner:
    return AudioTextWords(str(audio_text_file(folder)))


def audio_text_judge(folder: Path) -> Judge:
    return AudioTextJudge(str(audio_text_file(folder) / "best.safetensors"))


def spelling(folder: Path) -> Conditioner:
    return Spelling(token_dim=6)


def tagger(folder: Path) -> Judge:
    return TaggerJudge(str(tagger_folder(folder)))


CONDITIONERS: dict[str, Callable[[Path], Conditioner]] = {
    "audio_text": audio_text, "clap": clap, "labels": labels, "lexicon": lexicon, "sentence": sentence,
    "spelling": spelling, "vectors": vectors,
}  # fmt: skip
JUDGES: dict[str, Callable[[Path], Judge]] = {"audio_text": audio_text_judge, "clap": clap_judge, "tagger": tagger}
