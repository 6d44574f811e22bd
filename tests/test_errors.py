"""Exit codes and suggestions."""

from __future__ import annotations

from usepcli import errors
from usepcli.cli.app import EXIT_CODES


def _all_errors() -> list[type[errors.UsepError]]:
    return [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, errors.UsepError)]


def test_every_error_class_has_a_documented_code_of_its_own():
    codes = [cls.code for cls in _all_errors() if cls is not errors.UsepError]
    assert len(set(codes)) == len(codes) == 12
    assert errors.Unforeseen.code == errors.UsepError.code == 1  # what nobody foresaw has no code of its own
    assert set(codes) <= set(EXIT_CODES)


def test_did_you_mean_finds_the_nearest_and_keeps_its_spelling():
    assert errors.did_you_mean("epcohs", ["epochs", "ema"]) == " (did you mean 'epochs'?)"
    assert errors.did_you_mean("SI-SNRI", ["si-snr", "si-snri"]) == " (did you mean 'si-snri'?)"
    assert errors.did_you_mean("mixit", ["MixIT"]) == " (did you mean 'MixIT'?)"


def test_did_you_mean_is_silent_when_nothing_is_near():
    assert errors.did_you_mean("zzz", ["epochs"]) == ""
    assert errors.did_you_mean("epochs", []) == ""


def test_choices_names_the_unknown_and_every_option_in_order():
    line = errors.choices("model", "convtasnt", ["tdcnpp", "convtasnet"])
    assert line == "unknown model 'convtasnt' (did you mean 'convtasnet'?); choose from: convtasnet, tdcnpp"
