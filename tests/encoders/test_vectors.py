"""Vectors of phrases from every kind of file, a part of them, and files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from usepcli.encoders.vectors import Vectors, vectors_of
from usepcli.errors import BadInput, ConfigError, InputNotFound

TABLE = {"a dog": np.array([1.0, -2, 0.5], np.float32), "Rain": np.array([0.25, 4, 8], np.float32)}


def write(folder: Path, suffix: str) -> Path:
    path = folder / f"vectors{suffix}"
    if suffix == ".csv":
        path.write_text("".join(f"{name},{','.join(map(str, row))}\n" for name, row in TABLE.items()))
    elif suffix == ".npz":
        np.savez(path, **TABLE)
    elif suffix == ".safetensors":
        save_file(TABLE, path)
    else:
        np.save(path, np.stack(list(TABLE.values())))
        path.with_suffix(".txt").write_text("\n".join(TABLE))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".npy", ".safetensors"])
def test_every_kind_of_file_gives_the_same(suffix: str, tmp_path: Path) -> None:
    made = Vectors(str(write(tmp_path, suffix)))
    assert (made.token_dim, made.pooled_dim) == (3, 3) and set(made.phrases) == set(TABLE)
    tokens, mask, pooled = made.encode(["rain ", "a  DOG"])
    assert torch.equal(pooled, torch.tensor([[0.25, 4, 8], [1, -2, 0.5]])) and torch.equal(tokens[:, 0], pooled)
    assert mask.all() and len(made.sha256) == 64
    with pytest.raises(BadInput, match=r"query 'a dogg': none of the 2 classes.*'a dog'"):
        made.encode(["a dogg"])


def test_a_part_of_the_file_and_another_width(tmp_path: Path) -> None:
    path = str(write(tmp_path, ".csv"))
    assert Vectors(path, ("rain",)).table.shape == (1, 3)
    with pytest.raises(BadInput, match="no vector for 'wind'"):
        Vectors(path, ("rain", "wind"))
    with pytest.raises(ConfigError, match=r"model\.cond_dim: found 512, and .*vectors\.csv gives 3 numbers; set"):
        Vectors(path, token_dim=512)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no vector in it"), ("a,1,2\nb,1\n", "'b': 1 numbers; expected 2"), ("a,1\nA,2\n", "twice"),
        ("a,1\nb,x\n", "cannot be read as vectors"), ("a,nan\n", "not finite"), ("a,1\n ,2\n", "empty phrase"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text(text)
    with pytest.raises(BadInput, match=said) as raised:
        vectors_of(tmp_path / "v.csv")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_bytes_that_are_no_vectors(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"v{suffix}").write_bytes(b"nothing of the kind")
    (tmp_path / "v.txt").write_text("a\n")
    with pytest.raises(BadInput, match="cannot be read as vectors"):
        vectors_of(tmp_path / f"v{suffix}")
    with pytest.raises(InputNotFound):
        vectors_of(tmp_path / f"w{suffix}")
    with pytest.raises(BadInput, match="no file of vectors"):
        vectors_of(tmp_path / "v.txt")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "v.txt").write_text("a\n")
    with pytest.raises(BadInput, match="cannot be read as vectors"):
        vectors_of(tmp_path / "v.npy")
