from __future__ import annotations

import io
import os
import signal

import numpy as np
import pytest
import soundfile as sf

from usepcli.engine.separation.ending import Ending


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_ends_the_block_at_once_and_handlers_come_back(number: int, kind: type[BaseException]):
    before = signal.getsignal(number)
    with pytest.raises(kind) as caught, Ending():
        os.kill(os.getpid(), number)
        pytest.fail("went on")
    assert number == signal.SIGINT or caught.value.code == 143  # type: ignore[attr-defined]
    assert signal.getsignal(number) == before


def test_a_signal_inside_libsndfile_waits_until_the_call_is_over():
    class Sink(io.BytesIO):
        hit = False

        def write(self, data: bytes) -> int:  # type: ignore[override]
            if len(data) > 1000 and not self.hit:
                self.hit = True
                os.kill(os.getpid(), signal.SIGTERM)
            return super().write(data)

    sink, wave, ending = Sink(), np.linspace(-1, 1, 50_000), Ending()
    with pytest.raises(SystemExit), ending:
        with sf.SoundFile(sink, "w", 8000, 1, "FLOAT", format="WAV") as file:
            file.write(wave)
        assert sink.hit and len(sink.getvalue()) > 200_000
        ending.check()
        pytest.fail("went on")
