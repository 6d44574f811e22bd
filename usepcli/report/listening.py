"""The page of a blind listening test: one trial at a time, sounds inside, nothing that tells what they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from usepcli.report import html, listen

Sounds = Mapping[str, tuple[np.ndarray, int]]
# Answers are stored by these names; the page shows the labels.
ANSWERS = {
    "which": {"A": "A", "B": "B", "both": "Both", "neither": "Neither"},
    "words": {"A": "A", "B": "B", "both": "Both", "neither": "None of them"},
    "preference": {"A": "A", "B": "B", "same": "No difference"},
}
QUESTIONS = {
    "which": "Which do you hear?",
    "words": "Which sound do you hear?",
    "preference": "Which one separates the target better?",
}
_HELP = {
    "which": "Play the sound, and A and B as often as you like. Say which of the two the sound holds: A, B, both, or "
    "neither of them.",
    "words": "Play the sound as often as you like. Say which of the two it is: A, B, both, or none of them.",
    "preference": "The target is what should be left over from the mixture. Play it, A and B as often as you like, "
    "and say which of the two comes nearer to the target.",
}
_LABELS = {
    "which": {"x": "The sound", "a": "A", "b": "B"},
    "words": {"x": "The sound"},
    "preference": {"a": "A", "b": "B", "x": "Target", "mixture": "Mixture"},
}
_KEYS = {"x": "x", "a": "a", "b": "b", "mixture": "m"}
# Nobody can judge what was not heard: these have to be played before an answer is taken.
_NEEDED = {"which": ["x"], "words": ["x"], "preference": ["a", "b"]}
_BODY = """<main id="test" class="listening {kind}">
<header><h1>Listening test</h1><p id="progress" role="status" aria-live="polite"></p></header>
<noscript><p>This page needs JavaScript. It asks nothing of any network.</p></noscript>
<form id="intro">
<p>{help}</p>
<p>{count} questions. Use headphones, set the volume once, and leave it. The answers stay in this browser until you save
them at the end; you may close the page and go on later.</p>
<p><label for="listener">Your name or number</label>
<input id="listener" autocomplete="off" maxlength="80" required></p>
<p><button type="submit" id="begin">Begin</button></p>
</form>
<section id="trial" hidden aria-labelledby="question">
<h2 id="question">{question}</h2>
<div id="sounds" role="group" aria-label="Sounds"></div>
<p class="transport"><input id="seek" type="range" min="0" max="1" step="0.001" value="0" aria-label="Position">
<output id="clock" for="seek"></output></p>
<div id="answers" role="group" aria-label="Answers"></div>
<p id="hint" class="hint" role="status"></p>
<p><button type="button" id="back">Back</button> <button type="button" id="skip">Next</button></p>
<p class="keys">Keys: <kbd>1</kbd>\u2013<kbd>{last}</kbd> answer, <kbd>space</kbd> play or pause, {keys} play one,
<kbd>\u2190</kbd> <kbd>\u2192</kbd> a second back or on, <kbd>backspace</kbd> the question before.</p>
</section>
<section id="done" hidden>
<h2 id="thanks">Thank you</h2>
<p id="missing"></p>
<p><button type="button" id="save">Save the answers as CSV</button> <button type="button" id="copy">Copy</button>
<button type="button" id="again">Back to the questions</button>
<button type="button" id="other">Another listener</button></p>
<p><label for="csv">Or copy this text into a file:</label></p>
<textarea id="csv" readonly rows="10" spellcheck="false"></textarea>
</section>
</main>"""


def entry(trial: str, sounds: Sounds, words: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """Return one trial of a page: its opaque name and its sounds {role: (wave (T,), rate)}, encoded.

    words: what the answers A and B (roles a and b) stand for, where it is said and not heard.
    """
    found = {"id": trial, "sounds": {role: listen.encode(wave, rate) for role, (wave, rate) in sounds.items()}}
    return found | ({"words": {role.upper(): text for role, text in words.items()}} if words else {})


def page(test: str, kind: str, entries: Iterable[Mapping[str, Any]]) -> str:
    """Return the page of a test of trials made by `entry`; kind: which, words or preference."""
    trials = list(entries)
    roles = [role for role in _LABELS[kind] if any(role in trial["sounds"] for trial in trials)]
    data = {
        "test": test, "kind": kind, "trials": trials, "needed": _NEEDED[kind],
        "roles": [{"role": role, "label": _LABELS[kind][role], "key": _KEYS[role]} for role in roles],
        "answers": [{"value": value, "label": label} for value, label in ANSWERS[kind].items()],
    }  # fmt: skip
    body = _BODY.format(
        kind=html.escape(kind), help=html.escape(_HELP[kind]), count=len(trials), question=html.escape(QUESTIONS[kind]),
        last=len(ANSWERS[kind]), keys=" ".join(f"<kbd>{_KEYS[role]}</kbd>" for role in roles),
    )  # fmt: skip
    return html.page("Listening test", body, data=data, scripts=("listening.js",), styles=("page.css", "listening.css"))
