"""Scores under other assignments of outputs: what tracing costs, and that no two are taken for one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usepcli.engine.scoring import assigning
from usepcli.engine.scoring.assigning import Assign
from usepcli.engine.scoring.evaluate import Scorer
from usepcli.engine.scoring.scoring import Signals
from usepcli.errors import BadInput, UsageError

RATE = 8000


def swapped(sign: float = 1.0, channels: int = 0) -> Signals:
    """Two sources that the outputs exchange half-way, and 40 dB of noise."""
    shape = (2, channels, RATE) if channels else (2, RATE)
    ref, noise = np.random.default_rng(0).normal(0, 0.1, (2, *shape))
    est = np.concatenate([ref[..., : RATE // 2], ref[::-1, ..., RATE // 2 :]], -1) + 0.01 * noise
    est[1] *= sign
    return Signals("a", ("s1", "s2"), est, ref, ref.sum(0), rate=RATE)


def scores(signals: Signals, kind: str, **more: Any) -> list[float]:
    rows = Scorer(("si-snr",), assign=Assign(kind, **more))(signals)
    return [row["si-snr"] for row in rows if "system" not in row]


@pytest.mark.parametrize("sign", [1.0, -1.0, 3.0])
@pytest.mark.parametrize("channels", [0, 2])
def test_frames_undo_what_the_outputs_exchange(sign: float, channels: int) -> None:
    signals = swapped(sign, channels)
    assert max(scores(signals, "default")) < 1  # each output is half of either
    assert scores(signals, "default") == scores(signals, "utterance")
    # What is left: 64 and 16 samples about the exchange, if every one of them is wrong, and 40 dB of noise.
    assert min(scores(signals, "frame")) > 10 * math.log10(RATE / (2 * 64))
    assert min(scores(signals, "frame", window=64, hop=32)) > 10 * math.log10(RATE / (2 * 16))


def test_rows_name_their_assignment_and_the_default_stands_beside() -> None:
    rows = Scorer(("si-snr",), unprocessed=True, assign=Assign("frame"))(swapped())
    named = [(row.get("system", ""), row["assign"]) for row in rows]
    assert named == [("", "frame")] * 2 + [("unprocessed", "frame")] * 2 + [("assign default", "default")] * 2
    plain = Scorer(("si-snr",))(swapped())
    beside = [row for row in rows if row.get("system") == assigning.SYSTEM]
    assert [row["si-snr"] for row in beside] == [row["si-snr"] for row in plain]
    assert all("assign" not in row for row in plain)
    assert Scorer(("si-snr",), assign=Assign("frame")).blank("a", "s1", 2, "no")["assign"] == "frame"


def test_outputs_that_were_asked_for_keep_their_order_by_default_alone() -> None:
    signals = swapped()
    crossed = signals._replace(est=signals.ref[::-1] + 0.01 * signals.est, ordered=True)
    assert max(scores(crossed, "default")) < 0 < 30 < min(scores(crossed, "utterance"))
    assert min(scores(crossed, "frame")) > 30


def test_silent_references_and_outputs_left_over_stay_out() -> None:
    signals = swapped()
    ref = np.stack([signals.ref[0], 0 * signals.ref[1], signals.ref[1]])
    quiet = signals._replace(ref=ref, sources=("a", "b", "c"))
    first, second, third = scores(quiet, "frame")
    assert math.isnan(second) and min(first, third) > 18
    more = signals._replace(est=np.concatenate([0 * signals.est[:1], signals.est]))
    assert scores(more, "frame") == pytest.approx(scores(signals, "frame"), abs=1e-6)
    with pytest.raises(BadInput, match="1 estimates for 2 sounding references"):
        scores(signals._replace(est=signals.est[:1]), "frame")


def test_frames_last_32_ms_at_every_rate() -> None:
    assert Assign("frame").sizes(8000) == (256, 128) and Assign("frame").sizes(16000) == (512, 256)
    assert Assign("frame", 100, 20).sizes(None) == (100, 20)
    with pytest.raises(BadInput, match="--stft"):
        Assign("frame").sizes(None)


@pytest.mark.parametrize(
    ("kind", "sets", "options", "said"),
    [
        ("fram", [], {}, "did you mean 'frame'"),
        ("frame", [], {"protocol": "saijo2023"}, "leave --assign away"),
        ("frame", ["wer"], {}, "--metric wer takes outputs as"),
        ("default", [], {"kaldi_export": Path("x")}, "--kaldi-export takes"),
    ],
)
def test_what_does_not_go_together_is_told(kind: str, sets: list[str], options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        assigning.asked(kind, "", sets, {"protocol": "", "kaldi_export": None, **options})


def test_other_assignments_are_not_compared() -> None:
    frame = {"assign": "frame", "assignment": Assign("frame").meaning()}
    with pytest.raises(BadInput, match="assigned by --assign default, here by frame"):
        assigning.refuse_unlike(frame, {}, Path("old"))
    with pytest.raises(BadInput, match="other frames"):
        assigning.refuse_unlike(frame, frame | {"assignment": Assign("frame", 512, 128).meaning()}, Path("old"))
    assigning.refuse_unlike(frame, dict(frame), Path("old"))
    assigning.refuse_unlike({"assign": "default"}, {}, Path("old"))
