"""Blind listening tests: what is drawn, what the page may know, levels, excerpts."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from usepcli.audio.loudness import LoudnessMeter
from usepcli.engine.scoring import listening, listening_score
from usepcli.engine.scoring.scoring import Signals
from usepcli.engine.scoring.systems import System
from usepcli.errors import BadInput, IOFault, OutputError, UsageError
from usepcli.report import listening as pages

RATE = 8000


def noise(seed: int, level: float = 0.1, seconds: float = 1.0) -> np.ndarray:
    return (level * np.random.default_rng(seed).normal(size=round(seconds * RATE))).astype(np.float32)


def system(name: str = "net", items: int = 4, level: float = 1.0, silent: str = "") -> System:
    """Items of two noises; the estimates are the references at another level."""

    def signals(item: str) -> Signals:
        seed = int(item[4:])
        ref = np.stack([noise(2 * seed), noise(2 * seed + 1, 0.0 if item == silent else 0.1)])
        return Signals(item, ("s1", "s2"), level * ref, ref, ref.sum(0), rate=RATE)

    return System(name, {f"item{k}": 2 for k in range(items)}, signals)


def test_every_item_comes_once_before_any_comes_twice() -> None:
    drawn = [trial.key for trial in listening.trials([system(items=5)], "which", 8, seed=3)]
    assert sorted(key["item"] for key in drawn[:5]) == [f"item{k}" for k in range(5)]
    assert len({(key["item"], key["source"]) for key in drawn}) == 8
    assert len(list(listening.trials([system(items=5)], "which", 99))) == 10  # 5 items of two sources


def test_the_seed_decides_and_the_names_tell_nothing() -> None:
    first, again, other = (list(listening.trials([system()], "which", 4, seed)) for seed in (1, 1, 2))
    assert [t.key for t in first] == [t.key for t in again]
    assert [t.key for t in first] != [t.key for t in other]
    names = [t.key["trial"] for t in first]
    assert len(set(names)) == 4 and all(re.fullmatch("[0-9a-f]{8}", name) for name in names)


def test_the_key_is_true_of_the_sounds() -> None:
    for trial in listening.trials([system(level=0.01)], "which", 8):
        own = trial.key["source"]
        right = "a" if trial.key["a"] == own else "b"
        wrong = "b" if right == "a" else "a"
        assert {trial.key["a"], trial.key["b"]} == {"s1", "s2"}
        x = trial.sounds["x"][0]
        assert np.allclose(x, trial.sounds[right][0], atol=1e-4)  # the level of the estimate is made up for
        assert abs(np.corrcoef(x, trial.sounds[wrong][0])[0, 1]) < 0.1


def test_both_orders_are_drawn() -> None:
    drawn = [t.key for t in listening.trials([system(items=40)], "which", 40)]
    first = sum(key["a"] == key["source"] for key in drawn)
    assert 10 <= first <= 30 and {key["source"] for key in drawn} == {"s1", "s2"}


def test_two_systems_get_the_same_questions_or_meet_in_every_trial() -> None:
    pair = [system("old"), system("new", level=0.5)]
    asked = [t.key for t in listening.trials(pair, "which", 3)]
    assert len(asked) == 6
    told = [{(k["item"], k["source"]) for k in asked if k["system"] == name} for name in ("old", "new")]
    assert told[0] == told[1] and len(told[0]) == 3
    compared = list(listening.trials(pair, "preference", 8))
    assert all({t.key["a"], t.key["b"]} == {"old", "new"} for t in compared)
    assert {t.key["a"] for t in compared} == {"old", "new"}
    assert all(set(t.sounds) == {"x", "a", "b", "mixture"} for t in compared)


def test_a_silent_reference_is_never_asked_about() -> None:
    drawn = [t.key for t in listening.trials([system(silent="item1")], "which", 99)]
    assert {key["item"] for key in drawn} == {"item0", "item2", "item3"}
    compared = [t.key for t in listening.trials([system("a", silent="item1"), system("b")], "preference", 99)]
    assert ("item1", "s1") in {(k["item"], k["source"]) for k in compared}
    assert ("item1", "s2") not in {(k["item"], k["source"]) for k in compared}


def test_what_cannot_be_asked_is_said() -> None:
    one = System("net", {"a": 1}, system().signals)
    with pytest.raises(BadInput, match="two references"):
        listening.trials([one], "which", 3)
    with pytest.raises(UsageError, match="two systems"):
        listening.trials([system()], "preference", 3)
    with pytest.raises(UsageError, match="compare it with itself"):
        listening.trials([system(), system()], "preference", 3)
    with pytest.raises(UsageError, match="did you mean 'which'"):
        listening.trials([system()], "wich", 3)
    with pytest.raises(BadInput, match="no item has a sounding reference"):
        list(listening.trials([system(items=1, silent="item0")], "which", 3))


def test_levels_are_matched_by_loudness_and_by_power_where_there_is_too_little() -> None:
    for seconds in (1.0, 0.2):
        sounds = {"a": (noise(1, 0.5, seconds), RATE), "b": (noise(2, 1e-4, seconds), RATE)}
        a, b = (wave for wave, _ in listening.matched(sounds).values())
        if seconds == 1.0:
            meters = [LoudnessMeter(RATE, 1) for _ in range(2)]
            for meter, wave in zip(meters, (a, b), strict=True):
                meter.push(wave[None])
            assert meters[0].lufs() == pytest.approx(meters[1].lufs(), abs=0.05)
            assert meters[0].lufs() == pytest.approx(listening.LOUDNESS_LUFS, abs=0.1)
        else:
            assert np.sqrt(np.mean(a**2)) == pytest.approx(np.sqrt(np.mean(b**2)), rel=1e-3)


def test_a_click_brings_all_sounds_down_together_and_silence_stays_silent() -> None:
    click = np.zeros(RATE, np.float32)
    click[100] = 1.0
    found = listening.matched({"x": (click, RATE), "a": (noise(1), RATE), "b": (np.zeros(RATE, np.float32), RATE)})
    x, a, b = (wave for wave, _ in found.values())
    assert max(np.abs(x).max(), np.abs(a).max()) == pytest.approx(listening.PEAK, rel=1e-5)
    assert not b.any() and np.abs(x).max() == pytest.approx(listening.PEAK, rel=1e-5)


def test_the_excerpt_holds_both_sources() -> None:
    refs = np.zeros((2, 60 * RATE), np.float32)
    refs[0, : 40 * RATE] = noise(0, seconds=40)
    refs[1, 30 * RATE :] = noise(1, seconds=30)
    start, stop = listening.excerpt(refs, RATE)
    assert stop - start == 10 * RATE and start == 30 * RATE
    assert listening.excerpt(refs[:, : 3 * RATE], RATE) == (0, 3 * RATE)


def test_the_page_holds_no_truth_and_a_test_is_not_overwritten(tmp_path: Path) -> None:
    drawn = list(listening.trials([system("secret-net"), system("other-net")], "which", 2))
    page = pages.page("t", "which", [pages.entry(t.key["trial"], t.sounds) for t in drawn])
    for told in ("secret-net", "other-net", "item0", "item1", "item2", "item3", "s1", "s2"):
        assert not re.search(rf'"[^"]{{0,40}}{told}[^"]{{0,40}}"', re.sub(r"data:audio[^\"]+", "", page)), told
    listening.write(tmp_path, [t.key for t in drawn], page)
    with pytest.raises(OutputError, match="exists already"):
        listening.refuse(tmp_path, overwrite=False)
    listening.refuse(tmp_path, overwrite=True)


def test_arranging_keeps_trial_and_key_together_and_names_the_test_by_its_sounds() -> None:
    keys = [{"trial": str(k)} for k in range(20)]
    entries = [{"id": str(k), "sounds": {}} for k in range(20)]
    name, shown, told = listening.arrange(entries, keys, seed=1)
    assert [key["trial"] for key in told] == [one["id"] for one in shown] != [str(k) for k in range(20)]
    assert {key["test"] for key in told} == {name}
    assert listening.arrange(entries, keys, seed=1)[0] == name
    entries[3] = {"id": "3", "sounds": {"x": "another"}}
    assert listening.arrange(entries, keys, seed=1)[0] != name


def test_a_page_stands_nowhere_without_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise IOFault("No space left on device")

    monkeypatch.setattr(listening.tables, "write_csv", full)
    with pytest.raises(IOFault):
        listening.write(tmp_path / "test", [], "<html>")
    assert list(tmp_path.iterdir()) == []


def worded(
    items: int = 4, words: tuple[str, ...] = ("The sound of rain", "a dog barks", "the sound of Rain")
) -> System:
    """Items of three noises with a query each; the third is called as the first."""

    def signals(item: str) -> Signals:
        ref = np.stack([noise(3 * int(item[4:]) + k) for k in range(3)])
        return Signals(item, ("s1", "s2", "s3"), 0.1 * ref, ref, ref.sum(0), rate=RATE, ordered=True)

    names = [f"item{k}" for k in range(items)]
    return System("net", dict.fromkeys(names, 3), signals, dict.fromkeys(names, words))


def test_in_words_an_estimate_is_heard_alone_and_both_sources_are_named(tmp_path: Path) -> None:
    drawn = list(listening.trials([worded()], "words", 12))
    assert len(drawn) == 12
    for trial in drawn:
        assert set(trial.sounds) == {"x"} and set(trial.words.values()) <= {"rain", "a dog barks", "Rain"}
        assert len({words.casefold() for words in trial.words.values()}) == 2, "one name for both tells nothing"
        called = {"s1": "rain", "s2": "a dog barks", "s3": "Rain"}
        assert {role: called[trial.key[role]] for role in "ab"} == trial.words
        assert trial.key["source"] in (trial.key["a"], trial.key["b"])
    entries = [pages.entry(trial.key["trial"], trial.sounds, trial.words) for trial in drawn]
    test, entries, keys = listening.arrange(entries, [trial.key for trial in drawn], 0)
    page, key = listening.write(tmp_path, keys, pages.page(test, "words", entries))
    text = page.read_text()
    assert "Which sound do you hear?" in text and "None of them" in text and "a dog barks" in text
    assert not any(hidden in text for hidden in ("item0", '"s1"', '"net"', '"source"'))
    assert key.read_text().splitlines()[0].endswith(",seconds,a_words,b_words")
    known = listening_score.read_key(key)
    assert [known[row["trial"]]["a_words"] for row in keys] == [row["a_words"] for row in keys]


def test_in_words_items_need_queries(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no item has two references with queries"):
        list(listening.trials([system()], "words", 4))
    with pytest.raises(BadInput, match="no item has a sounding reference"):
        list(listening.trials([worded(words=("rain", "Rain", "the sound of rain"))], "words", 4))


@pytest.mark.parametrize(
    ("query", "said"),
    [("The sound of cat meowing", "cat meowing"), ("  a   dog ", "a dog"), ("the sound of ", "the sound of")],
)
def test_the_beginning_of_a_prompt_is_not_read(query: str, said: str) -> None:
    assert listening.spoken(query) == said
