"""Health figures by hand-made outputs, warnings by hand-written rows, picks by a table that one can follow."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from usepcli.audio import io
from usepcli.data.manifest import Manifest, Row
from usepcli.engine.training import health
from usepcli.errors import BadInput
from usepcli.models.separator import SeparationModel

RATE = 8000


class Shares(SeparationModel):
    """Outputs fixed shares of the mixture: nothing is separated."""

    def __init__(self, *shares: float) -> None:
        super().__init__(n_src=len(shares), sample_rate=RATE, hop=1)
        self.shares = torch.nn.Parameter(torch.tensor(shares))

    def estimate(self, mix: Tensor) -> Tensor:
        return self.shares[:, None] * mix[:, None]


def shares(est: Tensor, mix: Tensor) -> dict[str, list[float]]:
    return health.shares(est.square().sum(-1), mix)


def outputs(*amplitudes: float) -> tuple[Tensor, Tensor]:
    """Orthogonal outputs of these amplitudes (1, N, T), and their sum."""
    est = torch.zeros(1, len(amplitudes), 40 * len(amplitudes))
    for n, amplitude in enumerate(amplitudes):
        est[0, n, n :: len(amplitudes)] = amplitude
    return est, est.sum(1)


@pytest.mark.parametrize(
    ("amplitudes", "loudest", "evenness", "silent"),
    [
        ((1, 1, 1, 1), 0.25, 1.0, 0.0),
        ((1, 0, 0, 0), 1.0, 0.0, 0.75),
        ((1, 1, 0, 0), 0.5, 0.5, 0.5),
        ((2, 1), 0.8, (0.8 * math.log(1.25) + 0.2 * math.log(5)) / math.log(2), 0.0),
    ],
)
def test_shares_of_known_outputs(amplitudes: tuple[float, ...], loudest: float, evenness: float, silent: float) -> None:
    found = shares(*outputs(*amplitudes))
    assert found["loudest_share"] == pytest.approx([loudest])
    assert found["activity_entropy"] == pytest.approx([evenness])
    assert found["silent_share"] == [silent]


def test_an_output_falls_silent_at_thirty_decibels() -> None:
    # Energies 1 and e of a mixture of 1 + e: the border lies where e / (1 + e) = 1 / 1000.
    border = math.sqrt(1 / 999)
    assert shares(*outputs(1, 1.01 * border))["silent_share"] == [0.0]
    assert shares(*outputs(1, 0.99 * border))["silent_share"] == [0.5]


def test_the_channel_that_training_hears_is_the_one_that_is_scored(tmp_path: Path) -> None:
    wave = np.random.default_rng(0).uniform(-0.1, 0.1, 800).astype(np.float32)
    io.write(tmp_path / "m.wav", np.stack([wave, -wave]), RATE, "FLOAT")  # their mean is silence
    manifest = Manifest([Row("m", "", "m.wav", sample_rate=RATE, frames=800)], tmp_path, tmp_path / "manifest.csv")
    assert math.isnan(health.from_mixtures(Shares(0.8, 0.2), manifest)["silent_share"])
    assert health.from_mixtures(Shares(0.8, 0.2), manifest, channels="first")["silent_share"] == 0


def test_silence_has_no_shares() -> None:
    found = shares(torch.zeros(1, 2, 10), torch.zeros(1, 10))
    assert all(math.isnan(values[0]) for values in found.values())
    dead = shares(torch.zeros(1, 2, 10), torch.ones(1, 10))
    assert dead["silent_share"] == [1.0] and math.isnan(dead["loudest_share"][0])


def test_agreement_is_the_si_snr_in_the_best_order() -> None:
    a = outputs(1, 1, 1)[0][0].numpy()
    # A tenth of another output's amplitude: 20 dB, whatever the order, the level and the side.
    b = a + 0.1 * a[[1, 2, 0]]
    assert health.agreement(a, 3 * b[[2, 0, 1]]) == pytest.approx(20, abs=0.01)
    assert health.agreement(b, a) == pytest.approx(20, abs=0.01)
    assert health.agreement(a, a) == pytest.approx(health.AGREEMENT_MAX_DB, abs=0.01)


def test_agreement_of_unequal_numbers_of_outputs() -> None:
    a = outputs(1, 1, 1, 1)[0][0].numpy()
    b = (a + 0.1 * a[[1, 2, 3, 0]])[[3, 1]]
    assert health.agreement(a, b) == pytest.approx(health.agreement(b, a)) == pytest.approx(20, abs=0.01)


def test_agreement_passes_over_outputs_that_are_as_good_as_silent() -> None:
    a = outputs(1, 1, 1)[0][0].numpy()
    noise = 1e-3 * np.random.default_rng(0).standard_normal(a[2].shape)
    b = a + 0.1 * a[[1, 0, 2]]
    a[2], b[2] = noise, noise[::-1]
    assert health.agreement(b, a) == pytest.approx(20, abs=0.02)
    assert math.isnan(health.agreement(0 * a, b))


def test_figures_are_means_over_the_mixtures_of_a_manifest(corpus: Path) -> None:
    manifest = Manifest.read(corpus).split("valid")
    for row in manifest.rows:
        for source in row.sources:
            manifest.resolve(source).unlink()
    found = health.from_mixtures(Shares(0.8, 0.4), manifest, teacher=Shares(0.3, 0.7))
    assert found["loudest_share"] == pytest.approx(0.8) and found["silent_share"] == 0
    # Both give copies of the mixture, which agree without bound.
    assert found["teacher_agreement"] == pytest.approx(health.AGREEMENT_MAX_DB, abs=0.1)
    assert list(health.from_mixtures(Shares(1.0), manifest)) == []
    assert health.from_mixtures(Shares(0.8, 0.4), manifest, seconds=0.1)["loudest_share"] == pytest.approx(0.8)


def test_mixtures_that_were_separated_already_are_not_separated_again(corpus: Path) -> None:
    manifest, model = Manifest.read(corpus).split("valid"), Shares(0.8, 0.4)
    whole = health.from_mixtures(model, manifest)
    calls: list[int] = []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    with health.Overheard(model) as overheard:
        health.from_mixtures(model, manifest)
        once = len(calls)
        assert health.from_mixtures(model, manifest, overheard=overheard) == whole
        assert len(calls) == once == len(manifest.rows)
        health.from_mixtures(model, manifest, seconds=0.1, overheard=overheard)  # other signals
        taught = health.from_mixtures(model, manifest, teacher=Shares(0.3, 0.7), overheard=overheard)
        assert len(calls) == 3 * once and "teacher_agreement" in taught
    torch.nn.init.zeros_(model.shares)
    health.from_mixtures(model, manifest)
    assert overheard.powers(torch.zeros(1, 5)) is None  # nothing is heard outside


class Off(Shares):
    """Shares of the mixture, and something orthogonal to it in the first output."""

    def estimate(self, mix: Tensor) -> Tensor:
        est = super().estimate(mix).clone()
        other = mix.roll(1000, -1)
        other = other - mix * (other * mix).sum() / mix.square().sum()
        est[:, 0] = est[:, 0] + 0.2 * self.shares[0] * other * mix.norm() / other.norm()
        return est


def test_likeness_to_the_input_is_taken_after_mixture_consistency(corpus: Path) -> None:
    manifest = Manifest.read(corpus).split("valid")
    assert health.likeness_to_input(Shares(0.5, 0.5), manifest) == pytest.approx(health.AGREEMENT_MAX_DB, abs=0.1)
    # e1 = x/2 + d, e2 = x/2 with ||d|| = ||x||/10: consistency shares d out, +d/2 and -d/2. ||x/2|| / ||d/2|| = 10.
    assert health.likeness_to_input(Off(0.5, 0.5), manifest) == pytest.approx(20, abs=0.01)


def row(**values: float) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}


def test_the_trivial_solution_is_told_at_the_second_validation() -> None:
    loud, calm = row(loudest_share=0.97), row(loudest_share=0.94)
    assert not health.warnings([loud]) and not health.warnings([loud, calm]) and not health.warnings([calm, loud])
    (line,) = health.warnings([calm, loud, loud])
    assert "trivial" in line and "97 and 97 %" in line
    assert not health.warnings([loud, {"loudest_share": ""}])
    assert not health.warnings([])


def test_under_separation_is_told_when_silence_grows_while_momi_falls() -> None:
    bad = [row(silent_share=s, momi=m) for s, m in ((0.1, 5), (0.2, 4), (0.3, 3.5))]
    (line,) = health.warnings(bad)
    assert "under-separation" in line and "10, 20, 30 %" in line and "5.00, 4.00, 3.50 dB" in line
    assert not health.warnings(bad[:2])
    better = [row(silent_share=s, momi=m) for s, m in ((0.1, 5), (0.2, 6), (0.3, 7))]
    assert not health.warnings(better), "silence where momi rises is sparsity"


def history(momi: list[float], loss: list[float], every: int = 100, logged: int = 50) -> tuple[list[dict], dict]:
    """Rows of valid.csv and columns of train.csv; the loss falls in a straight line between validations."""
    valid = [row(step=every * (i + 1), momi=value) for i, value in enumerate(momi)]
    steps = np.arange(logged, every * len(momi) + 1, logged)
    knots = [every * i for i in range(len(momi) + 1)]
    return valid, {"step": steps, "loss": np.interp(steps, knots, [loss[0], *loss])}


# small_remixit on 160 mixtures with a teacher of 0.9 per epoch of ten updates, and with 0.9 per 500 updates.
COLLAPSED = [0.198, 0.001, -0.622, -1.310, -1.712, -1.963]
LOSSES = [-3.28, -3.76, -4.95, -6.36, -7.40, -8.24]
ROSE = [0.232, 0.212, 0.349, 0.286, 0.478, 0.709]


def test_a_collapse_is_told_when_momi_falls_while_the_loss_improves() -> None:
    valid, trained = history(COLLAPSED, LOSSES)
    told = [bool(health.collapse(valid[:n], trained)) for n in range(len(valid) + 1)]
    assert told == [False, False, False, False, True, True, True]
    (line,) = health.collapse(valid, trained)
    assert line.startswith("warning: momi falls (-0.14 dB at step 300, -1.66 at 600, means of 3 validations)")
    assert "while the loss improves (-3." in line and "teacher" not in line
    taught = [{**one, "teacher_agreement": "33"} for one in valid]
    assert "objective.teacher_half_life_updates" in health.collapse(taught, trained)[0]


@pytest.mark.parametrize(
    ("momi", "loss"),
    [
        (ROSE, LOSSES),
        (COLLAPSED, LOSSES[::-1]),  # the loss rises, too: it has diverged, and that is told elsewhere
        ([1.0, 1.3, 0.9, 1.2, 0.8, 1.1], LOSSES),  # to and fro
        ([1.0, 2.0, 3.0, 3.1, 1.0, 3.0], LOSSES),  # one bad validation
        ([math.nan] * 6, LOSSES),
    ],
)
def test_healthy_histories_are_left_alone(momi: list[float], loss: list[float]) -> None:
    assert not health.collapse(*history(momi, loss))


def test_a_collapse_is_seen_whatever_the_logs_skip() -> None:
    # Losses logged more rarely than is validated, and a row without a score.
    valid, trained = history(COLLAPSED, LOSSES, every=100, logged=200)
    assert not health.collapse(valid, trained)  # three validations with losses, one window
    longer = history(
        [0.2, 0.2, 0.1, 0.1, *COLLAPSED[2:], -2.0, -2.1, -2.1, -2.2],
        [-3.0, -3.1, -3.2, -3.3, *LOSSES[2:], -9, -9.1, -9.2, -9.3],
    )
    seldom = longer[1]["step"] % 200 == 0
    assert health.collapse(longer[0], {name: column[seldom] for name, column in longer[1].items()})
    longer[0][5]["momi"] = ""
    assert health.collapse(*longer)
    assert not health.collapse(longer[0], {}) and not health.collapse([], longer[1])


def test_words_name_what_is_there() -> None:
    assert health.said({}) == ""
    words = health.said({"loudest_share": 0.613, "activity_entropy": 0.5, "silent_share": 0.25})
    assert "61 %" in words and "25 % of the outputs are silent (30 dB below" in words and "teacher" not in words
    assert "agree to 12.3 dB" in health.said({"teacher_agreement": 12.34})


def table(folder: Path, *rows: str) -> Path:
    (folder / "valid.csv").write_text("epoch,step,momi,loudest_share,si-snri\n" + "".join(f"{r}\n" for r in rows))
    return folder / "valid.csv"


def test_picks_compare_the_chosen_validation_with_the_best(tmp_path: Path) -> None:
    path = table(tmp_path, "1,10,1.0,0.9,2.0", "2,20,3.0,0.6,5.0", "3,30,2.5,0.5,6.0", "4,40,,0.4,9", "5,50,1,0.7,4.0")
    found = health.picks(path, "momi", "si-snri")
    assert (found["n"], found["picked_step"], found["picked"]) == (4, 20, 5.0)
    assert (found["best_step"], found["best"], found["lost"]) == (30, 6.0, 1.0)
    assert (found["last_step"], found["last"]) == (50, 4.0)
    # Ranks of momi 1.5 4 3 1.5 and of si-snri 1 3 4 2.
    a, b = np.array([1.5, 4, 3, 1.5]), np.array([1.0, 3, 4, 2])
    assert found["spearman"] == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert found["pearson"] == pytest.approx(np.corrcoef([1, 3, 2.5, 1], [2, 5, 6, 4])[0, 1])


def test_picks_know_which_way_is_better(tmp_path: Path) -> None:
    path = table(tmp_path, "1,10,1.0,0.9,2.0", "2,20,3.0,0.6,5.0", "3,30,2.5,0.5,6.0")
    found = health.picks(path, "loudest_share", "si-snri")
    assert found["picked_step"] == 30 and found["lost"] == 0 and found["spearman"] == -1


def test_picks_need_both_columns(tmp_path: Path) -> None:
    path = table(tmp_path, "1,10,1.0,0.9,2.0")
    with pytest.raises(BadInput, match=r"valid\.csv: unknown column 'mom1'.*did you mean 'momi'"):
        health.picks(path, "mom1", "si-snri")
    with pytest.raises(BadInput, match="no validation with both"):
        health.picks(table(tmp_path, "1,10,,0.9,2.0"), "momi", "si-snri")
