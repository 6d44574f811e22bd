"""Settings that a way of mixing does not read: an error, for whoever sets one expects something of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from usepcli.profile.faults import Fault, ProfileError
from usepcli.profile.schema import Data, Profile

# What is drawn for fresh mixtures alone; all others are read whichever way is mixed.
DYNAMIC = (
    "pool", "talkers", "min_talkers", "fewer_prob", "talker_power", "level_db", "speeds", "noise", "noise_snr_db",
    "noise_prob", "noises", "join_prob", "response_db", "rooms", "rooms_prob", "low_pass_hz", "low_pass_prob",
)  # fmt: skip
# What orders recordings and chooses their phrases, which fresh mixtures have none of; and what is read where tars give
# the order.
FIXED, _SHARDS = ("order", "shard_window", "shard_reach", "bucket", "phrases", "shots"), ("shard_window", "shard_reach")
# What is read beside another setting alone, and the chance without which that one is not read.
_BESIDE = {
    "noise": (("noise_snr_db", "noise_prob", "noises"), "noise_prob", "noise"),
    "rooms": (("rooms_prob",), "rooms_prob", "a room"),
}  # fmt: skip


def check_read(profile: Profile) -> None:
    """Raise ProfileError that names every setting of a profile's data that a training would not read."""
    faults = [
        Fault(key, profile.origin.get(key, ""), _text(value), expected)
        for key, value, expected in _unread(profile.data)
    ]
    if faults:
        raise ProfileError(profile.name, faults)


def _unread(data: Data) -> Iterator[tuple[str, Any, str]]:
    """Yield the dotted key, the value and what was expected of each setting that is not read and not at its default."""
    usual = Data()
    if data.mixing == "fixed":
        for name in DYNAMIC:
            if (value := getattr(data, name)) != getattr(usual, name):
                expected = f"{_text(getattr(usual, name))}, since data.mixing is 'fixed', which does not read it"
                yield f"data.{name}", value, expected
        for name in _SHARDS if data.order == "shuffle" else ():
            if (value := getattr(data, name)) != getattr(usual, name):
                yield f"data.{name}", value, "data.order: shards beside it, without which it is not read"
        return
    for name in FIXED:
        if (value := getattr(data, name)) != getattr(usual, name):
            expected = f"{_text(getattr(usual, name))}, since data.mixing is 'dynamic', which does not read it"
            yield f"data.{name}", value, expected
    for of, (names, chance, thing) in _BESIDE.items():
        given = getattr(data, of)
        if given and not getattr(data, chance):
            yield f"data.{of}", given, f"data.{chance} above 0, without which no mixture has {thing}"
        for name in names if not given else ():
            if (value := getattr(data, name)) != getattr(usual, name):
                yield f"data.{name}", value, f"data.{of} beside it, without which it is not read"
    if data.low_pass_hz != usual.low_pass_hz and not data.low_pass_prob:
        yield "data.low_pass_hz", data.low_pass_hz, "data.low_pass_prob above 0, without which it is not read"


def _text(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value)
