"""What a model by query was asked for in a test, as its card keeps it: metric, data, for each phrase [mean, items]."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def sentence(told: Mapping[str, Any]) -> str:
    """Return all of it in words, the best phrase first; '' where a card does not say, ValueError for no such list."""
    if not told:
        return ""
    phrases = told.get("phrases")
    pairs = list(phrases.items()) if isinstance(phrases, dict) else [("", None)]
    if not all(isinstance(pair, list) and len(pair) == 2 and all(map(_finite, pair)) for _, pair in pairs):
        raise ValueError(f"tried: found {str(told)[:80]}; expected metric, data, phrases: {{phrase: [mean, items]}}")
    ranked = sorted(pairs, key=lambda pair: (-pair[1][0], pair[0]))
    each = ", ".join(f"{phrase} {value:.1f} ({count:g})" for phrase, (value, count) in ranked)
    return f"{len(pairs)} phrases on {told.get('data', 'data unstated')}, {told.get('metric')} (items): {each}"


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
