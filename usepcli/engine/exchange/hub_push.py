"""A model as a repository of the Hugging Face Hub: model.safetensors, config.json, README.md with its head of facts."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from usepcli.engine.exchange import hub
from usepcli.errors import BadInput, OutputError, UsageError
from usepcli.files import write_bytes
from usepcli.weights import cards, reach
from usepcli.weights.cards import Card, score_value

# Licences that the Hub knows by an identifier of its own.
_HUB_LICENCES = {
    "apache-2.0", "bsd-3-clause", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0",
    "cc0-1.0", "mit",
}  # fmt: skip


def layout(ref: str, target: hub.Place, datasets: Sequence[str] = ()) -> dict[str, bytes]:
    """Return the files of a model's repository; BadInput for a model that does not state the licence of its data."""
    path = reach.find_model(ref)
    card, sha256 = cards.read_card(path)
    if card.licence.strip().lower() in ("", "unstated", "unknown"):
        raise BadInput(f"{path}: its card states no licence of the training data; such a model is not published")
    raw = path.read_bytes()
    if cards.digest(raw) != sha256:
        raise BadInput(f"{path}: weights do not match their sha256; the file is damaged, fetch it again")
    if not card.cost:
        card, raw = _costed(path, raw)
    config = {
        "library_name": "usep", "architecture": card.model.get("name", ""), "sample_rate": card.sample_rate,
        "outputs": card.n_src, "weights_sha256": sha256, "card": json.loads(card.to_json()),
    }  # fmt: skip
    return {
        hub.WEIGHTS: raw,
        "config.json": (json.dumps(config, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode(),
        "README.md": readme(card, target, datasets).encode(),
    }


def _costed(path: Path, raw: bytes) -> tuple[Card, bytes]:
    """Return card and file of an older usep with what the model takes in them."""
    from usepcli.weights import build, store

    model, card = store.load_model(path)
    card.cost = build.cost_of(model)
    return card, cards.with_card(raw, card)


def head(card: Card, title: str, datasets: Sequence[str] = ()) -> dict[str, Any]:
    """Return the facts at the head of README.md under the Hub's keys; every score with its data and protocol."""
    licence = card.licence.strip().lower()
    facts: dict[str, Any] = {
        "library_name": "usep", "pipeline_tag": "audio-to-audio",
        "tags": ["audio-to-audio", "source-separation", "usep", card.model.get("name", "")],
        "license": licence if licence in _HUB_LICENCES else "other",
    }  # fmt: skip
    if facts["license"] == "other":
        facts["license_name"] = card.licence
    if datasets:
        facts["datasets"] = list(datasets)
    told = [score for score in card.scores if score_value(score)]  # a card may come from anybody
    if told:
        facts["metrics"] = list(dict.fromkeys(score["metric"] for score in told))
        facts["model-index"] = [{"name": card.name or title, "results": [_result(score) for score in told]}]
    return facts


def _result(score: dict[str, Any]) -> dict[str, Any]:
    data = score.get("data") or "not stated"
    args = {key: score[key] for key in ("ci95", "n", "protocol") if key in score}
    return {
        "task": {"type": "audio-to-audio", "name": "Source separation"},
        "dataset": {"type": "audio", "name": data},
        "metrics": [{"type": score["metric"], "value": score["value"], "name": score["metric"], "args": args}],
    }


def readme(card: Card, target: hub.Place, datasets: Sequence[str] = ()) -> str:
    """Return README.md: the head as YAML, then the card in words."""
    title = target.name
    repo = f"./{title}" if target.folder else target.repo
    top = yaml.safe_dump(head(card, title, datasets), sort_keys=False, allow_unicode=True, width=1000)
    lines = [f"---\n{top}---\n", f"# {title}\n", f"{card.about or card.name}.\n"]
    made_of = f"at {card.sample_rate} Hz, architecture `{card.model.get('name', '')}`.\n"
    if card.n_src:
        lines += [f"{card.n_src} outputs {made_of}"]
        lines += ["```sh", f"usep pull {repo}", f"usep separate meeting.wav -o separated --model {title}", "```\n"]
    else:
        lines += [f"Separates what it is asked for in words, {made_of}", "```sh", f"usep pull {repo}", "```\n"]
        lines += ["```python", f'Separator.load("{title}").ask(["rain", "a dog barks"])(wave, rate)', "```\n"]
    for name, part in card.fixed.items():
        lines.append(f"Frozen part `{name}`, not in the file: {part['reference']}, sha256 {part['sha256']}.\n")
    if card.scores:
        lines += ["| Metric | Value | 95 % interval | n | Data | Protocol |", "|---|---|---|---|---|---|"]
        for score in card.scores:
            interval = score.get("ci95")
            low_high = " to ".join(map(str, interval)) if isinstance(interval, list) else ""
            cells = [
                score.get("metric", ""),
                score.get("value", ""),
                low_high,
                score.get("n", ""),
                score.get("data", ""),
            ]
            lines.append(
                "| " + " | ".join(str(c).replace("|", "/") for c in (*cells, score.get("protocol", ""))) + " |"
            )
        lines.append("")
    for word, text in (
        ("Training data", card.training_data), ("Licence of the training data", card.licence),
        ("Credits", card.credits), ("Origin", card.origin),
    ):  # fmt: skip
        if text:
            lines.append(f"{word}: {text}.\n")
    return "\n".join(lines)


def push(
    model: str, repo: str, *, datasets: Sequence[str] = (), private: bool = False, overwrite: bool = False,
    token_env: str = "HF_TOKEN", quiet: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Write a model's repository to a folder, or upload it as one commit, and return where it lies.

    OutputError where another model lies there, without overwrite.  quiet: no bars of progress.
    """
    target = hub.place(repo)
    if target.revision:
        raise UsageError(f"{repo}: a push makes its own commit on the main branch; leave @{target.revision} out")
    files = layout(model, target, datasets)
    sha256 = hashlib.sha256(files[hub.WEIGHTS]).hexdigest()
    facts = {"files": sorted(files), "sha256": sha256}
    if target.folder:
        return (
            {"repo": str(target.folder), "revision": ""}
            | facts
            | {"state": _to_folder(target.folder, files, overwrite)}
        )
    return {"repo": target.repo} | facts | _to_hub(target.repo, files, sha256, private, overwrite, token_env, quiet)


def _to_folder(folder: Path, files: dict[str, bytes], overwrite: bool) -> str:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; the layout is a folder, name another")
    there = [name for name in files if (folder / name).exists()]
    # What a push that a full disk ended has left is no other model.
    same = [name for name in there if (folder / name).is_file() and (folder / name).read_bytes() == files[name]]
    if len(same) == len(files):
        return "the same"
    if others := [name for name in there if name not in same and not overwrite]:
        raise OutputError(f"{folder / others[0]}: exists; choose another folder or pass --overwrite")
    for name in sorted(files.keys() - set(same), key=lambda name: (name == hub.WEIGHTS, name)):
        write_bytes(folder / name, files[name])
    return "replaced" if len(there) > len(same) else "new"


def _to_hub(
    repo: str, files: dict[str, bytes], sha256: str, private: bool, overwrite: bool, token_env: str, quiet: bool
) -> dict[str, Any]:
    library = hub.library(quiet)
    secret = hub.token(token_env)
    if not secret:
        raise UsageError(f"{repo}: ${token_env} holds no token; set it to one that may write, or name another variable")
    with hub.explained(repo), tempfile.TemporaryDirectory() as temporary:
        api = library.HfApi(token=secret, library_name="usep")
        api.create_repo(repo, private=private, exist_ok=True)
        siblings = api.model_info(repo, files_metadata=True).siblings or ()
        old = next((one for one in siblings if one.rfilename == hub.WEIGHTS), None)
        if old is not None and not overwrite and (old.lfs is None or old.lfs.sha256 != sha256):
            raise OutputError(f"{repo}: holds another {hub.WEIGHTS}; choose another repository or pass --overwrite")
        for name, data in files.items():
            (Path(temporary) / name).write_bytes(data)
        title = f"Model {repo.split('/')[1]} ({sha256[:12]})"
        made = api.upload_folder(repo_id=repo, folder_path=temporary, commit_message=title)
    return {"revision": made.oid, "state": "replaced" if old is not None else "new"}
