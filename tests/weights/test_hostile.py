"""Model files, checkpoints and profiles that somebody made to take all memory or all time: one line, and no more."""

from __future__ import annotations

import hashlib
import io
import json
import tracemalloc
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from usepcli.engine.exchange import foreign_source
from usepcli.engine.training import states
from usepcli.errors import BadInput
from usepcli.profile import bind
from usepcli.profile.faults import MOST_SHOWN, ProfileError
from usepcli.profile.load import load_profile
from usepcli.weights import build, cards, store


def toy(path: Path, **settings: Any) -> Path:
    """Write a model whose card claims other settings than it has."""
    model = build.model({"name": "conformer_mask", "preset": "tiny"})
    card = cards.Card(name="toy", model={**build.config_of(model), **settings}, sample_rate=8000, n_src=2)
    store.save_model(path, model.state_dict(), card)
    return path


@pytest.mark.parametrize(
    "settings",
    [
        {"sample_rate": 10**9}, {"n_src": 10**9}, {"n_src": 0}, {"hop": 0}, {"hop": True}, {"hop": "128"},
        {"layers": -1}, {"dim": 2**62}, {"n_fft": 2**40}, {"dropout": float("nan")}, {"kernel": None}, {"name": "x"},
        {"n" * 10**5: 1}, {"heads": [4]}, {"heads": 0},
    ],
)  # fmt: skip
def test_a_card_that_claims_too_much_is_one_line_before_memory_is_taken(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    path = toy(tmp_path / "m.safetensors", **settings)
    tracemalloc.start()
    try:
        with pytest.raises(BadInput) as caught:
            store.load_any(path)
        assert tracemalloc.get_traced_memory()[1] < 2**28  # modules that the first model without memory imports
    finally:
        tracemalloc.stop()
    said = str(caught.value)
    assert said.startswith(str(path)) and "\n" not in said and len(said) < 800


@pytest.mark.parametrize("rate", [-1, 768_001, 10**9, 10**40])
def test_a_rate_that_no_file_has_is_refused_by_the_card_itself(tmp_path: Path, rate: int) -> None:
    path = toy(tmp_path / "m.safetensors")
    raw = path.read_bytes()
    card = cards.read_card(path)[0]
    card.sample_rate = rate
    path.write_bytes(cards.with_card(raw, card))
    with pytest.raises(BadInput, match=r"sample_rate is .*expected 0 to 768000"):
        cards.read_header(path)


def with_header(path: Path, change: Any) -> Path:
    """Write a model file whose header `change` has changed."""
    raw = toy(path).read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    text = json.dumps(change(header)).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + size :])
    return path


def first_of(header: dict[str, Any], **change: Any) -> dict[str, Any]:
    name = next(key for key in header if key != "__metadata__")
    return {**header, name: {**header[name], **change}}


@pytest.mark.parametrize(
    "change",
    [
        lambda header: first_of(header, shape=["a"]),
        lambda header: first_of(header, shape=[-1]),
        lambda header: first_of(header, shape=[2**40]),
        lambda header: first_of(header, data_offsets=[0]),
        lambda header: first_of(header, data_offsets=["0", "4"]),
        lambda header: first_of(header, data_offsets=[0, 2**70]),
        lambda header: {**header, "again": header[next(key for key in header if key != "__metadata__")]},
        lambda header: {**header, "__metadata__": {"usep": 3}},
        lambda header: {**header, "__metadata__": {"usep": "[" * 100_000}},
        lambda header: [header],
    ],
)
def test_a_header_that_claims_another_file_is_refused(tmp_path: Path, change: Any) -> None:
    path = with_header(tmp_path / "m.safetensors", change)
    with pytest.raises(BadInput, match=r"^\S*m\.safetensors: "):
        cards.read_header(path)


def test_a_header_of_four_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes((2**32).to_bytes(8, "little") + b"{}")
    with open(path, "rb+") as file:
        file.truncate(2**32 + 100)  # with holes: it takes no disk
    with pytest.raises(BadInput, match="no safetensors header"):
        cards.read_header(path)


def bomb(path: Path) -> None:
    """Write what torch takes for a checkpoint, with one packed record that is a thousand times as long as the file."""
    torch.save({"state_dict": {"w": torch.zeros(4)}}, path)
    with zipfile.ZipFile(path) as old:
        kept = {record.filename: old.read(record) for record in old.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in kept.items():
            new.writestr(name, bytes(64 << 20) if name.endswith("data/0") else data)


def test_a_packed_checkpoint_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    bomb(path)
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match=r"bomb\.pt: unpacks from 0\.1 to 64\.0 MiB"):
            foreign_source.load_plain(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    body = path.read_bytes()
    path.write_bytes(states.MAGIC + hashlib.sha256(body).digest() + body)
    with pytest.raises(BadInput, match="unpacks from"):
        states.load_state(path)


def test_an_honest_checkpoint_passes(tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.zeros(1000)}}, tmp_path / "a.pt")
    assert set(foreign_source.load_plain(tmp_path / "a.pt")) == {"state_dict"}
    held = io.BytesIO()
    torch.save({"w": torch.zeros(1)}, held, _use_new_zipfile_serialization=False)
    (tmp_path / "b.pt").write_bytes(held.getvalue())
    assert set(foreign_source.load_plain(tmp_path / "b.pt")) == {"w"}


def test_thousands_of_unknown_keys_are_twenty_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest name is looked for in as many as are shown: among ninety thousand that took nine minutes."""
    looked: list[str] = []

    def near(name: str, among: Iterable[str]) -> str:
        looked.append(name)
        return ""

    monkeypatch.setattr(bind, "did_you_mean", near)
    path = tmp_path / "many.yaml"
    path.write_text("".join(f"key{n}: 1\n" for n in range(3000)))
    with pytest.raises(ProfileError) as caught:
        load_profile(str(path), environ={})
    lines = str(caught.value).splitlines()
    count = len(caught.value.faults)
    assert len(looked) == MOST_SHOWN
    assert count >= 3000 and f"has {count} faults" in lines[0]
    assert len(lines) == MOST_SHOWN + 2 and f"and {count - MOST_SHOWN} more" in lines[-1]
