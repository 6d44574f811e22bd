from __future__ import annotations

import pytest
import torch

from usepcli.errors import ConfigError
from usepcli.models.tiger import TIGER, band_widths
from usepcli.models.tiger_stems import TigerStems


def tiny(**options):
    torch.manual_seed(0)
    return TigerStems(**{**TigerStems.PRESETS["tiny"], **options}).eval()


def test_published_size():
    with torch.device("meta"):
        model = TigerStems(**TigerStems.PRESETS["paper"])
        one = TIGER(n_src=3, sample_rate=44100, n_fft=2048, win=2048, hop=512, dim=132, widths="sound")
    assert model.n_params == 3 * one.n_params
    assert model.stems == ("dialog", "effect", "music") and model.segment_s == 12


def test_bands_for_all_sounds():
    assert band_widths(1025, 44100, "sound") == [2] * 20 + [4] * 10 + [11] * 8 + [23] * 8 + [46] * 8 + [92] * 2 + [121]


@pytest.mark.parametrize(("bins", "rate"), [(2, 8000), (33, 8000), (129, 16000), (1025, 48000)])
def test_bands_for_all_sounds_hold_every_bin(bins, rate):
    widths = band_widths(bins, rate, "sound")
    assert sum(widths) == bins and min(widths) >= 1


@torch.no_grad()
def test_a_stem_is_the_output_that_its_network_is_asked_for():
    mix = torch.randn(2, 700)
    model = tiny(n_src=4, takes=(2, 0, 3, 1), input_norm="none")
    alone = TIGER(**TIGER.PRESETS["tiny"] | {"n_src": 4, "input_norm": "none"}).eval()
    for k, take in enumerate(model.takes):
        alone.load_state_dict(model.nets[k].state_dict())
        torch.testing.assert_close(model(mix)[:, k], alone(mix)[:, take], atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_without_a_word_network_k_gives_output_k():
    mix = torch.randn(1, 500)
    assert torch.equal(tiny()(mix), tiny(takes=(0, 1))(mix))
    assert (tiny()(mix) - tiny(takes=(1, 0))(mix)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("key", "value"),
    [("takes", (0, 0)), ("takes", (0, 2)), ("takes", (0,)), ("stems", ("one",)), ("stems", ("a", "a")),
     ("segment_s", 0.5), ("widths", "music"), ("dim", 15)],
)  # fmt: skip
def test_wrong_settings(key, value):
    with pytest.raises(ConfigError, match=rf"model\.{key}"):
        tiny(**{key: value})


def test_it_is_not_causal():
    with pytest.raises(ConfigError, match=r"model\.causal.*convtasnet"):
        tiny(causal=True, input_norm="none")
