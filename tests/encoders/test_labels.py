"""A closed list of classes, named or read from a file, and what is said of queries that are not in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from usepcli.encoders.labels import Labels
from usepcli.errors import BadInput, ConfigError, InputNotFound


def test_case_and_spaces_do_not_matter() -> None:
    made = Labels(phrases=("Acoustic guitar", "rain"))
    one, other = made.encode(["acoustic  GUITAR ", "Acoustic guitar"]).pooled
    assert torch.equal(one, other)


def test_the_words_of_a_prompt_do_not_matter() -> None:
    for name in ("The sound of rain", "rain"):
        made = Labels(phrases=(name, "wind"))
        one, other = made.encode(["Rain", "the sound of rain"]).pooled
        assert torch.equal(one, other)
    both = Labels(phrases=("the sound of rain", "rain"))
    assert not torch.equal(*both.encode(["rain", "The sound of rain"]).pooled)


def test_an_unknown_query_is_told_what_is_near() -> None:
    made = Labels(phrases=("dog barking", "rain", "violin"))
    with pytest.raises(BadInput, match=r"query 'dogs barking': none of the 3 classes.*the nearest: 'dog barking'"):
        made.encode(["dogs barking"])
    with pytest.raises(
        BadInput, match=r"query '犬の鳴き声': none of the 3 classes that this model knows; some of them: "
    ):
        made.encode(["犬の鳴き声"])


@pytest.mark.parametrize(
    ("phrases", "said"), [((), "model.classes: empty"), (("a", "A"), "2 names of which 1 differ"), (("a", " "), "none")]
)
def test_lists_that_are_none(phrases: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Labels(phrases=phrases)


def test_the_list_comes_from_a_text_file_or_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("\ufeffrain\n\n  dog \nrain\n", "utf-8")
    assert Labels(str(tmp_path / "classes.txt")).phrases == ("dog", "rain")
    (tmp_path / "manifest.csv").write_text("id,queries\na,rain;bell\nb,bell\n")
    assert Labels(str(tmp_path)).phrases == ("bell", "rain")
    (tmp_path / "manifest.csv").write_text("id,label\na,rain;glass\nb,rain\n")
    assert Labels(str(tmp_path)).phrases == ("glass", "rain")
    (tmp_path / "other.csv").write_text("id,mixture\na,b\n")
    with pytest.raises(BadInput, match="expected queries, query or label"):
        Labels(str(tmp_path / "other.csv"))
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(BadInput, match="no phrase in it"):
        Labels(str(tmp_path / "none.txt"))
    with pytest.raises(InputNotFound):
        Labels(str(tmp_path / "lost.txt"))
