"""A separator that comes finished, as an ONNX graph: it is run by onnxruntime, on the processor, and never trained.

What the graph hears is said beside it:

    wave    (B, T) of one channel or (B, C, T)  ->  (B, N, T), (B, N, C, T), or of one output (B, C, T)
    stft    (B, 2 C, F, L), real and imaginary part of each channel in turn, F lowest bins, L frames -> (B, N 2 C, F, L)

The latter goes as the programs do it that run MDX-Net: windows of hop (L - 1) samples, between zeros, of which half an
n_fft at either end is thrown away, so that the rest stand side by side; torch.stft with a Hann window and mirrored
ends; bins above F are silent in what comes back. What is given is multiplied by `compensation`. A graph that gives one
of two sources alone has the mixture less it as the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Unpack

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from usepcli import guard
from usepcli.audio import stems as names
from usepcli.dsp.stft import STFT
from usepcli.errors import BadInput, ConfigError, MissingDependency
from usepcli.models import onnx_graph
from usepcli.models.mapped import at_least
from usepcli.models.separator import Common
from usepcli.models.stereo import StereoModel
from usepcli.versions import need

_MOST = 2**26  # numbers of one spectrum
_LONGEST_S = 600.0


class OnnxNet(StereoModel):
    """The sources that an ONNX graph gives, of waves of any length in one channel or two."""

    on_cpu = True
    COMMON: ClassVar[Common] = {"n_src": 2, "sample_rate": 44100}

    def __init__(
        self,
        *,
        size: int,
        takes: Literal["wave", "stft"] = "wave",
        channels: int = 1,
        stems: tuple[str, ...] = (),
        gives: int = 0,
        n_fft: int = 0,
        hop: int = 1,
        dim_f: int = 0,
        dim_t: int = 0,
        cut_bins: int = 0,
        compensation: float = 1.0,
        segment_s: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        """Take the bytes of the graph, which are the weights, what it hears and gives; ConfigError for nonsense.

        gives: the number of the one output that the graph gives, 0 for all.  cut_bins: so many of the lowest bins are
        silenced before it hears them.
        """
        super().__init__(hop=hop, **common)
        at_least(1, size=size, channels=channels, hop=hop)
        at_least(0, gives=gives, cut_bins=cut_bins)
        if channels > 2:
            raise ConfigError(f"model.channels: found {channels}; expected 1 or 2")
        if why := names.refusal(stems) or ("" if len(stems) in (0, self.n_src) else f"found {len(stems)} names"):
            raise ConfigError(f"model.stems: {why}; expected {self.n_src} different ones or none")
        if gives and (self.n_src != 2 or gives > 2):
            raise ConfigError(f"model.gives: one of two outputs; found output {gives} of {self.n_src}")
        if segment_s and not 1 <= segment_s <= _LONGEST_S:
            raise ConfigError(f"model.segment_s: found {segment_s}; expected 1 to {_LONGEST_S:g} seconds, or 0")
        if takes == "stft":
            self.stft = STFT(n_fft, n_fft, hop, edges="reflect")
            _check_bins(self.stft, dim_f, dim_t, cut_bins)
        self.takes, self.channels, self.stems, self.gives = takes, channels, tuple(stems), gives
        self.dim_f, self.dim_t, self.cut_bins, self.compensation = dim_f, dim_t, cut_bins, compensation
        self.segment_s, self.ordered = (
            float(segment_s),
            bool(stems or gives),
        )  # those that are numbered may change places
        self.register_buffer("graph", torch.zeros(size, dtype=torch.uint8))
        self._session: Any = None
        self._weights = 0
        self.register_load_state_dict_post_hook(lambda made, _: made.load())

    @property
    def rows(self) -> int:
        """How many outputs the graph itself gives."""
        return 1 if self.gives else self.n_src

    def load(self) -> None:
        """Make a session of the graph; BadInput where it is none, or hears or gives other shapes than are said."""
        assert isinstance(self.graph, Tensor)
        raw = self.graph.cpu().numpy().tobytes()
        said = onnx_graph.read(raw)
        if said.outside:
            raise BadInput(f"{said.outside} of its tensors lie in another file; save it with its weights inside")
        runtime = need("an ONNX model", "onnx", "onnxruntime")
        runtime.set_default_logger_severity(4)
        settings = runtime.SessionOptions()
        settings.intra_op_num_threads, settings.log_severity_level = torch.get_num_threads(), 4
        try:
            session = runtime.InferenceSession(raw, settings, providers=["CPUExecutionProvider"])
        except Exception as fault:  # every kind of fault has a class of its own there, below Exception
            raise BadInput(
                f"onnxruntime {runtime.__version__} cannot run it, opset {said.opset}: {_line(fault)}"
            ) from fault
        self._compare(session)
        self._session, self._weights = session, said.weights

    def _compare(self, session: Any) -> None:
        heard, given = session.get_inputs(), session.get_outputs()
        if len(heard) != 1 or len(given) != 1:
            raise BadInput(f"has {len(heard)} inputs and {len(given)} outputs; expected one of each")
        for kind, part, shapes in (("input", heard[0], [self._heard()]), ("output", given[0], self._given())):
            if part.type != "tensor(float)":
                raise BadInput(f"its {kind} '{part.name}' is a {part.type}; expected tensor(float), 32 bits")
            if not any(_fits(part.shape, shape) for shape in shapes):
                expected = " or ".join(map(_shown, shapes))
                raise BadInput(
                    f"its {kind} '{part.name}' is of shape {_shown(part.shape)}; what is said of it makes {expected}"
                )
        batch, length = heard[0].shape[0], heard[0].shape[-1]
        if isinstance(batch, int) and batch != 1:
            raise BadInput(f"hears exactly {batch} items at once; expected 1 or any number")
        if self.takes == "wave" and isinstance(length, int) and round(self.segment_s * self.sample_rate) != length:
            raise BadInput(
                f"hears exactly {length} samples at once; say segment_s: {length / self.sample_rate!r} beside it"
            )

    def _heard(self) -> tuple[Any, ...]:
        if self.takes == "stft":
            return ("B", 2 * self.channels, self.dim_f, self.dim_t)
        return ("B", "T") if self.channels == 1 else ("B", self.channels, "T")

    def _given(self) -> list[tuple[Any, ...]]:
        n, c = self.rows, self.channels
        if self.takes == "stft":
            return [("B", n * 2 * c, self.dim_f, self.dim_t)]
        return [("B", n, "T")] if c == 1 else [("B", n, c, "T"), *([("B", c, "T")] if n == 1 else [])]

    def estimate(self, mix: Tensor) -> Tensor:
        """Return estimates (B, N, C, T) of the mixture (B, C, T)."""
        if mix.device.type != "cpu":
            raise MissingDependency(f"device '{mix.device}': an ONNX model runs on the processor; use --device cpu")
        if self._session is None:
            raise BadInput("an ONNX model without its graph; load it from a file")
        with torch.no_grad():
            found = self.compensation * (self._spectra(mix) if self.takes == "stft" else self._waves(mix))
        if not self.gives:
            return found
        pair = [found, mix[:, None] - found]
        return torch.cat(pair if self.gives == 1 else pair[::-1], 1)

    def _waves(self, mix: Tensor) -> Tensor:
        """Return what the graph gives (B, M, C, T) of waves (B, C, T)."""
        length, fixed = mix.shape[-1], self._session.get_inputs()[0].shape[-1]
        short = fixed - length if isinstance(fixed, int) else 0
        if short < 0:
            raise BadInput(f"{length} samples for an ONNX model that hears exactly {fixed} at once")
        heard = F.pad(mix, (0, short))
        found = self._run(heard[:, 0] if self.channels == 1 else heard)
        return found.reshape(len(mix), self.rows, self.channels, -1)[..., :length]

    def _spectra(self, mix: Tensor) -> Tensor:
        """Return what the graph gives (B, M, C, T) of waves (B, C, T), window by window."""
        batch, channels, length = mix.shape
        edge, whole = self.stft.n_fft // 2, self.stft.hop * (self.dim_t - 1)
        step = whole - 2 * edge
        wave = F.pad(mix, (edge, -length % step + edge))
        windows = wave.unfold(-1, whole, step)  # (B, C, P, whole)
        out = [self._window(windows[:, :, k])[..., edge : edge + step] for k in range(windows.shape[2])]
        return torch.cat(out, -1)[..., :length].reshape(batch, self.rows, channels, length)

    def _window(self, wave: Tensor) -> Tensor:
        """Return waves (B, M, C, whole) of one window (B, C, whole)."""
        spec = self.stft(wave)[..., : self.dim_f, :]  # (B, C, F, L)
        heard = torch.stack([spec.real, spec.imag], 2).flatten(1, 2)  # (B, 2 C, F, L)
        heard[:, :, : self.cut_bins] = 0
        found = self._run(heard).reshape(len(wave), self.rows, self.channels, 2, self.dim_f, self.dim_t)
        found = F.pad(found, (0, 0, 0, self.stft.bins - self.dim_f))
        return self.stft.inverse(torch.complex(found[:, :, :, 0], found[:, :, :, 1]), wave.shape[-1])

    def _run(self, heard: Tensor) -> Tensor:
        """Return the graph's answer to (B, ...), as many items at once as it takes."""
        name, fixed = self._session.get_inputs()[0].name, self._session.get_inputs()[0].shape[0]
        parts = heard.split(1) if isinstance(fixed, int) else [heard]
        try:
            found = [self._session.run(None, {name: part.contiguous().numpy()})[0] for part in parts]
        except Exception as fault:
            if guard.short_of_memory(RuntimeError(str(fault))):
                raise MemoryError(_line(fault)) from fault
            raise BadInput(f"the ONNX model fails on an input of shape {tuple(heard.shape)}: {_line(fault)}") from fault
        answer = np.concatenate(found)
        if answer.size != self.rows * heard.numel():
            expected = " or ".join(map(_shown, self._given()))
            raise BadInput(
                f"the ONNX model gives {answer.shape} for {tuple(heard.shape)}; what is said of it makes {expected}"
            )
        if not np.isfinite(answer).all():
            what = "silence" if not heard.any() else f"an input up to {float(heard.abs().max()):.3g}"
            raise BadInput(f"the ONNX model gives NaN or infinity for {what}; a fault of the file, leave it out")
        return torch.from_numpy(answer)

    @property
    def n_params(self) -> int:
        """Number of weights in the graph, 0 before it is there."""
        return self._weights

    def flops_per_second(self) -> float:
        """Return 0: what runs in the graph is not counted."""
        return 0.0


def _check_bins(stft: STFT, dim_f: int, dim_t: int, cut_bins: int) -> None:
    if not cut_bins < dim_f <= stft.bins:
        raise ConfigError(f"model.dim_f: found {dim_f}; expected {cut_bins + 1} to n_fft / 2 + 1 = {stft.bins} bins")
    if stft.hop * (dim_t - 1) <= stft.n_fft or dim_f * dim_t > _MOST:
        raise ConfigError(
            f"model.dim_t: found {dim_t} frames; expected more than n_fft samples, and at most {_MOST} bins"
        )


def _fits(found: Sequence[Any], expected: Sequence[Any]) -> bool:
    pairs = list(zip(found, expected, strict=False))
    return len(found) == len(expected) and all(a == b for a, b in pairs if isinstance(a, int) and isinstance(b, int))


def _shown(shape: Sequence[Any]) -> str:
    return f"({', '.join(str(side) if isinstance(side, int) else str(side or '?')[:20] for side in shape)})"


def _line(fault: Exception) -> str:
    return " ".join(str(fault).split())[:200]
