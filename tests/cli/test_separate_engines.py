"""`usep separate --engine`: the sources of torch from another runtime, a kept graph, one line for a fault."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import soundfile

from usepcli import versions
from usepcli.audio import sample
from usepcli.cli import _options as options
from usepcli.separator import engines
from usepcli.weights import onnx_writing, reach, runtimes

TALKERS = sample.two_talkers(8000)[: 5 * 8000]
PROMISED = 1000 * 2.0**-23  # of the peak


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_faults_of_the_command_line(separating: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write("a.wav", TALKERS, 8000)
    assert separating("a.wav", "-o", "out", "--engine", "abacus").code == 2
    assert separating("a.wav", "-o", "out", "--engine", "onnx", "--device", "cuda").code == 2
    assert separating("-", "-o", "out", "--live", "--engine", "onnx").code == 2
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *_: None if name in ("onnxruntime", "openvino") else find(name)
    )
    for engine, extra in (("onnx", "export"), ("openvino", "openvino")):
        found = separating("a.wav", "-o", "out", "--engine", engine)
        assert found.code == 69 and f"pip install 'usepcli[{extra}]'" in found.err and found.err.count("\n") == 1
    assert not Path("out").exists()


def test_remix_takes_an_engine_where_a_model_computes(command: Callable[..., Any]) -> None:
    soundfile.write("a.wav", TALKERS, 8000)
    soundfile.write("b.wav", TALKERS, 8000)
    remix = command("remix")
    stems = remix("a.wav", "b.wav", "-o", "x.wav", "--engine", "onnx")
    assert stems.code == 2 and "these sources are separated already" in stems.err
    assert remix("a.wav", "--model", "default", "-o", "x.wav", "--engine", "abacus").code == 2
    assert "torch computes" in remix("--shuffle", "set", "-o", "x", "--engine", "onnx").err


def test_completion_has_the_words_of_all_engines() -> None:
    assert get_args(options.Engine)[1].autocompletion("") == sorted(engines.NAMES)


@pytest.mark.parametrize("engine", ["onnx", "openvino", "openvino-bf16"])
def test_a_command_line_with_a_real_runtime(
    engine: str, separating: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in versions.EXTRAS[engines.ENGINES[engine].extra]:
        pytest.importorskip(package)
    if engine == "openvino-bf16" and "BF16" not in runtimes.openvino_precisions():
        pytest.skip("this processor has no bfloat16")
    soundfile.write("a.wav", np.stack([TALKERS, 0.5 * TALKERS[::-1]], 1), 8000, "FLOAT")
    assert separating("a.wav", "-o", "torch").code == 0
    first = separating("a.wav", "-o", "out", "--engine", engine)
    assert first.code == 0 and "compared with torch's, once" in first.err
    monkeypatch.setattr(onnx_writing, "written", lambda *_: pytest.fail("it is kept"))
    again = separating("a.wav", "-o", "again", "--engine", engine)
    assert again.code == 0 and "once" not in again.err and "dB from those of torch" in again.err
    for name in ("a_1.wav", "a_2.wav"):
        own, found, same = (soundfile.read(Path(folder) / name)[0] for folder in ("torch", "out", "again"))
        # bfloat16 has 8 bits, float32 what is promised.
        most = 0.1 if engine == "openvino-bf16" else PROMISED
        assert np.abs(found - own).max() <= most * np.abs(own).max() and np.array_equal(found, same)
    # The engine is a setting, by which outputs are told apart; torch's are what they were.
    assert separating("a.wav", "-o", "torch", "--engine", engine).code == 73
    assert "done already" in separating("a.wav", "-o", "torch").err
    assert list((reach.cache() / "graphs").glob("*.onnx"))
