"""README and docs/ cannot drift: commands run or parse, links resolve, tables and profiles are what is there."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import usepcli
from usepcli import registry, versions
from usepcli.audio import io
from usepcli.audio.resample_live import LiveResampler
from usepcli.cli import app
from usepcli.data.manifest import COLUMNS, POOL_COLUMNS
from usepcli.engine.scoring.listening import KEY_COLUMNS
from usepcli.engine.separation import failures, joins, ledger
from usepcli.models.worded import WordedModel
from usepcli.profile.load import load_profile
from usepcli.weights import build, cards, reach, store

ROOT = Path(__file__).resolve().parents[1]
PAGES = {path: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
README = PAGES[ROOT / "README.md"]
RATE = 8000

# The walk is the README's, the size is that of a test.
SMALL = {
    "USEP_TRAIN__EPOCHS": "1",
    "USEP_TRAIN__THREADS": "1",
    "USEP_TRAIN__LOG_EVERY": "2",
    "USEP_VALID__LIMIT": "2",
    "USEP_DATA__SEGMENT_S": "0.5",
    "USEP_DATA__EPOCH_ITEMS": "64",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}


def page(name: str) -> str:
    return PAGES[ROOT / "docs" / name]


def block(mark: str) -> str:
    found = re.findall(rf"<!-- {re.escape(mark)} -->\n```sh\n(.*?)```", "\n".join(PAGES.values()), re.S)
    assert len(found) == 1, f"{len(found)} blocks are marked {mark}"
    return found[0]


def buzz(draw: np.random.Generator, pitch: float, seconds: float) -> np.ndarray:
    t = np.arange(round(RATE * seconds)) / RATE
    wave = sum(np.sin(2 * np.pi * pitch * k * t) / k for k in range(1, 6))
    return (wave * (0.05 + 0.05 * np.sin(2 * np.pi * draw.uniform(1, 3) * t))).astype(np.float32)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: talkers, mixtures and a recording, and `usep` on the path."""
    root, draw = tmp_path_factory.mktemp("user"), np.random.default_rng(0)
    for talker in range(20):
        for n in range(2):
            path = root / "my_speech" / f"talker{talker}" / f"{n}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            io.write(path, buzz(draw, 100 + 10 * talker, 2.0), RATE)
    (root / "my_recordings").mkdir()
    for n in range(40):
        io.write(root / f"my_recordings/{n}.wav", buzz(draw, 100, 1.0) + buzz(draw, 150 + 5 * n, 1.0), RATE)
    io.write(root / "talk.wav", buzz(draw, 110, 2.0) + buzz(draw, 230, 2.0), RATE)
    (root / "bin").mkdir()
    (root / "bin/usep").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m usepcli "$@"\n')
    (root / "bin/usep").chmod(0o755)
    return root


def run(commands: str, place: Path) -> str:
    path = f"{place / 'bin'}:{os.environ['PATH']}"
    source = str(Path(usepcli.__file__).parents[1])
    env = {**os.environ, **SMALL, "PATH": path, "PYTHONPATH": source, "USEP_PROFILES": str(ROOT / "profiles")}
    done = subprocess.run(["bash", "-ec", commands], cwd=place, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout


def test_walk_through_training_with_and_without_sources_and_using_the_models(place: Path) -> None:
    said = run(block("walk: with sources"), place)
    assert "si-snri" in said and (place / "runs/small_pit/curves.png").exists()
    tuned = block("walk: fine-tune").replace(" --data", " --limit 4 --data")
    assert "versus" in run(tuned.replace("usep train", "usep train --set train.max_steps=1"), place)
    run(block("walk: without sources"), place)
    assert len(list((place / "separated_mine").rglob("*_4.wav"))) == 40
    few = block("walk: few references")
    few = few[few.index("usep train --profile fine_tune") :].replace("usep train", "usep train --set train.max_steps=1")
    assert "si-snri" in run(few.replace(" --data", " --limit 4 --data"), place)
    run(block("walk: use"), place)
    for name in ("apart/talk_1.wav", "apart/talk_2.wav", "softer.wav", "first.wav"):
        assert (place / name).exists(), name


def test_the_profile_that_is_told_line_by_line_is_the_shipped_one() -> None:
    assert f"```yaml\n{(ROOT / 'profiles/small_pit.yaml').read_text()}```" in page("profiles.md")


def test_tables_name_the_columns() -> None:
    rows = dict(re.findall(r"^\| `(\w+\.csv)` \| (.*?) \|$", page("files.md"), re.M))
    tables = {
        "manifest.csv": COLUMNS,
        "pool.csv": POOL_COLUMNS,
        "outputs.csv": ledger.OUTPUTS,
        "seams.csv": joins.SEAMS,
        "errors.csv": failures.ERRORS,
        "key.csv": KEY_COLUMNS,
    }
    for name, columns in tables.items():
        listed = re.sub(r" \(.*?\)|:.*", "", rows[name])
        assert listed.split(", ") == list(columns), name


def test_python_examples_are_one_and_run() -> None:
    found = re.search(r"```python\n(.*?)```", README, re.S)
    assert found and found[0] in page("python.md")
    rng = np.random.default_rng(0)
    names = {"wave": rng.standard_normal(4000).astype(np.float32) * 0.1, "rate": RATE}
    exec(compile(found[1], "README.md", "exec"), names)
    assert names["sources"].shape == (2, 4000)


def test_live_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build.model({"name": "convtasnet", "preset": "causal", "filters": 32, "hidden": 32, "blocks": 2})
    assert model.live and model.latency_samples / model.sample_rate == 0.002
    card = cards.Card(name="causal", model=build.config_of(model), sample_rate=RATE, n_src=2)
    store.save_model(tmp_path / "runs/causal/best.safetensors", model.state_dict(), card)
    monkeypatch.chdir(tmp_path)
    heard: list[np.ndarray] = []
    wave = np.random.default_rng(0).standard_normal(4000).astype(np.float32) * 0.1
    names = {"Separator": usepcli.Separator, "rate": RATE, "blocks": np.split(wave, 20), "play": heard.append}
    exec(compile(re.findall(r"```python\n(.*?)```", page("python.md"), re.S)[1], "python.md", "exec"), names)
    assert len(heard) == 21 and np.concatenate(heard, axis=1).shape == (2, 4000)
    both = [LiveResampler(rate, RATE, 1).wait_s + LiveResampler(RATE, rate, 1).wait_s for rate in (16000, 44100, 96000)]
    assert max(both) < 0.017


def rows(text: str) -> list[list[str]]:
    """Return the cells of the table rows that begin with a name in backticks."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\| `.*$", text, re.M)]


def names_of(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def test_objectives_metrics_and_profiles_are_those_that_exist() -> None:
    section = page("objectives.md").split("\n## ")[0]
    lines = rows(section)
    assert {name for line in lines for name in names_of(line[0])} == set(registry.OBJECTIVES)
    shipped = {path.stem for path in (ROOT / "profiles").glob("*.yaml")}
    for line in lines:
        tried = re.findall(r"--profile (\w+)", line[4]) or names_of(line[4])
        assert tried and set(tried) <= shipped, line[4]
        if "--profile" not in line[4]:
            assert {load_profile(name, environ={}).objective["name"] for name in tried} <= set(names_of(line[0])), line
    scores = page("evaluate.md").split("It knows")[1].split("\n## Pages")[0]
    assert all(re.search(rf"(?<![\w-]){name}(?![\w-])", scores) for name in registry.METRICS)


def test_networks_are_those_that_exist_and_as_large() -> None:
    section = page("models.md").split("\n## Networks\n")[1].split("\n## ")[0]
    lines = rows(section)
    assert {name for line in lines for name in names_of(line[0])} == set(registry.MODELS)
    assert len(lines) == len(registry.MODELS)
    asked = {f"`film_{net}`": {"classes": ["dog"]} for net in ("conformer", "unet")}
    asked["`res_unet`"] = {"classes": ["dog"], "preset": "paper"}
    for name, _, size, _, _ in lines:
        if name == "`cond_unet`":  # as published it takes a CLAP, which has to be there
            continue
        with torch.device("meta"):
            model = build.model({"name": name.strip("`")} | asked.get(name, {}))
        words = model.words.parameters() if isinstance(model, WordedModel) else ()
        count = model.n_params - sum(part.numel() for part in words)
        assert size.removeprefix("our own, ") == f"{count / 1e6:.2f} M", name


def test_released_models_are_in_the_tables_with_what_their_cards_say() -> None:
    released = {name: cards.read_header(path).card for name, path in reach.released().items()}
    table = {line[0].strip("`"): line for line in rows(README.split("## The released models\n")[1].split("\n## ")[0])}
    assert table.keys() == released.keys()
    for name, (_, _, rate, size, _, score) in table.items():
        card = released[name]
        assert rate == f"{card.sample_rate / 1000:g} kHz"
        assert size == f"{reach.released()[name].stat().st_size / 1e6:.1f} MB"
        said = re.search(r" (-?[\d.]+)(?: dB)?, ([\d.-]+) to ([\d.-]+)", score)
        assert said, score
        shown = {(f"{s['value']:.2f}", *(f"{end:.1f}" for end in s["ci95"])) for s in card.scores if "ci95" in s}
        assert said.groups() in shown, (name, shown)
    licences = rows(page("models.md").split("\n## Licences\n")[1].split("\n## ")[0])
    assert {line[0].strip("`"): line[1] for line in licences} == {name: card.licence for name, card in released.items()}


def test_the_front_page_is_short_and_the_index_lists_every_page() -> None:
    assert len(README.encode()) <= 12_000
    listed = set(re.findall(r"\]\((\w+\.md)\)", page("index.md")))
    assert listed == {path.name for path in PAGES} - {"README.md", "index.md"}


def test_the_picture_of_the_tour_shows_its_commands() -> None:
    typed = re.findall(r"^step (usep .*?) *(?:#.*)?$", (ROOT / "docs/tour.sh").read_text(), re.M)
    shown = re.findall(r">\$ (usep .*?)</text>", (ROOT / "docs/tour.svg").read_text())
    assert len(typed) > 5 and typed == shown, "draw it again: python benchmarks/terminal.py docs/tour.sh docs/tour.svg"
    for line in typed:
        check_usep(shlex.split(line)[1:], True)


def test_the_citation_is_of_this_version() -> None:
    assert f"\nversion: {usepcli.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_pictures_and_anchors_exist(path: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", PAGES[path]):
        assert not target.startswith("http"), f"{target}: nothing tells whether it is there"
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), target
        assert not anchor or anchor in anchors(PAGES[found]), f"{target}#{anchor}"


def pieces(line: str) -> Iterator[list[str]]:
    """Yield the commands of a shell line, without redirections and comments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in itertools.chain(lexer, [";"]):
        if word not in ("|", "&&", ";"):
            words.append(word)
        else:
            yield words[: words.index(">")] if ">" in words else words
            words = []


def commands(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the lines of a page's shell blocks, True; and what begins with usep or python in its prose, False."""
    for lines in re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M):
        yield from ((line, True) for line in lines.replace("\\\n", " ").splitlines() if line.strip())
    prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    for said in re.findall(r"(?<!`)`((?:usep|python|pip) [^`]+)`", prose):
        yield " ".join(said.replace("\\|", "|").split()), False


def check_usep(words: list[str], whole: bool) -> None:
    """Parse a line of usep as the program does, without running it; then look up the names that it holds."""
    if words[0].startswith("-") or words[0].isupper():  # usep -h, usep COMMAND --help
        words = ["doctor", "--help"] if words[0].isupper() else words
    if words[0].startswith("-"):
        assert words in (["-h"], ["--install-completion"]), words
        return
    rest = words[words.index("--") + 1 :] if "--" in words else []
    name, words = words[0], words[1 : words.index("--")] if rest else words[1:]
    assert name in app.COMMANDS, name
    target = app.command(name)
    if hasattr(target, "commands"):  # listen make
        target, words = target.commands[words[0]], words[1:]
    try:
        context = target.make_context(name, [*words, *(["--", *rest] if rest else [])])
    except Exception as error:
        # Prose may name a command and one of its options, without a value; --help ends with Exit.
        fine = ("Exit",) if whole else ("Exit", "MissingParameter", "BadOptionUsage")
        assert type(error).__name__ in fine, f"{name} {words}: {error}"
        return
    given = context.params
    if rest:
        check_usep(rest, whole)
    if name == "prepare-data" and given["corpus"]:
        assert given["corpus"] in registry.CORPORA
    profile = given.get("profile") or ""
    if name == "train" and profile and not profile.isupper() and not profile.startswith("."):
        load_profile(profile, sets=given.get("sets") or (), environ={})


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_are_those_of_the_real_command_line(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line, whole in commands(PAGES[path]):
        for words in pieces(line):
            if words[:1] == ["usep"]:
                check_usep(words[1:], whole)
            if words[:1] == ["python"] and words[1] != "-m":
                script = (ROOT / words[1]).read_text()
                wanted = [word for word in words[2:] if word.startswith("--")]
                assert all(f'"{option}"' in script for option in wanted), line


def test_extras_and_profiles_that_are_named_exist() -> None:
    text = "\n".join(PAGES.values())
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = set(tomllib.load(file)["project"]["optional-dependencies"])
    assert set(re.findall(r"(?:usepcli|'\.)\[([\w-]+)\]", text)) <= extras
    table = page("install.md").split("\n## Extras\n")[1].split("\n## ")[0]
    assert (
        {name for line in rows(table) for name in re.findall(r"`([\w-]+)`", line[0])} == extras == set(versions.EXTRAS)
    )
    shipped = {path.stem for path in (ROOT / "profiles").glob("*.yaml")}
    named = set(re.findall(r"`((?:small|fuss|wsj0|libri2mix|music|audiocaps|vggsound|two_talkers)_\w+)`", text))
    assert named <= shipped
