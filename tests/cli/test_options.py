"""Shared options: printing and completion."""

from __future__ import annotations

import json

import pytest

from usepcli import registry
from usepcli.cli import _options as options


def test_report_aligns_and_flattens(capsys: pytest.CaptureFixture[str]):
    options.report({"a": 1, "long": {"x": 0.123456789, "y": [1, 2]}, "s": [{"m": "snr", "v": 3.0, "none": None}]})
    assert capsys.readouterr().out == "a       1\nlong.x  0.123457\nlong.y  1, 2\ns       m snr  v 3\n"


def test_report_json_keeps_everything(capsys: pytest.CaptureFixture[str]):
    facts = {"a": None, "b": {"c": [1.25]}, "name": "Müller"}
    options.report(facts, as_json=True)
    assert json.loads(capsys.readouterr().out) == facts


def test_listing(capsys: pytest.CaptureFixture[str]):
    options.listing([{"name": "a", "value": 1}, {"name": "long", "value": 22}])
    assert capsys.readouterr().out == "name  value\na     1\nlong  22\n"
    options.listing([])
    assert capsys.readouterr().out == ""


def test_completion_lists_the_registry():
    assert options.complete_metric("") == sorted([*registry.METRICS, "momi", "presence", "wer"])
    assert options.complete_corpus("wsj") == ["wsj-mix", "wsj0-mix"]
    assert options.complete_metric("nothing") == []
