"""What the engine relies on, for every registered objective and loss, and for every small model."""

from __future__ import annotations

import copy

import pytest
import torch

from usepcli import registry
from usepcli.data.manifest import Phrase
from usepcli.errors import ConfigError
from usepcli.objectives.base import Objective, Shared, Terms

OPTIONS = {
    "pit": [{}, {"zero_refs": "ignore"}, {"residual": True, "perm_loss": "unthresholded"}],
    "fixed": [{}, {"zero_refs": "ignore", "residual": True}],
    "remixit": [{}, {"shuffle": "free", "n_remix": 2, "teacher": "copy_step", "renormalize": True}],
    "self_remixing": [{}, {"shuffle": "free", "teacher": "ema_step", "supervised_fraction": 0.25}],
    "sup_self_remixing": [{}, {"shuffle": "cyclic", "residual": False}],
    "mixcycle": [{}, {"init_epochs": 0}],
    "text_weak": [{"cnt": 0.0}, {"cnt": 0.0, "absent": 0.5}],  # judges are tried where they are
    "weak_sup": [{"classifier": 0.0, "absent_classes": 1}],
    "text_semi": [{"cnt": 0.0, "absent": 0.5}],
    "text_supervised": [{"cnt": 0.0, "absent": 0.5}],
    "mix_and_separate": [{}, {"absent": 0.5}],
    "oct": [{}, {"asked": 0.0}],
    "contrastive": [{}, {"noisy": 0.9, "mixed": 0.0}],
    "mixit": [{}, {"supervised_fraction": 0.5, "p0": 0.5, "single_source_prob": 0.5, "normalize_mom": True}],
}
ASKING = [name for name in registry.OBJECTIVES if registry.load("objective", name).asks]
# Those that learn from embeddings need a model that has them, and have tests of their own; as has what needs turns.
UNASKED = [name for name in registry.OBJECTIVES if name not in (*ASKING, *registry.EMBEDDING, "pixit")]
# Those that train no separator have models and data of their own, and tests of their own.
ASKING = [name for name in ASKING if name not in registry.PREPARING]
CASES = [
    (name, loss, options)
    for name in UNASKED
    for loss in registry.LOSSES
    if registry.load("loss", loss).domain == "wave"
    for options in OPTIONS.get(name, [{}])
]


def two_steps(objective: Objective, batch) -> list[Terms]:
    groups = objective.groups()
    optimizers = {name: torch.optim.SGD(module.parameters(), 1e-4) for name, module in groups.items()}
    objective.rng.manual_seed(3)
    done = []
    for _ in range(2):
        shared = Shared(graphs=True)
        for step in objective.steps():
            terms = step.terms(batch, shared)
            before = {n: copy.deepcopy(m.state_dict()) for n, m in groups.items()}
            total = sum(terms.losses.values())
            assert total.ndim == 0 and torch.isfinite(total)
            optimizers[step.group].zero_grad()
            total.backward(inputs=list(groups[step.group].parameters()))
            optimizers[step.group].step()
            for name, module in groups.items():
                moved = any(not torch.equal(before[name][k], v) for k, v in module.state_dict().items())
                assert moved == (name == step.group)
            done.append(terms)
    objective.on_epoch_end()
    return done


@pytest.mark.parametrize(("name", "loss", "options"), CASES)
def test_two_steps_are_finite_and_move_their_own_group(name, loss, options, make_model, make_batch) -> None:
    objective = registry.load("objective", name)(make_model(4), registry.load("loss", loss)(), **options)
    objective.check(4)
    assert {"mix"} <= objective.needs <= {"mix", "sources"}
    assert two_steps(objective, make_batch())
    for value in objective.step_logs.values():
        assert not (isinstance(value, torch.Tensor) and value.requires_grad)


@pytest.mark.parametrize("name", UNASKED)
def test_the_generator_alone_decides_the_draws(name, make_model, make_batch) -> None:
    options = OPTIONS.get(name, [{}])[-1]
    objective = registry.load("objective", name)(make_model(4), registry.load("loss", "snr")(), **options)

    def total(seed: int) -> float:
        objective.rng.manual_seed(seed)
        return float(sum(objective.steps()[0].terms(make_batch(), Shared(True)).losses.values()).detach())

    torch.manual_seed(1)
    first = total(5)
    torch.manual_seed(2)
    assert total(5) == first


@pytest.mark.parametrize("name", UNASKED)
def test_empty_batches_are_refused(name, make_model) -> None:
    objective = registry.load("objective", name)(make_model(2), registry.load("loss", "snr")())
    with pytest.raises(ConfigError, match="batch_size"):
        objective.check(0)


@pytest.mark.parametrize("model_name", registry.UNASKED)
@pytest.mark.parametrize("name", UNASKED)
def test_real_models_take_two_steps(model_name, name, make_batch) -> None:
    kind = registry.load("model", model_name)
    torch.manual_seed(0)
    model = kind(**{**kind.PRESETS["tiny"], "n_src": 4})
    # Untrained outputs that add up to the MoM may all go to one mixture, which has no gradient: a supervised
    # share moves the model whatever its first outputs are.
    options = OPTIONS.get(name, [{}])[-1]
    objective = registry.load("objective", name)(model, registry.load("loss", "snr")(), **options)
    # Where a copy of the student teaches and outputs add up to the mixture, nothing is to be learned but rounding.
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.05)
    two_steps(objective, make_batch(length=2000))


def asked(name: str, options: dict) -> Objective:
    """An objective of a model by query, with the first loss that it can use."""
    kind = registry.load("model", "audio_text" if name == "contrastive" else "cond_unet")
    torch.manual_seed(0)
    own = {"traits": ("louder", "harmonic"), "refine": True} if name == "oct" else {}
    words = {"conditioner": "labels", "classes": ("dog", "rain", "dog and rain", "x"), **own}
    model = kind(**{**kind.PRESETS["tiny"], **words})
    objective = registry.load("objective", name)
    loss = next(loss for loss in registry.LOSSES if registry.load("loss", loss).domain in objective.domains)
    loss = "magnitude_l1" if "spectrum" in objective.domains else loss
    return objective(model, registry.load("loss", loss)(), **options)


def in_words(batch):
    """A batch whose mixtures are known in words; neighbours share none."""
    batch.queries = [("dog", "rain"), ("x", "dog and rain")] * (len(batch) // 2)
    batch.phrases = [tuple(Phrase(query) for query in own) for own in batch.queries]
    batch.caption = ["dog and rain", "x"] * (len(batch) // 2)
    batch.known = [True, True, False, False]  # read by objectives that learn from both alone
    return batch


@pytest.mark.parametrize("name", ASKING)
def test_objectives_of_models_by_query_take_two_steps_and_draw_by_their_generator(name, make_batch) -> None:
    options = OPTIONS.get(name, [{}])[-1]
    objective, batch = asked(name, options), in_words(make_batch(length=2000))
    assert {"mix"} < objective.needs <= {"mix", "sources", "queries", "caption", "phrases", "label"}
    two_steps(objective, batch)
    totals = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        again = asked(name, options)
        again.rng.manual_seed(5)
        torch.manual_seed(seed)
        totals.append(float(sum(again.steps()[0].terms(batch, Shared(True)).losses.values()).detach()))
    assert totals[0] == totals[1]
    with pytest.raises(ConfigError, match="batch_size"):
        objective.check(0)


@pytest.mark.parametrize("name", ASKING)
def test_mixtures_of_two_three_and_four_sources_meet_in_a_batch(name, make_batch) -> None:
    """Some with phrases left out, and none the worse for whom it meets: what counts is its own number of words."""
    objective, batch = asked(name, OPTIONS[name][0]), make_batch(size=6, n_ref=4, length=2000)
    words = ("dog", "rain", "dog and rain", "x")
    batch.queries = [words[:2], words[2:], words[:3], words[3:], words, words[1:3]]
    for k, own in enumerate(batch.queries):
        batch.sources[k, len(own) :] = 0.0
    batch.mix = batch.sources.sum(1)
    batch.phrases = [tuple(Phrase(query) for query in own) for own in batch.queries]
    batch.caption, batch.incomplete = [own[0] for own in batch.queries], [False, False, True, False, False, True]
    batch.known = [True, False, False, False, True, True] if objective.split else []
    if name == "weak_sup":
        batch.sources = None
    for terms in two_steps(objective, batch):
        assert all(torch.isfinite(value) for value in terms.losses.values())
