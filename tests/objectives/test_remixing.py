"""RemixIT, Self-Remixing and their kin, on models whose outputs are known."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from usepcli import registry
from usepcli.data.batch import Batch
from usepcli.dsp import shuffle
from usepcli.errors import BadInput, ConfigError
from usepcli.models.fixed import Fixed
from usepcli.models.separator import SeparationModel
from usepcli.objectives.base import Shared
from usepcli.objectives.mixcycle import MixCycle
from usepcli.objectives.remix_cycle import RemixCycle
from usepcli.objectives.remixing import Remixed, RemixIT, SelfRemixing
from usepcli.objectives.sup_remixing import SupRemixIT, SupSelfRemixing
from usepcli.objectives.supervised import Place
from usepcli.objectives.teacher import Teacher
from usepcli.objectives.ts_mixit import TeacherStudentMixIT

SNR = registry.load("loss", "snr")


class Bands(SeparationModel):
    """A perfect separator of signals in disjoint bands, times one weight that can learn."""

    def __init__(self, n_src: int = 3, input_norm: str = "none") -> None:
        super().__init__(n_src=n_src, sample_rate=8000, hop=1, input_norm=input_norm)  # type: ignore[arg-type]
        self.gain = nn.Parameter(torch.ones(()))

    def estimate(self, mix: Tensor) -> Tensor:
        spec = torch.fft.rfft(mix)
        edges = torch.linspace(0, spec.shape[-1], self.n_src + 1).long().tolist()
        parts = []
        for low, high in itertools.pairwise(edges):
            part = torch.zeros_like(spec)
            part[:, low:high] = spec[:, low:high]
            parts.append(torch.fft.irfft(part, mix.shape[-1]))
        return torch.stack(parts, 1) * self.gain


class Bypass(SeparationModel):
    """The trivial solution: the first output is the mixture, the others are silent."""

    def __init__(self, n_src: int = 3) -> None:
        super().__init__(n_src=n_src, sample_rate=8000, hop=1)
        self.gain = nn.Parameter(torch.ones(()))

    def estimate(self, mix: Tensor) -> Tensor:
        return torch.stack([mix * self.gain] + [mix * 0] * (self.n_src - 1), 1)


def batch_of(size: int = 6, n_src: int = 3, length: int = 600, seed: int = 0) -> Batch:
    """Mixtures of n_src sources in disjoint bands, at different levels."""
    noise = torch.randn(size * n_src, length, generator=torch.Generator().manual_seed(seed))
    sources = Bands(n_src)(noise).detach().unflatten(0, (size, n_src))  # (B, K, N, T)
    own = torch.stack([sources[:, k, k] for k in range(n_src)], 1)
    own = own * torch.linspace(0.5, 2, size)[:, None, None]
    return Batch(own.sum(1), own, [str(i) for i in range(size)])


def loss_of(objective, batch: Batch, seed: int = 1) -> float:
    objective.rng.manual_seed(seed)
    return float(sum(objective.losses(batch).values()).detach())


@pytest.mark.parametrize("kind", [RemixIT, SelfRemixing])
@pytest.mark.parametrize("channel_shuffle", [True, False])
@pytest.mark.parametrize("how", ["constrained", "free", "cyclic"])
def test_a_perfect_student_and_teacher_reach_the_bound(kind, channel_shuffle: bool, how: str) -> None:
    # A free shuffle with channel shuffle may put two outputs of one band together, which no filter takes apart.
    objective = kind(Bands(), SNR(), shuffle=how, channel_shuffle=False, teacher_init="copy")
    assert loss_of(objective, batch_of()) == pytest.approx(-30, abs=0.01)
    if channel_shuffle:
        shuffled = kind(Bands(), SNR(), shuffle=how, channel_shuffle=True, teacher_init="copy")
        assert loss_of(shuffled, batch_of()) > -30.1


def test_the_trivial_solution_is_perfect_for_self_remixing_without_channel_shuffle_but_not_with_it() -> None:
    # One loud output and silent ones: every pseudo-mixture is one mixture, and nothing needs to be separated.
    plain = SelfRemixing(Bypass(), SNR(), channel_shuffle=False, teacher_init="copy")
    # Consistency spreads nothing: the outputs add up to the mixture already.
    assert loss_of(plain, batch_of()) == pytest.approx(-30, abs=0.01)
    shuffled = SelfRemixing(Bypass(), SNR(), channel_shuffle=True, teacher_init="copy")
    assert loss_of(shuffled, batch_of()) > -15


def test_self_remixing_has_no_gradient_through_the_order_and_teachers_have_none_at_all() -> None:
    for kind in (RemixIT, SelfRemixing):
        objective = kind(Bands(), SNR(), teacher_init="copy")
        with torch.no_grad():
            objective.student.gain.mul_(0.7)
        sum(objective.losses(batch_of()).values()).backward()
        assert objective.student.gain.grad is not None
        assert objective.student.gain.grad.abs() > 0
        assert all(p.grad is None and not p.requires_grad for p in objective.teacher.parameters())
        assert set(objective.groups()) == {"model"}
        objective.train()
        assert not objective.teacher.training


def test_pseudo_mixtures_hold_every_source_once_and_add_up() -> None:
    objective = RemixIT(Bands(input_norm="std"), SNR(), teacher_init="copy")
    batch = batch_of()
    mix, _ = objective._level(batch)
    torch.testing.assert_close(mix.std(-1, correction=0), torch.ones(len(mix)), rtol=1e-4, atol=1e-4)
    remixed = objective.remix(mix)
    torch.testing.assert_close(remixed.sources.sum(1), remixed.pseudo)
    back = shuffle.restore(remixed.sources, remixed.order)
    torch.testing.assert_close(back.sum(1), mix, atol=1e-5, rtol=1e-5)
    # Not re-normalised: the sums keep the levels that the shuffle gives them.
    assert remixed.pseudo.std(-1).std() > 1e-3


def test_the_strongest_outputs_are_kept_in_order_and_made_consistent_again() -> None:
    objective = RemixIT(Bands(3), SNR(), n_remix=2, teacher_init="copy")
    est = torch.tensor([[[1.0, 1.0], [0.1, 0.1], [3.0, 3.0]]])
    kept = objective.strongest(est, torch.tensor([[5.0, 5.0]]))
    torch.testing.assert_close(kept, torch.tensor([[[1.5, 1.5], [3.5, 3.5]]]))


def by_hand(kind: str, loss, remixed, est: Tensor, n_remix: int) -> float:
    """The authors' way, one pseudo-mixture after the other: loudest outputs, every order, restored one by one."""
    values, kept = [], []
    for refs, outputs in zip(remixed.sources, est, strict=True):
        loudest = sorted(sorted(range(len(outputs)), key=lambda n: -float(outputs[n].square().mean()))[:n_remix])
        orders = [[loudest[i] for i in order] for order in itertools.permutations(range(n_remix))]
        each = [float(loss(outputs[order], refs, refs.sum(0)[None]).mean()) for order in orders]
        values.append(min(each))
        kept.append(outputs[orders[each.index(min(each))]])
    if kind == "remixit":
        return sum(values) / len(values)
    back = torch.zeros(len(est), n_remix, est.shape[-1])
    for b, outputs in enumerate(kept):
        for n, output in enumerate(outputs):
            back[remixed.order[n, b], n] = output
    return float(loss(back.sum(1), remixed.mix).mean())


class Spread(Bands):
    """Bands at levels that differ from one mixture to the next, so that other outputs are the loudest."""

    def estimate(self, mix: Tensor) -> Tensor:
        level = mix[:, :4].softmax(-1)[:, : self.n_src, None] + 0.1
        return super().estimate(mix) * level


@pytest.mark.parametrize("kind", [RemixIT, SelfRemixing])
@pytest.mark.parametrize("n_remix", [2, 3, 4])
def test_the_students_loudest_outputs_alone_are_compared_with_fewer_sources(kind, n_remix: int) -> None:
    objective = kind(Spread(4), SNR(), n_remix=n_remix, teacher_init="copy")
    batch = batch_of(6, n_src=4)
    objective.rng.manual_seed(3)
    remixed = objective.remix(batch.mix)
    objective.rng.manual_seed(3)
    ((name, value),) = objective.losses(batch).items()
    est = objective.student(remixed.pseudo).detach()
    assert float(value.detach()) == pytest.approx(by_hand(name, SNR(), remixed, est, n_remix), abs=1e-4)
    value.backward()
    assert objective.student.gain.grad.abs() > 0
    if n_remix < 4:  # other outputs in other mixtures, and not those of the teacher
        energy = est.square().sum(-1).topk(n_remix, dim=-1).indices.sort(-1).values
        assert len({tuple(row) for row in energy.tolist()}) > 1


def test_no_output_beyond_those_remixed_is_asked_to_be_silent() -> None:
    # A student with one loud output too many: its quietest, a tenth of the others, costs nothing.
    objective = RemixIT(Bands(3), SNR(), n_remix=2, channel_shuffle=False, teacher_init="copy")
    ref = batch_of(4, n_src=3).sources[:, :2]
    remixed = Remixed(ref.sum(1), ref, ref.sum(1), torch.arange(4).repeat(2, 1))
    spare = 0.1 * torch.randn(4, 1, ref.shape[-1], generator=torch.Generator().manual_seed(1))
    objective._separate = lambda pseudo: torch.cat([spare, ref], 1)  # type: ignore[method-assign]
    assert float(objective._unsupervised(remixed)["remixit"]) == pytest.approx(-30, abs=0.01)


def test_the_enhancement_form_moves_the_noise_alone() -> None:
    objective = RemixIT(
        Bands(2), SNR(), shuffle="free", channel_shuffle=False, roles="fixed", shuffled=[1], teacher_init="copy"
    )
    batch = batch_of(n_src=2)
    objective.rng.manual_seed(0)
    remixed = objective.remix(batch.mix)
    truth = objective.sources(batch.mix, None, batch.mix)
    torch.testing.assert_close(remixed.sources[:, 0], truth[:, 0])
    assert not torch.allclose(remixed.sources[:, 1], truth[:, 1])
    torch.testing.assert_close(remixed.sources[:, 1], truth[remixed.order[1], 1])
    # Fixed roles: outputs that are swapped are wrong, however well they would fit.
    est = remixed.sources.flip(1)
    assert objective.pair(est, remixed).loss.mean() > 0
    assert objective.pair(remixed.sources, remixed).loss.mean() == pytest.approx(-30, abs=0.01)


def test_a_constrained_noise_shuffle_gives_no_mixture_its_own_noise() -> None:
    objective = RemixIT(Bands(2), SNR(), channel_shuffle=False, roles="fixed", shuffled=[1], teacher_init="copy")
    for seed in range(20):
        objective.rng.manual_seed(seed)
        order = objective.remix(batch_of(4, n_src=2).mix).order
        assert torch.equal(order[0], torch.arange(4))
        assert (order[1] != order[0]).all()
    with pytest.raises(ConfigError, match=r"raise train\.batch_size"):
        objective.check(1)


def test_supervised_forms_reach_the_bound_and_survive_silence() -> None:
    batch = batch_of()
    for kind in (SupRemixIT, SupSelfRemixing):
        objective = kind(Bands(), SNR(), channel_shuffle=False, residual=False)
        assert loss_of(objective, batch) == pytest.approx(-30, abs=0.01)
    # Two of three sources are absent and stay in their bands: many pseudo-mixtures are silent.
    batch.sources[:, 1:] = 0
    batch.sources[::2, 0] = 0
    batch = Batch(batch.sources.sum(1), batch.sources, batch.ids)
    objective = SupSelfRemixing(Bands(), SNR(), channel_shuffle=False, residual=False)
    assert loss_of(objective, batch) == pytest.approx(-30, abs=0.01)


@pytest.mark.parametrize("name", ["remixit", "self_remixing", "sup_remixit", "sup_self_remixing", "mixcycle"])
def test_silent_mixtures_teach_nothing_and_end_no_run(name: str) -> None:
    options = {"mixcycle": {"init_epochs": 0}, "remixit": {"teacher_init": "copy"}}.get(
        name, {"shuffle": "constrained"}
    )
    if name.startswith("sup"):
        options["residual"] = False
    objective = registry.load("objective", name)(Bands(), SNR(), channel_shuffle=False, **options)
    batch = batch_of()
    assert loss_of(objective, batch) == pytest.approx(-30, abs=0.01)
    silent = Batch(batch.mix * 0, batch.sources * 0, batch.ids)
    loss = sum(objective.losses(silent).values())
    loss.backward()
    assert float(loss.detach()) == 0 and float(objective.student.gain.grad) == 0


def test_silent_pseudo_mixtures_stay_out_of_the_mean() -> None:
    objective = RemixIT(Bands(2), SNR(), shuffle="free", channel_shuffle=False, teacher_init="copy")
    batch = batch_of(n_src=2)
    batch.mix[1:] = 0
    # The outputs of the one mixture lie in one or two of six sums.
    objective.rng.manual_seed(0)
    remixed = objective.remix(batch.mix)
    sounds = remixed.pseudo.any(-1)
    assert 1 <= int(sounds.sum()) <= 2
    est = objective.student(remixed.pseudo[sounds])
    expected = objective.pair(est, remixed._replace(sources=remixed.sources[sounds], pseudo=remixed.pseudo[sounds]))
    assert loss_of(objective, batch, seed=0) == pytest.approx(float(expected.loss.mean().detach()), abs=1e-4)


def test_the_loudest_share_is_that_of_the_mixtures_not_of_their_shuffled_sums() -> None:
    objective = RemixIT(Bypass(), SNR(), teacher_init="copy")
    loss_of(objective, batch_of())
    assert float(objective.step_logs["loudest_share"]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("loss", [n for n in registry.LOSSES if registry.load("loss", n).domain == "wave"])
def test_the_log_is_the_snr_whatever_the_loss(loss: str) -> None:
    roles = {"roles": "fixed", "channel_shuffle": False}
    for options in ({"channel_shuffle": False}, roles):
        objective = RemixIT(Bands(), registry.load("loss", loss)(), teacher_init="copy", **options)
        with torch.no_grad():
            objective.student.gain.mul_(0.9)
        loss_of(objective, batch_of())
        assert float(objective.step_logs["snr_db"]) == pytest.approx(20, abs=0.01)


def test_fixed_roles_are_scored_in_full_precision_under_autocast() -> None:
    objective = RemixIT(Bands(2), SNR(), channel_shuffle=False, roles="fixed", teacher_init="copy")
    with torch.no_grad():
        objective.student.gain.mul_(0.7)
    plain = loss_of(objective, batch_of(n_src=2))
    with torch.autocast("cpu", torch.bfloat16):
        assert loss_of(objective, batch_of(n_src=2)) == pytest.approx(plain, abs=1e-4)


class Level(Bands):
    """Separates what has the level that it learned at, and nothing else."""

    def __init__(self, level: float, input_norm: str) -> None:
        super().__init__(3, input_norm)
        self.level = level

    def estimate(self, mix: Tensor) -> Tensor:
        right = (mix.std(-1, correction=0) / self.level - 1).abs() < 0.01
        return super().estimate(mix) * right[:, None, None]


@pytest.mark.parametrize("own", ["none", "std", "mean_std"])
@pytest.mark.parametrize("other", ["none", "std", "mean_std"])
@pytest.mark.parametrize("renormalize", [False, True])
def test_a_teacher_hears_mixtures_at_its_own_level(own: str, other: str, renormalize: bool) -> None:
    batch = batch_of()
    level = 0.01 if other == "none" else 1.0
    batch.mix -= batch.mix.mean(-1, keepdim=True)
    batch.mix *= (0.01 / batch.mix.std(-1, correction=0))[:, None]
    objective = RemixIT(
        Bands(3, own), SNR(), channel_shuffle=False, teacher="static", teacher_model="it", renormalize=renormalize
    )
    objective.give("objective.teacher_model", Fixed(Level(level, other), "somewhere", ""))
    mix, _ = objective._level(batch)
    remixed = objective.remix(mix, None, batch.mix)
    truth = Bands(3)(mix).detach()
    torch.testing.assert_close(shuffle.restore(remixed.sources, remixed.order), truth, rtol=1e-4, atol=1e-5)


def test_a_stored_teacher_must_have_outputs_for_every_role() -> None:
    with pytest.raises(ConfigError, match="2 outputs for 3 sources"):
        RemixIT(Bands(3), SNR(), teacher="static", teacher_model="it").give(
            "objective.teacher_model", Fixed(Bands(2), "somewhere", "")
        )
    fixed = RemixIT(Bands(2), SNR(), teacher="static", teacher_model="it", roles="fixed", channel_shuffle=False)
    with pytest.raises(ConfigError, match=r"3 outputs; expected 2, since objective\.roles"):
        fixed.give("objective.teacher_model", Fixed(Bands(3), "somewhere", ""))


@pytest.mark.parametrize("kind", [SupRemixIT, SupSelfRemixing])
def test_references_add_up_to_mixtures_without_their_mean(kind) -> None:
    batch = batch_of()
    offset = torch.linspace(-1, 1, 6)[:, None]
    heavy = Batch(batch.mix + offset, batch.sources.clone(), batch.ids)
    heavy.sources[:, 0] += offset
    objective = kind(Bands(3, "mean_std"), SNR(), channel_shuffle=False, residual=False)
    mix, refs = objective._level(heavy)
    torch.testing.assert_close(refs.sum(1), mix, rtol=1e-4, atol=1e-5)
    assert loss_of(objective, heavy) == pytest.approx(-30, abs=0.01)


def test_noise_in_no_reference_is_not_asked_of_self_remixing() -> None:
    batch = batch_of()
    noisy = Batch(
        batch.mix + torch.randn(batch.mix.shape, generator=torch.Generator().manual_seed(5)), batch.sources, batch.ids
    )
    objective = SupSelfRemixing(Bands(), SNR(), channel_shuffle=False, residual=False)
    assert loss_of(objective, noisy) == pytest.approx(-30, abs=0.01)


def test_the_residual_is_one_more_reference() -> None:
    batch = batch_of(n_src=3)
    noisy = Batch(batch.mix, batch.sources[:, :2], batch.ids)
    objective = SupRemixIT(Bands(), SNR(), channel_shuffle=False)
    assert loss_of(objective, noisy) == pytest.approx(-30, abs=0.01)
    with pytest.raises(BadInput, match="4 references"):
        objective.losses(batch)


def test_a_supervised_share_weighs_its_part() -> None:
    batch = batch_of(8)
    objective = RemixIT(
        Bands(), SNR(), channel_shuffle=False, teacher_init="copy", supervised_fraction=0.25, residual=False
    )
    objective.check(8)
    terms = {name: value.detach() for name, value in objective.losses(batch).items()}
    assert float(terms["supervised"]) == pytest.approx(-30 * 0.25, abs=0.01)
    assert float(terms["remixit"]) == pytest.approx(-30 * 0.75, abs=0.01)
    with pytest.raises(ConfigError, match="supervised_fraction"):
        objective.check(1)


def test_the_supervised_share_of_remixing_is_exact_over_time() -> None:
    objective = RemixIT(
        Bands(2), SNR(), channel_shuffle=False, teacher_init="copy", supervised_fraction=0.3, residual=False
    )
    batch, parts = batch_of(4, n_src=2), 3
    objective.place = Place(parts=parts)
    objective.check(4)
    known = 0
    for step in range(1, 11):
        for part in range(parts):
            terms = objective.steps()[0].terms(batch, Shared(True, Place(step, part, parts)))
            assert set(terms.losses) == {"remixit", "supervised"}
            # A perfect student has -30 dB on either part, and each weighs as much as its mixtures.
            assert float(sum(terms.losses.values()).detach()) == pytest.approx(-30, abs=0.1)
            known += round(float(terms.losses["supervised"].detach()) / -30 * 4)
    assert known == 36  # 0.3 of 4 x 3 x 10


def test_a_supervised_share_leaves_two_mixtures_to_shuffle() -> None:
    objective = RemixIT(Bands(2), SNR(), shuffle="free", supervised_fraction=0.5, residual=False)
    with pytest.raises(ConfigError, match=r"0\.5 leaves 1 of 2 mixtures of a micro-batch to shuffle"):
        objective.check(2)
    objective.check(4)


def test_protocols_follow_by_their_arithmetic() -> None:
    def follow(protocol: str, ema: float = 0.8, period: int = 1, steps: int = 4, epochs: int = 2) -> float:
        student = Bands()
        teacher = Teacher(student, protocol, ema, period, "copy")
        teacher.steps_per_epoch = steps
        with torch.no_grad():
            student.gain.fill_(2.0)  # the teacher starts at 1
        for _ in range(epochs):
            for _ in range(steps):
                teacher.on_step_end(student)
            teacher.on_epoch_end(student)
        return float(teacher.model.gain)

    assert follow("static") == 1.0
    assert follow("copy_step") == 2.0
    assert follow("ema_epoch") == pytest.approx(2 - 0.8**2)
    assert follow("ema_step") == pytest.approx(2 - 0.8**2)
    assert follow("ema_period", ema=0.9, period=2) == pytest.approx(2 - 0.9)
    assert follow("sequential", period=3) == 1.0
    assert follow("sequential", period=2) == 2.0


def test_integer_buffers_are_copied_not_averaged() -> None:
    student = Bands()
    student.register_buffer("count", torch.tensor(7))
    teacher = Teacher(student, "ema_epoch", 0.8, 1, "copy")
    student.count.fill_(9)
    teacher.on_epoch_end(student)
    assert int(teacher.model.count) == 9


def test_independent_teachers_start_elsewhere_and_copies_do_not() -> None:
    kind = registry.load("model", "conformer_mask")
    torch.manual_seed(0)
    student = kind(**kind.PRESETS["tiny"])
    start = {k: v.clone() for k, v in student.state_dict().items()}
    for init, equal in (("copy", True), ("independent", False)):
        own = Teacher(student, "static", 0.8, 1, init).model.state_dict()
        assert all(torch.equal(own[k], v) for k, v in start.items()) == equal
        assert {k: v.shape for k, v in own.items()} == {k: v.shape for k, v in start.items()}


def test_a_stored_teacher_must_fit_the_protocol() -> None:
    objective = RemixIT(Bands(2), SNR(), teacher="static", teacher_model="somewhere")
    objective.give("objective.teacher_model", Fixed(Bands(4), "somewhere", ""))
    remixed = objective.remix(batch_of(n_src=4).mix)
    assert remixed.sources.shape[1] == 2
    kind = registry.load("model", "conformer_mask")
    tiny = {**kind.PRESETS["tiny"], "n_src": 2}
    following = RemixIT(kind(**tiny), SNR(), teacher_model="somewhere")
    with pytest.raises(ConfigError, match="static"):
        following.give("objective.teacher_model", Fixed(kind(**{**tiny, "dim": 40}), "somewhere", ""))
    with pytest.raises(ConfigError, match="8000 Hz"):
        objective.give("objective.teacher_model", Fixed(kind(**{**tiny, "sample_rate": 16000}), "somewhere", ""))


def test_teacher_student_mixit_keeps_the_strongest_outputs_of_a_wider_model() -> None:
    objective = TeacherStudentMixIT(Bands(2), SNR(), teacher_model="somewhere")
    objective.give("objective.teacher_model", Fixed(Bands(4), "somewhere", ""))
    batch = batch_of(n_src=4)
    targets = objective.targets(batch.mix)
    assert targets.shape[1] == 2
    torch.testing.assert_close(targets.sum(1), batch.mix, atol=1e-5, rtol=1e-5)
    same = TeacherStudentMixIT(Bands(3), SNR(), select="all")
    assert loss_of(same, batch_of()) == pytest.approx(-30, abs=0.01)
    with pytest.raises(ConfigError, match="4 outputs"):
        same.give("objective.teacher_model", Fixed(Bands(4), "somewhere", ""))


def test_remix_cycle_sends_its_gradient_through_both_passes() -> None:
    objective = RemixCycle(Bands(), SNR(), channel_shuffle=False)
    with torch.no_grad():
        objective.student.gain.fill_(0.9)
    objective.rng.manual_seed(0)
    loss = sum(objective.losses(batch_of()).values())
    # Consistency makes the first pass exact in sum; the second scales by g, and L falls towards g = 1.
    assert torch.autograd.grad(loss, objective.student.gain)[0] < 0
    remixed = objective.remix(batch_of().mix)
    assert remixed.pseudo.requires_grad


def test_mixcycle_changes_its_way_after_the_first_epochs() -> None:
    objective = MixCycle(Bands(), SNR(), init_epochs=1)
    objective.check(6)
    assert set(objective.losses(batch_of())) == {"mixpit"}
    objective.on_epoch_end()
    assert set(objective.losses(batch_of())) == {"mixcycle"}
    assert not any(key.startswith("first.") for key in objective.state_dict())


@pytest.mark.parametrize("batch", [2, 3, 4, 5, 7, 8, 16])
@pytest.mark.parametrize("channel_shuffle", [True, False])
def test_mixcycle_never_puts_an_old_mixture_together_again(batch: int, channel_shuffle: bool) -> None:
    objective = MixCycle(Bands(2), SNR(), init_epochs=0, channel_shuffle=channel_shuffle)
    objective.check(batch)
    mix = batch_of(batch, n_src=2).mix
    for seed in range(20):
        objective.rng.manual_seed(seed)
        remixed = objective.remix(mix)
        assert (remixed.order[0] != remixed.order[1]).all()  # two different mixtures in every sum
        apart = (remixed.pseudo[:, None] - mix[None]).norm(dim=-1) / mix.norm(dim=-1)
        assert float(apart.min()) > 0.1


def test_mixcycle_needs_two_mixtures() -> None:
    with pytest.raises(ConfigError, match=r"found 1 mixtures for 2 outputs; raise train\.batch_size"):
        MixCycle(Bands(2), SNR(), init_epochs=0).check(1)


@pytest.mark.parametrize("options", [{"init_updates": 30}, {"init_epochs": 3}])
def test_a_training_too_short_for_mixcycle_is_told(options: dict[str, int]) -> None:
    objective = MixCycle(Bands(2), SNR(), **options)
    objective.on_start(10)
    assert not objective.notes()
    objective.total_steps = 31
    assert not objective.notes()
    objective.total_steps = 30
    (line,) = objective.notes()
    assert line.startswith("warning: all 30 updates are MixPIT's, which takes the first 30 (objective.init_")


def test_mixcycle_counts_its_start_in_updates() -> None:
    objective = MixCycle(Bands(), SNR(), init_updates=2)
    objective.on_epoch_end()
    for expected in ("mixpit", "mixpit", "mixcycle"):
        assert set(objective.losses(batch_of())) == {expected}
        objective.on_step_end()
    assert "updates" in objective.state_dict() and "updates" not in MixCycle(Bands(), SNR()).state_dict()
    with pytest.raises(ConfigError, match=r"objective\.init_epochs: found 3 beside objective\.init_updates 2"):
        MixCycle(Bands(), SNR(), init_epochs=3, init_updates=2)
    with pytest.raises(ConfigError, match=r"objective\.init_updates: found -1"):
        MixCycle(Bands(), SNR(), init_updates=-1)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"n_remix": 4}, "n_remix"),
        ({"n_remix": 1}, "n_remix"),
        ({"shuffle": "random"}, "shuffle"),
        ({"roles": "fixed"}, "roles"),
        ({"shuffled": [3]}, "shuffled"),
        ({"teacher": "ema"}, "teacher"),
        ({"ema": 1.2}, "ema"),
        ({"period": 0}, "period"),
        ({"teacher_init": "random"}, "teacher_init"),
        ({"supervised_fraction": 1.0}, "supervised_fraction"),
    ],
)
def test_settings_out_of_range_name_their_key(options, key: str) -> None:
    with pytest.raises(ConfigError, match=f"objective.{key}"):
        RemixIT(Bands(3), SNR(), **options)
