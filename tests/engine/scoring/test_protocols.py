"""The same three mixtures by every protocol, with scores that follow from right angles."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from usepcli.audio import io
from usepcli.data.manifest import Manifest, Row
from usepcli.engine.scoring import evaluate, fuss_scores, protocols
from usepcli.engine.scoring.scoring import Signals
from usepcli.errors import BadInput, UsageError
from usepcli.models.separator import SeparationModel

T = 4000
# Unit power, no mean, all at right angles: an error a times as large as the source is an SI-SNR of -20 log10 a.
WAVES = np.linalg.qr(np.c_[np.ones(T), np.random.default_rng(5).standard_normal((T, 12))])[0].T[1:] * math.sqrt(T)
THREE = 10 * math.log10(3 - 1)  # two sources of three are noise to the third
GOOGLE, SAIJO, ADVERSARIAL = (protocols.PROTOCOLS[name] for name in ("fuss-google", "saijo2023", "advpit2023"))


def at(db: float, source: np.ndarray, error: np.ndarray) -> np.ndarray:
    return source + 10 ** (-db / 20) * error


def mixtures(outputs: int = 4) -> list[Signals]:
    """One source at 20 dB; two at 20 and 10; three at 30, 20 and, 26 dB too quiet, 10.  A silent reference in each."""
    s, n = WAVES[:6], WAVES[6:]
    nothing = np.zeros((4, T))
    one = np.stack([nothing[0], at(20, s[0], n[0])])
    two = np.stack([at(10, s[1], n[1]), at(20, s[0], n[0])])
    three = np.stack([at(30, s[0], n[0]), 0.05 * at(10, s[2], n[2]), at(20, s[1], n[1])])
    return [
        Signals(
            name,
            tuple(f"s{i + 1}" for i in range(k + 1)),
            np.concatenate([est, nothing])[:outputs],
            np.concatenate([nothing[:1], s[:k]]),
            None,
        )
        for name, k, est in (("one", 1, one), ("two", 2, two), ("three", 3, three))
    ]


def summary(protocol: protocols.Protocol) -> dict[str, float]:
    rows = [row for item in mixtures() for row in fuss_scores.score_item(item, protocol)]
    return {row["metric"]: row["mean"] for row in fuss_scores.summary(rows, protocol)}


def test_pooled_pairs_without_the_quiet_one() -> None:
    found = summary(GOOGLE)
    four = [20, 10, 30 + THREE, 20 + THREE]
    expected = {"1S": 20, "2Si": 15, "3Si": 25 + THREE, "MSi": np.mean(four), "TRF": np.mean([20, *four]), "SS": 20}
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-3)
    assert math.isnan(found["4Si"])
    assert (found["under"], found["equal"], found["over"]) == pytest.approx((1 / 3, 2 / 3, 0))


def test_means_of_mixtures_with_the_quiet_one() -> None:
    found = summary(SAIJO)
    expected = {"1S": 20, "2Si": 15, "3Si": 20 + THREE, "MSi": (35 + THREE) / 2, "TRF": (55 + THREE) / 3}
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-3)
    assert "SS" not in found


def test_the_third_protocol_has_its_own_names_and_its_own_floor() -> None:
    found = summary(ADVERSARIAL)
    assert found["SI-SNR_S"] == found["1S"] == pytest.approx(20, abs=1e-3)
    assert found["SI-SNR_I"] == found["MSi"] == pytest.approx((35 + THREE) / 2, abs=1e-3)


def test_total_is_the_mean_of_its_parts_weighted_by_mixtures() -> None:
    found = summary(SAIJO)
    assert 3 * found["TRF"] == pytest.approx(found["1S"] + 2 * found["MSi"])


def test_items_say_what_they_are_made_of() -> None:
    rows = fuss_scores.score_item(mixtures()[2], GOOGLE)
    assert [list(row) for row in rows] == [list(fuss_scores.ITEM_COLUMNS)] * 4
    assert [row["reason"] for row in rows] == ["silent reference", "", "", "quiet estimate"]
    assert [row["counted"] for row in rows] == [0, 1, 1, 0]
    assert [fuss_scores.score_item(mixtures()[2], SAIJO)[3][name] for name in ("counted", "reason")] == [
        1,
        "quiet estimate",
    ]
    quiet = rows[3]
    assert (quiet["k"], quiet["n_est"], quiet["n_out"]) == (3, 2, 4)
    assert quiet["si-snr"] == pytest.approx(10, abs=1e-3) and quiet["mix"] == pytest.approx(-THREE, abs=1e-3)
    assert quiet["imp"] == pytest.approx(quiet["si-snr"] - quiet["mix"])
    assert quiet["power"] == pytest.approx(0.05**2 * 1.1) and quiet["ref_power"] == pytest.approx(1)


def test_counts_of_sources() -> None:
    rows = [row for item in mixtures() for row in fuss_scores.score_item(item, GOOGLE)]
    table = fuss_scores.confusion(rows)
    assert [(row["k"], row["items"]) for row in table] == [(1, 1), (2, 1), (3, 1), (4, 0)]
    assert [[row[f"est_{n}"] for n in range(5)] for row in table[:3]] == [
        [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0],
    ]  # fmt: skip
    assert math.isnan(table[3]["est_0"])


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS.values(), ids=lambda p: p.name)
def test_fewer_outputs_than_sources_score_the_best_they_can(protocol: protocols.Protocol) -> None:
    """One output for three sources: it is given to the source that it fits; the others are missing."""
    rows = fuss_scores.score_item(mixtures(outputs=1)[2], protocol)
    assert [row["reason"] for row in rows] == ["silent reference", "", "no output left", "no output left"]
    (total,) = [row for row in fuss_scores.summary(rows, protocol) if row["metric"] == "3Si"]
    assert (total["mean"], total["missing"]) == (pytest.approx(30 + THREE, abs=1e-3), 2)
    (share,) = [row["mean"] for row in fuss_scores.summary(rows, protocol) if row["metric"] == "under"]
    assert share == 1


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS.values(), ids=lambda p: p.name)
def test_order_of_outputs_and_further_silent_outputs_change_nothing(protocol: protocols.Protocol) -> None:
    for item in mixtures():
        turned = item._replace(est=np.concatenate([item.est[::-1], np.zeros((4, T))]))
        for a, b in zip(*(fuss_scores.score_item(of, protocol) for of in (item, turned)), strict=True):
            assert {**a, "n_out": 8} == pytest.approx(b, nan_ok=True)


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS.values(), ids=lambda p: p.name)
def test_the_mixture_as_every_estimate_improves_nothing(protocol: protocols.Protocol) -> None:
    scorer = evaluate.Scorer((), protocol, unprocessed=True)
    rows = [row for item in mixtures() for row in scorer(item) if "system" in row]
    found = {row["metric"]: row["mean"] for row in fuss_scores.summary(rows, protocol, rates=False)}
    assert found["MSi"] == pytest.approx(0, abs=1e-6) and "under" not in found
    assert found["1S"] > 70  # one source is its own mixture


def test_items_without_a_sounding_reference_take_no_part() -> None:
    silent = Signals("silent", ("s1", "s2"), WAVES[:2], np.zeros((2, T)), None)
    rows = [row for item in [*mixtures(), silent] for row in fuss_scores.score_item(item, GOOGLE)]
    assert fuss_scores.skipped(rows) == 1
    found = {row["metric"]: row["mean"] for row in fuss_scores.summary(rows, GOOGLE)}
    assert found == pytest.approx(summary(GOOGLE), nan_ok=True)


def test_broken_estimates_are_zeros_that_say_so_and_broken_references_stop() -> None:
    item = mixtures()[1]
    broken = item.est.copy()
    broken[1, 5] = np.nan  # the output of s1, the second row
    rows = fuss_scores.score_item(item._replace(est=broken), SAIJO)
    assert [row["reason"] for row in rows] == ["silent reference", "estimate not finite", ""]
    assert rows[1]["si-snr"] == pytest.approx(20, abs=0.1) and rows[1]["counted"] == 1
    with pytest.raises(BadInput, match="two: a reference is not finite"):
        fuss_scores.score_item(item._replace(ref=item.ref * np.nan), SAIJO)


def test_scores_that_eps_ends_are_counted() -> None:
    perfect = Signals("same", ("s1", "s2"), WAVES[:2], np.stack([WAVES[0], WAVES[1]]), None)
    assert fuss_scores.capped(fuss_scores.score_item(perfect, GOOGLE), GOOGLE) == 2
    assert fuss_scores.capped(fuss_scores.score_item(perfect, ADVERSARIAL), ADVERSARIAL) == 0
    assert fuss_scores.capped(fuss_scores.score_item(mixtures()[2], GOOGLE), GOOGLE) == 0


def test_five_sources_get_a_score_of_their_own() -> None:
    item = Signals("five", tuple("abcde"), WAVES[:5] + 0.1 * WAVES[5:10], WAVES[:5], None)
    rows = fuss_scores.score_item(item, SAIJO)
    found = {row["metric"]: row["mean"] for row in fuss_scores.summary(rows, SAIJO)}
    assert found["5Si"] == found["MSi"] == pytest.approx(20 + 10 * math.log10(4), abs=1e-3)
    assert fuss_scores.confusion(rows)[4]["est_5"] == 1


def test_means_are_removed_by_one_protocol_only() -> None:
    item = Signals("dc", ("s1",), WAVES[:1] + 1.0, WAVES[:1], None)  # an offset as strong as the source
    google, saijo = (fuss_scores.score_item(item, protocol)[0]["si-snr"] for protocol in (GOOGLE, SAIJO))
    assert google == pytest.approx(0, abs=1e-6) and saijo > 70


@pytest.mark.parametrize(("true_db", "energy"), [(20, 0.098), (40, 0.098), (60, 0.098), (60, 1600.0)])
def test_an_absolute_epsilon_caps_quiet_files(true_db: float, energy: float) -> None:
    """Signal of energy E, error at right angles of energy E 10^(-true/10); eps is added to both and to the gain."""
    wave, eps = WAVES * math.sqrt(energy / T), 1e-5
    expected = 10 * math.log10((energy + eps) / (energy * 10 ** (-true_db / 10) + eps))
    found = float(protocols.si_snr_projection_db(at(true_db, wave[0], wave[1]), wave[0], eps))
    assert found == pytest.approx(expected, abs=1e-3) and (energy > 1 or found < 40)


def test_the_upper_bound_of_the_paper_is_the_energy_of_its_files() -> None:
    """39.9 dB for a perfect estimate, 0 dB for silence."""
    wave = WAVES[0] * math.sqrt(0.098 / T)
    assert float(protocols.si_snr_projection_db(wave, wave, 1e-5)) == pytest.approx(39.9, abs=0.02)
    assert float(protocols.si_snr_projection_db(0 * wave, wave, 1e-5)) == pytest.approx(0, abs=0.01)


def test_conventions_are_told_and_differ_where_the_protocols_do() -> None:
    said = {name: protocol.lines() for name, protocol in protocols.PROTOCOLS.items()}
    assert set(said) == {"mixit2020", "fuss-google", "saijo2023", "advpit2023"}
    assert "left out" in said["fuss-google"]["quiet estimates"] and "count" in said["saijo2023"]["quiet estimates"]
    assert "eps 1e-05" in said["advpit2023"]["si-snr"] and "means removed" in said["saijo2023"]["si-snr"]
    with pytest.raises(UsageError, match="did you mean 'saijo2023'"):
        protocols.find("saijo2032")


class Splitter(SeparationModel):
    """Four outputs: low, high, silence, silence; and it remembers what it was given."""

    def __init__(self) -> None:
        super().__init__(n_src=4, sample_rate=8000, hop=1)
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[Tensor] = []

    def estimate(self, mix: Tensor) -> Tensor:
        self.seen.append(mix)
        spec = torch.fft.rfft(mix)
        low = torch.fft.rfftfreq(mix.shape[-1], 1 / 8000) < 1000
        found = torch.fft.irfft(torch.stack([spec * low, spec * ~low], 1), mix.shape[-1])
        return torch.cat([found, 0 * found], 1)


def tones(folder: Path) -> Manifest:
    """Two sources, the second a quarter as long as the mixture, whose file holds something else altogether."""
    t = np.arange(4000) / 8000
    low, high = (0.1 * np.sin(2 * np.pi * hertz * t).astype(np.float32) for hertz in (200, 2000))
    for name, wave in {"mix": 0 * low, "s1": low, "s2": high[:1000]}.items():
        io.write(folder / f"{name}.wav", wave, 8000, subtype="FLOAT")
    row = Row("a", "test", "mix.wav", ("s1.wav", "s2.wav"), sample_rate=8000, frames=4000, n_src=2)
    return Manifest([row], folder, folder / "manifest.csv")


def test_a_model_gets_the_sum_of_padded_references(tmp_path: Path) -> None:
    model = Splitter()
    rows = evaluate.score_model(model, tones(tmp_path), [], protocol=SAIJO)
    (mix,) = model.seen
    assert mix.shape == (1, 4000) and float(mix[0, :1000].std()) > 1.3 * float(mix[0, 1000:].std())
    assert [row["source"] for row in rows] == ["s1", "s2"] and all(row["imp"] > 5 for row in rows)
    assert (rows[0]["k"], rows[0]["n_est"], rows[0]["n_out"]) == (2, 2, 4)


def test_folders_by_protocol_open_no_mixture_and_pad_references(tmp_path: Path) -> None:
    tones(tmp_path / "ref")
    for k, name in ((1, "s2"), (2, "s1")):
        wave, rate = io.read_mono(tmp_path / f"ref/{name}.wav")
        io.write(tmp_path / f"est/a/s{k}.wav", np.pad(wave, (0, 4000 - len(wave))), rate, subtype="FLOAT")
        io.write(tmp_path / f"true/a/{name}.wav", wave, rate, subtype="FLOAT")
    rows = evaluate.score_folders(tmp_path / "est", tmp_path / "true", None, [], protocol=GOOGLE)
    assert [row["si-snr"] > 70 for row in rows] == [True, True]
    (tmp_path / "est/a/s2.wav").unlink()
    (tmp_path / "est/a").rename(tmp_path / "est/b")
    (tmp_path / "true/b").mkdir()
    for name in ("s1", "s2"):
        io.write(tmp_path / f"true/b/{name}.wav", io.read_mono(tmp_path / f"true/a/{name}.wav")[0], 8000)
    rows = evaluate.score_folders(tmp_path / "est", tmp_path / "true", None, [], protocol=GOOGLE, skip_missing=True)
    assert [(row["id"], row["reason"]) for row in rows][:2] == [("a", "no estimate"), ("a", "no estimate")]
    assert fuss_scores.skipped(rows) == 0
