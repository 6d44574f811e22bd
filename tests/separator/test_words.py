"""Names of files that are made of queries."""

from __future__ import annotations

from pathlib import Path

import pytest

from usepcli.separator.words import checked, names


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("a dog barking", "a_dog_barking"),
        ("Rain, wind & thunder!", "Rain_wind_thunder"),
        ("../../etc/passwd", "etc_passwd"),
        ("C:\\con.txt", "C_con_txt"),
        ("{stem} {i:d} %s $HOME", "stem_i_d_s_HOME"),
        ("犬が吠える", "犬が吠える"),
        ("कुत्ता", "कुत्ता"),
        ("🐕", "query"),
        ("🐕 barks", "barks"),
        ("CON", "query_CON"),
        ("lpt1", "query_lpt1"),
        ("007", "query_007"),
        ("٣", "query_٣"),
        ("residual", "residual_2"),
        ("-rf", "rf"),
        ("e\u0301cho", "\u00e9cho"),
    ],
)  # fmt: skip
def test_safe_name(query: str, name: str):
    assert names([query]) == (name,)


def test_names_differ_whatever_their_case():
    several = ("Rain", "rain", "rain!", "rain 2", "🐕", "🐈", "ﬁre", "fire", "Straße", "STRASSE", "Residual")
    found = names(several)
    assert len({name.casefold() for name in (*found, "residual")}) == len(several) + 1
    assert found[:4] == ("Rain", "rain_2", "rain_3", "rain_2_2")


def test_long_names_are_cut_between_letters(tmp_path: Path):
    for letter in ("x", "é", "犬", "𝄞a"):
        name = names([letter * 400])[0]
        assert len(name.encode()) <= 90 and "\ufffd" not in name
        (tmp_path / f"{'s' * 150}_{name}.wav").touch()
    assert len(set(names(["y" * 400, "y" * 401]))) == 2


def test_checked_takes_the_spaces_off():
    assert checked(["  rain ", "rains", "犬"]) == ("rain", "rains", "犬")
