"""Settings that lie about the tensors beside them are refused before memory is taken."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode

from usepcli import registry
from usepcli.errors import BadInput
from usepcli.weights import build, fitting, store


@pytest.mark.parametrize("name", sorted(registry.UNASKED))
def test_every_architecture_comes_back_with_its_weights(name: str) -> None:
    made = build.model({"name": name, "preset": "tiny"}).eval()
    again = fitting.model(build.config_of(made), made.state_dict(), "f")
    wave = torch.randn(1, 700)
    with torch.no_grad():
        assert torch.equal(again(wave), made(wave))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dim": 2**22}, "more parts or larger"),
        ({"heads": 2**63}, "model.dim: found"),
        ({"layers": 10**7}, "more parts or larger"),
        ({"layers": 4000}, "more parts or larger"),
        ({"ffn": 4096}, "more parts or larger|do not fit"),
        ({"n_fft": 2**40, "win": 2**40}, "no model can be made"),
        ({"n_src": "x"}, "no model can be made"),
        ({"dim": 10**30}, "more parts or larger"),
        ({"zzz": 1}, "unknown setting 'zzz'"),
        ({"name": "os:system"}, "unknown model 'os:system'"),
        ({"name": 3}, "names no architecture"),
    ],
)
def test_claims_of_the_settings_are_checked(change: dict[str, object], said: str) -> None:
    made = build.model({"name": "conformer_mask", "preset": "tiny"})
    with pytest.raises(BadInput, match=f"^f: .*{said}"):
        fitting.model({**build.config_of(made), **change}, made.state_dict(), "f")


@pytest.mark.parametrize("name", sorted(registry.UNASKED))
def test_no_setting_of_any_size_gets_memory_for_it(name: str) -> None:
    made = build.model({"name": name, "preset": "tiny"})
    settings, state = build.config_of(made), made.state_dict()
    numbers = [key for key, value in settings.items() if type(value) in (int, float)]
    grown = 0

    class Seen(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal grown
            made = func(*args, **(kwargs or {}))
            grown = max(grown, made.numel() if isinstance(made, torch.Tensor) else 0)
            return made

    for key in numbers:
        for value in (2**63, 2**40, 10**7, -1):
            with Seen(), contextlib.suppress(BadInput):
                fitting.model({**settings, key: value}, state, "f")
    assert 0 < grown <= 2**24


def test_what_a_function_would_make_is_known_before_it_is_made() -> None:
    with fitting._Bounded(1000):
        torch.empty(10, 100), torch.zeros((1000,)), torch.arange(0, 4000, 4), torch.ones(30, 1) * torch.ones(1, 30)
        for much in (
            lambda: torch.empty(10, 101),
            lambda: torch.zeros((1001,)),
            lambda: torch.arange(0, 4008, 4),
            lambda: torch.arange(1001),
            lambda: torch.eye(32),
            lambda: torch.linspace(0, 1, 1001),
            lambda: torch.full(size=(11, 91), fill_value=1.0),
            lambda: torch.hann_window(1001),
            lambda: torch.ones(34, 1) * torch.ones(1, 30),
        ):
            with pytest.raises(fitting._TooMany):
                much()


def test_loading_a_model_leaves_torchs_compiler_alone() -> None:
    code = "import sys; from usepcli.weights.store import load_model; load_model('default')"
    code += "; print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"\n<!DOCTYPE html><html>404</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    ],
)
def test_usual_mishaps_of_a_download_are_named(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(BadInput, match=said):
        store.load_model(tmp_path / "m.safetensors")
