"""Search, extends, overrides, precedence, and the report of all faults."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from usepcli.errors import ConfigError, InputNotFound
from usepcli.profile.bind import from_dict
from usepcli.profile.faults import ProfileError
from usepcli.profile.load import load_profile, profiles_available
from usepcli.profile.unread import check_read

Write = Callable[[str, str], str]
GOOD = "about: a toy\nmodel: {name: toy}\nloss: {gain_db: 1}\n"


def _fault(error: ProfileError, key: str) -> str:
    (found,) = [str(fault) for fault in error.faults if fault.key == key]
    return found


def test_defaults_and_origins(write: Write):
    profile = load_profile(write("a", GOOD + "optim:\n  lr: 1e-4\n"), environ={})
    assert (profile.name, profile.about, profile.optim.lr, profile.train.epochs) == ("a", "a toy", 1e-4, 10)
    assert profile.model == {"name": "toy", "preset": ""} and profile.model.name == "toy"
    assert profile.origin["optim.lr"] == "profiles/a.yaml:5"
    assert profile.origin["loss.gain_db"] == "profiles/a.yaml:3"
    assert profile.origin["train.epochs"] == profile.origin["model.width"] == "default"


def test_precedence_flags_sets_environment_profile_default(write: Write):
    name = write("a", GOOD + "train: {epochs: 1}\n")
    environ = {"USEP_TRAIN__EPOCHS": "2", "USEP_SEED": "5", "USEP_PROFILES": "", "HOME": "/"}
    sets = ["train.epochs=3"]
    flags = {"train.epochs": 4, "train.workers": None}
    seen = [
        load_profile(name, environ={}),
        load_profile(name, environ=environ),
        load_profile(name, sets, environ),
        load_profile(name, sets, environ, flags),
    ]
    assert [p.train.epochs for p in seen] == [1, 2, 3, 4]
    origins = [p.origin["train.epochs"] for p in seen]
    assert origins == ["profiles/a.yaml:4", "USEP_TRAIN__EPOCHS", "--set", "--epochs"]
    assert seen[3].seed == 5 and seen[3].train.workers == 0


def test_extends_merges_sections_and_replaces_lists(write: Write):
    write(
        "base",
        "about: base\nmodel: {name: toy, width: 3, deep: true}\nloss: {gain_db: 1}\n"
        "optim: {lr: 0.5, betas: [0.1, 0.2]}\n",
    )
    write("middle", "extends: base\nmodel: {width: 4}\n")
    profile = load_profile(write("top", "extends: middle\noptim:\n  betas: [0.3, 0.4]\n"), environ={})
    assert profile.model == {"name": "toy", "preset": "", "width": 4, "deep": True}
    assert (profile.optim.lr, profile.optim.betas, profile.about) == (0.5, [0.3, 0.4], "base")
    assert profile.origin["model.deep"] == "profiles/base.yaml:2"
    assert profile.origin["model.width"] == "profiles/middle.yaml:2"


def test_another_model_drops_the_arguments_of_the_old_one(write: Write):
    write("base", "model: {name: toy, width: 3}\nloss: {gain_db: 1}\n")
    swapped = load_profile(write("top", "extends: base\nmodel: {name: other, depth: 2}\n"), environ={})
    assert swapped.model == {"name": "other", "preset": "", "depth": 2}
    by_set = load_profile("base", ["model.depth=9", "model.name=other"], environ={})
    assert by_set.model == {"name": "other", "preset": "", "depth": 9}


def test_circle_and_unknown_parent(write: Write):
    write("a", "extends: b\n")
    write("b", "extends: a\n")
    with pytest.raises(ConfigError, match=r"extends \(profiles/b.yaml:1\): found a circle back to 'a'"):
        load_profile("a", environ={})
    write("c", "extends: aa\n")
    with pytest.raises(ConfigError, match=r"unknown profile 'aa'.*did you mean 'a'"):
        load_profile("c", environ={})
    write("d", "extends: gone.yaml\n")
    with pytest.raises(ConfigError, match=r"'gone.yaml', which does not exist"):
        load_profile("d", environ={})


def test_namesake_further_along_the_search_path_can_be_extended(write: Write, tmp_path: Path):
    far = tmp_path / "far"
    far.mkdir()
    (far / "a.yaml").write_text(GOOD + "seed: 7\n")
    profile = load_profile(write("a", "extends: a\nabout: mine\n"), environ={"USEP_PROFILES": str(far)})
    assert (profile.about, profile.seed) == ("mine", 7)


def test_search_path_and_paths(write: Write, tmp_path: Path):
    far = tmp_path / "far"
    far.mkdir()
    (far / "only_far.yaml").write_text(GOOD)
    (far / "a.yaml").write_text("about: hidden by the working folder\n")
    (far / "Not A Name.yaml").write_text(GOOD)
    write("a", GOOD)
    write("broken", "a: [")
    environ = {"USEP_PROFILES": os.pathsep.join([str(far), "/nowhere"])}
    listed = {name: about for name, about, _ in profiles_available(environ)}
    assert listed["a"] == listed["only_far"] == "a toy"
    assert listed["broken"].startswith("unreadable: ")
    assert "Not A Name" not in listed
    assert load_profile("only_far", environ=environ).origin["about"] == f"{far}/only_far.yaml:1"
    assert load_profile(str(far / "only_far.yaml"), environ={}).name == "only_far"
    with pytest.raises(InputNotFound):
        load_profile("gone.yaml", environ={})
    with pytest.raises(ConfigError, match=r"unknown profile 'only_fra' \(did you mean 'only_far'\?\)"):
        load_profile("only_fra", environ=environ)
    with pytest.raises(ConfigError, match="unknown profile"):
        load_profile("../far/only_far", environ=environ)


def test_all_faults_in_one_report(write: Write):
    name = write(
        "bad",
        "seed: 010\nmodel:\n  name: toy\n  preset: tyny\n  widht: 3\n  kind: silo\nloss: {gain_db: loud}\n"
        "train:\n  epoch: 3\n  max_steps: 1:30\n  precision: fp61\noptim: {lr: 0, betas: [0.9, x]}\n"
        "trian: 3\nseed: 1\n",
    )
    with pytest.raises(ProfileError) as caught:
        load_profile(name, ["foo", "data.cache=no", "valid.metric=si-sdr"], {"USEP_TRAIN__EPOHCS": "1"})
    error = caught.value
    assert error.code == 78
    assert str(error).startswith("profile 'bad' has 16 faults:\n  ")
    assert _fault(error, "model.preset") == (
        "model.preset (profiles/bad.yaml:4): found 'tyny', expected one of big, tiny (did you mean 'tiny'?)"
    )
    assert "(did you mean 'width'?)" in _fault(error, "model.widht")
    assert "expected one of relu, silu (did you mean 'silu'?)" in _fault(error, "model.kind")
    assert _fault(error, "loss.gain_db").endswith("found 'loud', expected a number")
    assert "profiles/bad.yaml:9" in _fault(error, "train.epoch") and "'epochs'" in _fault(error, "train.epoch")
    assert _fault(error, "train.max_steps").endswith("found '1:30', expected a whole number")
    assert "'fp61', expected one of fp32, bf16, fp16" in _fault(error, "train.precision")
    assert _fault(error, "optim.lr").endswith("found 0, expected a value greater than 0")
    assert _fault(error, "optim.betas[1]").endswith("(profiles/bad.yaml:12): found 'x', expected a number")
    assert "did you mean 'train'" in _fault(error, "trian")
    assert "expected key=value" in _fault(error, "--set")
    assert _fault(error, "data.cache") == "data.cache (--set): found 'no', expected true or false"
    assert "si-snr" in _fault(error, "valid.metric")
    assert "(USEP_TRAIN__EPOHCS): found an unknown key" in _fault(error, "train.epohcs")
    assert sum(fault.key == "seed" for fault in error.faults) == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("model.name=tpy", "model.name (--set): found 'tpy', expected one of"),
        ("model=toy", "model (--set): found 'toy', expected a section"),
        ("train=3", "train (--set): found 3, expected a section of keys"),
        ("model.width=8.0", "found 8.0, expected a whole number"),
        ("model.width=true", "found true, expected a whole number"),
        ("model.deep=1", "found 1, expected true or false"),
        ("model.gate=3", "model.gate (--set): found an unknown key"),
        ("model._hidden=3", "model._hidden (--set): found an unknown key"),
        ("model.window=hamming", "found 'hamming', expected one of hann, rect"),
        ("model.limits=[1, 2, 3]", "model.limits (--set): found [1, 2, 3], expected"),
        ("objective.loss=x", "objective.loss (--set): found an unknown key"),
        ("loss.gain_db=null", "found null, expected a number"),
        ("data.noise_snr_db=[9, 1]", "low <= high"),
        ("data.speeds=[]", "expected a list of at least 1"),
        ("optim.lr=.inf", "expected a finite number"),
        ("optim.lr={a: 1}", "found '{a: 1}', expected a plain value"),
        ("about=3", "found 3, expected text (put it in quotes)"),
        ("extends=a", "expected extends in a profile only"),
        ("seed.x=3", "seed (--set): found"),
        ("=3", "expected key=value"),
        ("loss=[]", "loss (--set): found [], expected a section"),
        ("seed=", "seed (--set): found '', expected a whole number"),
    ],
)
def test_one_wrong_set(write: Write, line: str, said: str):
    with pytest.raises(ProfileError) as caught:
        load_profile(write("a", GOOD), [line], {})
    assert said in str(caught.value)


def test_a_part_without_its_required_argument(write: Write):
    with pytest.raises(ProfileError) as caught:
        load_profile(write("a", "model: {name: other}\n"), environ={})
    assert "model.depth (profiles/a.yaml:1): found nothing" in str(caught.value)
    assert "loss.gain_db (profiles/a.yaml): found nothing" in str(caught.value)
    with pytest.raises(ProfileError, match=r"model\.name .*found nothing, expected one of"):
        load_profile(write("b", "loss: {gain_db: 1}\n"), environ={})


def test_typed_values_reach_the_profile(write: Write):
    sets = ["model.limits=[3, 4]", "model.rate=2", "model.floor=-.inf", "objective.weights={a: 1}"]
    with pytest.raises(ProfileError):
        load_profile(write("a", GOOD), sets, {})
    profile = load_profile(write("a", GOOD + "objective:\n  weights: {far: 1, near: 0.5}\n"), sets[:3], {})
    assert profile.model["limits"] == (3, 4)
    assert profile.model["rate"] == 2.0 and isinstance(profile.model["rate"], float)
    assert profile.objective.options == {"weights": {"far": 1.0, "near": 0.5}}
    assert profile.as_dict()["model"]["limits"] == [3, 4]


def test_empty_texts(write: Write):
    name = write("a", GOOD + "data: {noise: here}\n")
    assert load_profile(name, ["data.noise="], {}).data.noise == ""
    assert load_profile(name, environ={"USEP_SEED": "", "USEP_NO_KEY": ""}).seed == 0


def test_as_dict_binds_again_to_the_same_values(write: Write):
    profile = load_profile(write("a", GOOD), ["model.limits=[3, 4]", "train.epochs=2"], {})
    again = from_dict(profile.as_dict(), "a", "run.json")
    assert again.as_dict() == profile.as_dict()
    assert again.origin["train.epochs"] == "run.json"


def test_a_registered_part_without_its_module_is_a_fault(write: Write, monkeypatch: pytest.MonkeyPatch):
    from usepcli import registry

    monkeypatch.setitem(registry.MODELS, "lost", "toyparts.lost:Lost")
    monkeypatch.setitem(registry.MODELS, "nameless", "toyparts.parts:Lost")
    for name in ("lost", "nameless"):
        with pytest.raises(ProfileError, match="a part that can be used"):
            load_profile(write("a", GOOD), [f"model.name={name}"], {})


def test_paths_are_written_out_wherever_they_are_set(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(
        "far",
        "about: costs $5, ~1 h\nmodel: {name: toy}\nloss: {gain_db: 1}\ninit_from: ~/m.safetensors\n"
        "data: {manifest: ~/d, mixing: dynamic, pool: [~/p, $DATA/q, '${DATA}x/r'], noise: a$$b, noise_prob: 1.0}\n",
    )
    environ = {"HOME": "/home/me", "DATA": "/data", "USEP_INIT_FROM": "~/n"}
    found = load_profile("far", ["data.manifest=$DATA/e"], environ)
    assert (found.data.manifest, found.init_from, found.about) == ("/data/e", "/home/me/n", "costs $5, ~1 h")
    assert found.data.pool == ["/home/me/p", "/data/q", "/datax/r"] and found.data.noise == "a$b"
    with pytest.raises(ProfileError) as error:
        load_profile("far", ["data.manifest=~nobody-here/x"], {"HOME": "/home/me"})
    assert "the variable $DATA, which is not set" in _fault(error.value, "data.pool[1]")
    assert "'~nobody-here', a home folder that is not known" in _fault(error.value, "data.manifest")
    (tmp_path / "own.yaml").write_text(GOOD + "extends: ~/base.yaml\n")
    (tmp_path / "base.yaml").write_text("seed: 3\n")
    assert load_profile("~/own.yaml", (), environ).seed == 3


@pytest.mark.parametrize(
    ("sets", "key", "said"),
    [
        (["data.pool=[x]"], "data.pool", "found ['x'], expected [], since data.mixing is 'fixed'"),
        (["data.talkers=3"], "data.talkers", "found 3, expected 2, since data.mixing is 'fixed'"),
        (["data.noise=x", "data.noise_prob=0.5"], "data.noise", "since data.mixing is 'fixed'"),
        (["data.mixing=dynamic", "data.noise=x"], "data.noise", "expected data.noise_prob above 0"),
        (["data.mixing=dynamic", "data.noise_snr_db=[1, 2]"], "data.noise_snr_db", "expected data.noise beside it"),
        (["data.mixing=dynamic", "data.rooms=x"], "data.rooms", "expected data.rooms_prob above 0"),
        (["data.mixing=dynamic", "data.rooms_prob=0.5"], "data.rooms_prob", "expected data.rooms beside it"),
        (["data.mixing=dynamic", "data.low_pass_hz=[1, 2]"], "data.low_pass_hz", "expected data.low_pass_prob above 0"),
        (["data.low_pass_prob=0.5"], "data.low_pass_prob", "since data.mixing is 'fixed'"),
    ],
)
def test_a_setting_that_nothing_reads_is_a_fault(write: Write, sets: list[str], key: str, said: str) -> None:
    write("plain", GOOD)
    with pytest.raises(ProfileError) as error:
        check_read(load_profile("plain", sets))
    assert said in _fault(error.value, key)


def test_settings_at_their_defaults_and_stored_ones_are_none(write: Write) -> None:
    write("plain", GOOD)
    neutral = ["data.pool=[]", "data.epoch_items=7", "data.talkers=2", "data.join_prob=0", "data.crops=length"]
    check_read(load_profile("plain", neutral))
    stored = load_profile("plain").as_dict() | {"data": {"pool": ["x"], "talkers": 4}}
    assert from_dict(stored, "old").data.talkers == 4
