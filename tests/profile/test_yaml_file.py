"""The traps of YAML, one by one."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usepcli.errors import ConfigError, InputNotFound
from usepcli.profile.yaml_file import MAX_BYTES, parse, parse_value, read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1.0e-4", 1e-4),
        ("-2.5E+3", -2500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.inf", float("-inf")),
        ("12", 12),
        ("-3", -3),
        ("0", 0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        # What YAML 1.1 would turn into something else stays the text that was written.
        ("no", "no"),
        ("off", "off"),
        ("yes", "yes"),
        ("010", "010"),
        ("0x10", "0x10"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2024-01-02", "2024-01-02"),
        ("9" * 30, "9" * 30),
        ("'3'", "3"),
        ("[1, 1e-3, no]", [1, 1e-3, "no"]),
    ],
)
def test_scalars(text: str, value: object):
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


@pytest.mark.parametrize("text", ["{a: 1}", "[1", "&a 3", "*a", "!!python/name:os.system x", "!!bool yes", "a: b: c"])
def test_other_values_are_refused(text: str):
    with pytest.raises(ValueError):
        parse_value(text)


def test_lines_of_keys():
    document = parse("a: 1\nb:\n  c: 2\n\n  d: [1,\n    2]\n", "x.yaml", "x")
    assert document.values == {"a": 1, "b": {"c": 2, "d": [1, 2]}}
    assert document.lines == {"a": 1, "b": 2, "b.c": 3, "b.d": 5}
    assert document.faults == []


def test_duplicate_key_names_both_lines():
    (fault,) = parse("a: 1\nb:\n  c: 2\n  c: 3\n", "x.yaml", "x").faults
    assert str(fault) == "b.c (x.yaml:4): found the key a second time (first in line 3), expected every key once"


def test_keys_that_are_no_names_and_tags_are_faults():
    faults = parse("1: a\ntrue: b\n[1, 2]: c\nd: !!set {e}\nf: !!int no\n", "x.yaml", "x").faults
    assert [fault.where for fault in faults] == ["x.yaml:1", "x.yaml:2", "x.yaml:3", "x.yaml:5"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &x 1\nb: *x\n", "x.yaml:1: found broken YAML (anchors and aliases"),
        ("a: 1\nb: *x\n", "x.yaml:2: found broken YAML (anchors and aliases"),
        ("a: 1\n b: 2\n", "x.yaml:2: found broken YAML"),
        ("a: " + "[" * 2000, "nested deeper than"),
        ("- 1\n- 2\n", "no keys at the top"),
        ("just text", "no keys at the top"),
        ("a: 1\n---\nb: 2\n", "broken YAML"),
        ("a: \x00", "broken YAML"),
    ],
)
def test_text_that_is_no_profile(text: str, said: str):
    with pytest.raises(ConfigError) as caught:
        parse(text, "x.yaml", "x")
    assert said in str(caught.value)


def test_empty_text_has_no_values():
    assert parse("# nothing\n", "x.yaml", "x").values == {}


def test_read_refuses_large_missing_and_binary_files(tmp_path: Path):
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="more than 1 MiB"):
        read(large, "large.yaml")
    with pytest.raises(InputNotFound, match=r"gone\.yaml does not exist"):
        read(tmp_path / "gone.yaml", "gone.yaml")
    (tmp_path / "latin.yaml").write_bytes("about: Müller".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        read(tmp_path / "latin.yaml", "latin.yaml")
    with pytest.raises(ConfigError, match="readable file"):
        read(tmp_path, "folder.yaml")


@given(st.text(max_size=60))
def test_any_text_is_a_document_or_a_config_error(text: str):
    with contextlib.suppress(ConfigError):
        assert isinstance(parse(text, "x.yaml", "x").values, dict)
