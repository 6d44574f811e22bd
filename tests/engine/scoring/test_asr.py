"""Word errors of tables, and transcription by tiny recognisers that are made here."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from usepcli.data.manifest import Manifest, Row
from usepcli.engine.scoring import asr
from usepcli.engine.scoring.scoring import Signals
from usepcli.errors import BadInput, InputNotFound, MissingDependency

NOISE = np.random.default_rng(0).standard_normal(8000)


def manifest(*texts: str, n_src: int = 2) -> Manifest:
    names = tuple(f"s{k}.wav" for k in range(1, n_src + 1))
    rows = [Row(f"i{n}", mixture="m.wav", sources=names, text=text) for n, text in enumerate(texts)]
    return Manifest(rows, Path(), Path("manifest.csv"))


def table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_tables_are_read_with_commas_or_tabs(tmp_path: Path) -> None:
    expected = {("a", "s1"): "one, two", ("a", "s2"): 'say "no', ("b", "s1"): ""}
    commas = table(tmp_path / "c.csv", 'source,id,text\ns1,a,"one, two"\n2,a,"say ""no"\nspk-1,b,\n')
    tabs = table(tmp_path / "t.tsv", '\ufeffid\tsource\ttext\na\t1\tone, two\na\ts2\tsay "no\nb\tS1\t\n')
    assert asr.read_texts(commas) == asr.read_texts(tabs) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,source,txt\n", r"no column 'text' \(did you mean 'txt'\?\); expected the columns id, source, text"),
        ("", "no column 'id'"),
        ("id,source,text\na,1,x\na,s1,y\n", r":3: a s1 a second time"),
    ],
)
def test_other_tables_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        asr.read_texts(table(tmp_path / "x.csv", text))
    with pytest.raises(InputNotFound, match="id, source, text"):
        asr.read_texts(tmp_path / "absent.csv")


def test_texts_of_a_manifest() -> None:
    found = asr.texts_of(manifest("one two | three", "", "four|five"), limit=2)
    assert found == {("i0", "s1"): "one two", ("i0", "s2"): "three", ("i1", "s1"): "", ("i1", "s2"): ""}
    with pytest.raises(BadInput, match=r"item i1: 1 texts for 2 sources; separate them by '\|'"):
        asr.texts_of(manifest("a|b", "c"))
    with pytest.raises(BadInput, match="no texts"):
        asr.texts_of(manifest("", ""))


def test_rows_and_their_pool() -> None:
    references = {("a", "s1"): "One two, three four.", ("a", "s2"): "five", ("b", "s1"): "", ("b", "s2"): "six"}
    hypotheses = {("a", "s1"): "one three four", ("a", "s2"): "nine ten", ("b", "s1"): "x", ("z", "s1"): "y"}
    rows = asr.score_wer(hypotheses, references)
    assert [tuple(row) for row in rows] == [asr.COLUMNS] * 4
    kinds = ("words", "substitutions", "deletions", "insertions", "wer")
    assert [tuple(row[kind] for kind in kinds) for row in rows[:2]] == [(4, 0, 1, 0, 25), (1, 1, 0, 1, 200)]
    assert [row["reason"] for row in rows] == ["", "", "no words in the reference", "no hypothesis"]
    assert np.isnan([row["wer"] for row in rows[2:]]).all()
    assert asr.pooled(rows) == asr.Counts(S=1, D=1, I=1, N=5)
    (row,) = asr.summary(rows)
    assert (row["metric"], row["mean"], row["median"], row["n"], row["missing"]) == ("wer", 60, 112.5, 2, 2)


def test_an_empty_hypothesis_has_missed_every_word() -> None:
    (row,) = asr.score_wer({("a", "s1"): ""}, {("a", "s1"): "one two"})
    assert (row["deletions"], row["wer"], row["reason"]) == (2, 100, "")


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(InputNotFound, match="first is a s1, of the hypotheses b s1"):
        asr.score_wer({("b", "s1"): "x"}, {("a", "s1"): "x"})
    (row,) = asr.summary([])
    assert np.isnan(row["mean"]) and row["n"] == 0


def test_the_interval_of_equally_long_utterances_is_that_of_their_rates() -> None:
    """Ten words each: the pooled rate is the mean of the rates, and so is its interval."""
    from usepcli.engine import tables

    said = list("abcdefghij")
    references = {(f"i{n}", "s1"): " ".join(said) for n in range(6)}
    hypotheses = {key: " ".join(said[n:]) for n, key in enumerate(references)}
    rows = asr.score_wer(hypotheses, references)
    (row,) = asr.summary(rows)
    plain = tables.summarise([0.0, 10, 20, 30, 40, 50], [key[0] for key in references])
    assert row["mean"] == pytest.approx(25) and row["n"] == 6
    assert (row["ci95_low"], row["ci95_high"]) == pytest.approx((plain.ci95_low, plain.ci95_high))


def test_a_long_utterance_weighs_more_in_the_interval_too() -> None:
    """Rate R = 10 of 20; residuals errors - R words are +1 and -1; half width t(0.975, 1) sqrt(2 * 2) / 20."""
    references = {("a", "s1"): " ".join("abcdefgh"), ("b", "s1"): " ".join("abcdefghijkl")}
    hypotheses = {("a", "s1"): " ".join("abc"), ("b", "s1"): " ".join("abcdefg")}
    (row,) = asr.summary(asr.score_wer(hypotheses, references))
    assert row["mean"] == 50 and row["ci95_high"] - row["mean"] == pytest.approx(100 * 12.7062 * 2 / 20, rel=1e-4)


def test_folders_without_a_recogniser_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputNotFound, match=r"no config.json in it; expected a folder on this machine"):
        asr.Transcriber("openai/whisper-tiny")
    config = table(tmp_path / "config.json", json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    with pytest.raises(BadInput, match="model_type bert"):
        asr.Transcriber(tmp_path)
    config.write_text("[]")
    with pytest.raises(BadInput, match="no description of a model"):
        asr.Transcriber(tmp_path)
    config.write_text(json.dumps({"model_type": "whisper"}))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependency, match=r"pip install 'usepcli\[asr\]'"):
        asr.Transcriber(tmp_path)


def make_ctc(folder: Path, letter: str) -> Path:
    """A wav2vec 2.0 model of random weights whose bias makes it hear one letter."""
    library = pytest.importorskip("transformers")
    vocabulary = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abc"]
    folder.mkdir()
    table(folder / "vocab.json", json.dumps({name: n for n, name in enumerate(vocabulary)}))
    tokenizer = library.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    extractor = library.Wav2Vec2FeatureExtractor()
    library.Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(folder)
    config = library.Wav2Vec2Config(
        vocab_size=len(vocabulary), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        conv_dim=(8, 8), conv_stride=(20, 16), conv_kernel=(20, 16), num_feat_extract_layers=2,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    model = library.Wav2Vec2ForCTC(config)
    model.lm_head.bias.data[vocabulary.index(letter)] = 1e3
    model.save_pretrained(folder)
    return folder


def make_whisper(folder: Path, letter: str) -> Path:
    """A Whisper model of random weights that may say one letter only, twice, and then has to stop."""
    library = pytest.importorskip("transformers")
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = {name: n for n, name in enumerate(bytes_to_unicode().values())}
    marks = ["<|endoftext|>", "<|startoftranscript|>", "<|nospeech|>", "<|notimestamps|>"]
    tokenizer = library.WhisperTokenizer(vocab=letters, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in marks}
    library.WhisperProcessor(library.WhisperFeatureExtractor(feature_size=8), tokenizer).save_pretrained(folder)
    size, end, start = len(tokenizer) + 1501, ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    special = {"pad_token_id": end, "bos_token_id": end, "eos_token_id": end, "decoder_start_token_id": start}
    config = library.WhisperConfig(
        vocab_size=size, num_mel_bins=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, d_model=8, max_target_positions=16,
        suppress_tokens=None, begin_suppress_tokens=None, **special,
    )  # fmt: skip
    model = library.WhisperForConditionalGeneration(config)
    model.generation_config = library.GenerationConfig(
        max_new_tokens=2, suppress_tokens=[n for n in range(size) if n != letters[letter]],
        no_timestamps_token_id=ids["<|notimestamps|>"], is_multilingual=False, **special,
    )  # fmt: skip
    model.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_ctc_model_transcribes(tmp_path: Path) -> None:
    """The library takes ten seconds to start; what it hears at 8 kHz is one letter, repeats and blanks removed."""
    heard = asr.Transcriber(make_ctc(tmp_path / "ctc", "b"))
    assert heard(NOISE, 8000) == "b"
    assert heard(NOISE[:20], 8000) == "b"  # shorter than a frame: padded
    assert heard(0 * NOISE, 8000) == heard(np.nan * NOISE, 8000) == heard(NOISE[:0], 8000) == ""
    items = [Signals("i", ("1", "2"), np.stack([NOISE, 0 * NOISE]), np.stack([NOISE, NOISE]), None, rate=8000)]
    assert asr.transcribe(items, heard) == {("i", "s1"): "b", ("i", "s2"): ""}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_recogniser_gets_16_khz_at_one_peak(tmp_path: Path) -> None:
    heard = asr.Transcriber(make_ctc(tmp_path / "ctc", "b"))
    taken, processor = [], heard._processor

    class Watched:
        def __call__(self, wave, **options):
            taken.append(wave)
            assert options["sampling_rate"] == 16000
            return processor(wave, **options)

        batch_decode = staticmethod(processor.batch_decode)

    heard._processor = Watched()
    heard(1e-3 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000), 8000)
    assert len(taken[0]) == 16000 and np.abs(taken[0][1000:-1000]).max() == pytest.approx(0.95, abs=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_whisper_model_transcribes_beyond_its_30_seconds(tmp_path: Path) -> None:
    heard = asr.Transcriber(make_whisper(tmp_path / "whisper", "a"))
    assert heard(NOISE, 8000) == "aa"
    assert len(heard(np.tile(NOISE, 40), 8000)) > 2  # a second window
    del heard._model.generation_config.no_timestamps_token_id
    with pytest.raises(BadInput, match="40 s are too long; at most 30 s"):
        heard(np.tile(NOISE, 40), 8000)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_weights_that_could_hold_code_are_not_read(tmp_path: Path) -> None:
    import torch

    folder = make_ctc(tmp_path / "ctc", "b")
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadInput, match="no recogniser that can be loaded"):
        asr.Transcriber(folder)
