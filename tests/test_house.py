"""The rules of the house that a program can check: floors, sizes, forbidden calls, generated files."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import inspect
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from usepcli import registry
from usepcli.cli import _earlier, app

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "usepcli"
SOURCES = sorted(PACKAGE.rglob("*.py"))
FLOORS = [
    {"errors", "stops"}, {"registry", "files", "versions", "device"}, {"guard"}, {"profile"}, {"audio", "dsp"},
    {"encoders"}, {"models", "losses", "metrics", "data"}, {"objectives", "weights"}, {"separator", "report"},
    {"engine"}, {"cli"},
]  # fmt: skip
# The engine has floors of its own; its loose modules carry all of them.
ENGINE = [{""}, {"separation"}, {"scoring", "preparing"}, {"training"}, {"mixing", "pseudo", "exchange", "cluster"}]
HEAVY = {"torch", "torchaudio", "numpy", "pandas", "scipy", "soundfile", "soxr", "matplotlib"}
FORBIDDEN = {
    "weights_only=False": r"weights_only\s*=\s*False",
    "pickle.load": r"\bpickle\.loads?\b",
    "import pickle": r"^\s*(import|from) pickle\b",
    "yaml.load(": r"\byaml\.(unsafe_|full_)?load(_all)?\(",
    "shell=True": r"shell\s*=\s*True",
    "eval( or exec(": r"(?<![\w.])(eval|exec)\(",
    "os.system": r"\bos\.(system|popen)\(",
    "extractall()": r"\.extractall\(\s*\)",
}


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@pytest.fixture(autouse=True, scope="module")
def _no_tree_is_left() -> Iterator[None]:
    yield
    _tree.cache_clear()  # a hundred megabytes


def _modules(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        yield module
        # `from usepcli import errors` imports usepcli.errors
        yield from (f"usepcli.{alias.name}" for alias in node.names if module == "usepcli")


def _imports_at_start(tree: ast.Module) -> Iterator[str]:
    """Yield what importing the module imports: nothing inside functions, nothing for type checkers alone."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
            continue
        yield from _modules(node)
        pending += list(ast.iter_child_nodes(node))


def _floor(part: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if part in floor)


def test_floors_every_import_goes_down_and_siblings_do_not_meet():
    wrong = []
    for path in SOURCES:
        part = _part(path)
        if part in ("__init__", "__main__"):
            continue
        for node in ast.walk(_tree(path)):
            for module in _modules(node):
                if module.startswith("."):
                    wrong.append(f"{_name(path)}: relative import {module}")
                steps = module.split(".")
                if steps[0] != "usepcli" or len(steps) < 2 or steps[1] in (part, "__version__"):
                    continue
                if _floor(steps[1]) >= _floor(part):
                    wrong.append(f"{_name(path)} (floor of {part}) imports {module}")
    assert not wrong, "\n".join(wrong)


def test_floors_of_the_engine():
    def floor(group: str) -> int:
        return next(number for number, groups in enumerate(ENGINE) if group in groups)

    home = PACKAGE / "engine"
    groups = {path.name for path in home.iterdir() if (path / "__init__.py").exists()}
    assert groups == set().union(*ENGINE) - {""}
    wrong = []
    for path in home.rglob("*.py"):
        group = path.parent.name if path.parent != home else ""
        for module in (m for node in ast.walk(_tree(path)) for m in _modules(node)):
            steps = module.split(".")
            if steps[:2] != ["usepcli", "engine"]:
                continue
            other = steps[2] if len(steps) > 2 and steps[2] in groups else ""
            if other != group and floor(other) >= floor(group):
                wrong.append(f"{_name(path)} imports {module}")
    assert not wrong, "\n".join(wrong)


def _typing_only(tree: ast.Module) -> set[ast.AST]:
    blocks = (n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test))
    return {inner for block in blocks for part in block.body for inner in ast.walk(part)}


def test_no_modules_import_each_other_in_a_circle():
    def module(path: Path) -> str:
        return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")

    names = {module(path) for path in SOURCES}
    graph: dict[str, set[str]] = {}
    for path in SOURCES:
        tree = _tree(path)
        skipped = _typing_only(tree)
        froms = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n not in skipped]
        found = {str(n.module) for n in froms} | {f"{n.module}.{a.name}" for n in froms for a in n.names}
        graph[module(path)] = (found & names) - {"usepcli", module(path)}
    assert list(graphlib.TopologicalSorter(graph).static_order())  # CycleError names a circle


def test_every_import_of_the_package_is_there():
    there = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in SOURCES}
    wrong = [
        f"{_name(path)} imports {node.module}"
        for path in SOURCES
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "usepcli"
        if node.module not in there
    ]
    assert not wrong, "\n".join(wrong)  # type checkers take what they cannot find for Any


def test_every_part_has_a_floor():
    assert {_part(path) for path in SOURCES} - {"__init__", "__main__"} == set().union(*FLOORS)


def test_command_line_and_profiles_import_nothing_heavy():
    wrong = [
        f"{_name(path)} imports {module}"
        for path in SOURCES
        if _part(path) in ("cli", "profile", "errors", "registry", "__init__")
        for module in _imports_at_start(_tree(path))
        if module.split(".")[0] in HEAVY
    ]
    assert not wrong, "\n".join(wrong)


def test_no_forbidden_calls():
    wrong = []
    for path in SOURCES:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            wrong += [
                f"{_name(path)}:{number}: {what}" for what, pattern in FORBIDDEN.items() if re.search(pattern, line)
            ]
    assert not wrong, "\n".join(wrong)


def test_forbidden_patterns_catch_what_they_forbid():
    caught = {
        "weights_only=False": "torch.load(f, weights_only = False)",
        "pickle.load": "pickle.load(f)",
        "import pickle": "import pickle",
        "yaml.load(": "yaml.load(text)",
        "shell=True": "run(x, shell=True)",
        "eval( or exec(": "x = eval(text)",
        "os.system": "os.system('ls')",
        "extractall()": "archive.extractall()",
    }
    assert all(re.search(FORBIDDEN[what], line) for what, line in caught.items())
    assert not re.search(FORBIDDEN["eval( or exec("], "model.eval()")


def test_the_engine_names_no_objective():
    names = set(registry.OBJECTIVES) | {target.split(":")[1] for target in registry.OBJECTIVES.values()}
    names -= {"fixed"}  # a word of everyday, and of data.mixing
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, names)) + r")\b", re.IGNORECASE)
    wrong = [_name(path) for path in (PACKAGE / "engine").rglob("*.py") if pattern.search(path.read_text("utf-8"))]
    assert not wrong, f"an objective is named in {wrong}"


def test_the_package_stays_below_30_mb():
    held = (path for path in (ROOT / "usepcli").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert sum(path.stat().st_size for path in held) < 30e6


def test_module_sizes():
    sizes = {_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert not {name: size for name, size in sizes.items() if size > 400}
    assert statistics.median(size for name, size in sizes.items() if not name.endswith("__init__.py")) <= 150


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef):
                    yield f"{node.name}.{inner.name}", inner


def test_ninety_five_percent_of_functions_fit_on_a_screen():
    lengths = [n.end_lineno - n.lineno + 1 for path in SOURCES for _, n in _functions(_tree(path)) if n.end_lineno]
    assert sum(length <= 40 for length in lengths) >= 0.95 * len(lengths)


def test_public_functions_are_annotated_and_explained():
    wrong = []
    for path in SOURCES:
        for name, node in _functions(_tree(path)):
            if name.split(".")[0].startswith("_") or (
                name.split(".")[-1].startswith("_") and not name.endswith("__init__")
            ):
                continue
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            bare = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
            if bare or node.returns is None:
                wrong.append(f"{_name(path)}:{node.lineno} {name} is not annotated ({', '.join(bare) or 'return'})")
            overload = any("overload" in ast.unparse(mark) for mark in node.decorator_list)
            if not ast.get_docstring(node) and not name.endswith("__init__") and not overload:
                wrong.append(f"{_name(path)}:{node.lineno} {name} has no docstring")
    assert not wrong, "\n".join(wrong)


def test_every_variable_that_is_read_elsewhere_is_no_key_of_a_profile():
    from usepcli.profile.load import RESERVED

    read = {
        name
        for path in SOURCES
        for name in re.findall(r"""environ\S*\W["'](USEP_[A-Z_]+)["']""", path.read_text("utf-8"))
    }
    assert {"USEP_MODELS", "USEP_RUNS", "USEP_DEBUG"} <= read <= set(RESERVED)


def test_module_heads():
    wrong = []
    for path in SOURCES:
        tree = _tree(path)
        if not ast.get_docstring(tree):
            wrong.append(f"{_name(path)} says nothing about itself")
        if path.name == "__init__.py" and path.parent != PACKAGE and len(tree.body) != 1:
            wrong.append(f"{_name(path)} holds more than a docstring")
        if "utils" in path.stem or "helpers" in path.stem:
            wrong.append(f"{_name(path)}: name it after what it holds")
    assert not wrong, "\n".join(wrong)


def _modules_after(code: str, *arguments: str) -> set[str]:
    line = f"{code}\nimport sys; sys.stderr.write('MODULES ' + ' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", line, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return set(done.stderr.rsplit("MODULES ", 1)[1].split())


def test_importing_usepcli_imports_no_torch():
    assert not (HEAVY | {"pydantic", "typer"}) & _modules_after("import usepcli; usepcli.__version__")


def test_loading_a_profile_imports_no_torch():
    code = "from usepcli.profile.load import load_profile; load_profile(sys.argv[1])".replace(
        "sys", "__import__('sys')"
    )
    profile = sorted((ROOT / "profiles").glob("*.yaml"))[0]
    assert not HEAVY & _modules_after(code, str(profile))


HELP = """
import contextlib, io, sys
from usepcli.cli import app
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    app.main()
"""


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["separate", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]):
    # Typer itself checks the options of a command with pydantic.
    more = {"rich", "yaml", "pydantic"} if len(arguments) == 1 else {"rich", "yaml"}
    assert not (HEAVY | more) & _modules_after(HELP, *arguments)


# What these print needs no torch, which takes seconds to import: each line with its exit code, run in `place`.
NO_TORCH = {
    "models": {"models": 0, "models --json": 0, "models --public": 0},
    "info": {"info default": 0, "info default --json": 0, "info none": 66, "info none.safetensors": 66},
    "profiles": {"profiles": 0},
    "doctor": {"doctor": 0, "doctor --json": 0},
    "separate": {
        "separate": 2, "separate one.wav -o out --nosuch": 2, "separate none.wav -o lost": 66,
        "separate empty -o out": 66, "separate one.wav -o out --model none": 66,
        "separate one.wav -o out --model none.safetensors": 66, "separate one.wav -o out --channels x": 2,
        "separate one.wav -o out --rest x": 2, "separate one.wav -o out --sources x": 2,
        "separate one.wav -o out --clip x": 2, "separate one.wav -o out --format x": 2,
        "separate one.wav -o out --subtype x": 2, "separate one.wav -o out --name x": 2,
        "separate one.wav -o out --keep 7": 2, "separate one.wav -o out --shard 9/2": 2,
        "separate one.wav -o out --figure gif": 2, "separate one.wav -o out --device abacus": 69,
        "separate one.wav -o out --engine abacus": 2, "separate one.wav -o out --engine onnx --device cuda": 2,
        "separate one.wav -o out --chunk-s 0.2": 2, "separate one.wav -o out --residual --rest leave": 2,
        "separate one.wav -o done": 73, "separate one.wav -o out --dry-run": 0,
        "separate one.wav -o out --live -m default": 2, "separate - -o out --live --pcm 8000:1:x": 2,
        "separate one.wav -o out --pcm 8000": 2, "separate none --live -o out": 66,
    },
    "evaluate": {
        "evaluate default --metric x": 2, "evaluate none": 66, "evaluate default --data none": 66,
        "evaluate default --split x": 65, "evaluate default --protocol x": 2, "evaluate default --compare x": 2,
        "evaluate default --by x": 2, "evaluate default --metric si-snri --protocol saijo2023": 2,
        "evaluate --estimates empty": 2, "evaluate --estimates empty --references empty --metric sdri": 2,
        "evaluate --estimates none --references none": 66, "evaluate default --estimates empty": 2,
        "evaluate default --metric wer": 2, "evaluate default --versus none": 66,
        "evaluate default --report-by snr": 2, "evaluate default --device abacus": 69, "evaluate default -o scored": 73,
        "evaluate default --data mixed": 65, "evaluate --judge x": 2, "evaluate --judge clap": 2,
        "evaluate --judge clap --judge-path none": 66, "evaluate default --judge clap --judge-path empty": 2,
        "evaluate --judge clap --judge-path empty": 2, "evaluate --judge-path empty": 2,
        "evaluate --judge clap --judge-path empty --data mixed": 65,
        "evaluate default --listening-test t --listening-kind x": 2, "evaluate --listening-score none": 66,
    },
    "listen": {
        "listen": 2, "listen make": 2, "listen make default -o t --kind x": 2, "listen make none -o t": 66,
        "listen make default -o t --kind preference": 2, "listen make default -o t --against none": 66,
        "listen make default -o tested": 73, "listen score": 2, "listen score none.csv": 66,
    },
    "train": {
        "train": 2, "train --profile none": 78, "train --profile small_pit --set none.key=1": 78,
        "train --profile small_pit --set data.manifest=none": 66,
        "train --profile small_pit --set train.device=abacus": 69,
        "train --profile small_pit --print-config": 0, "train --profile pit.yaml -o run": 78,
    },
    "remix": {
        "remix": 2, "remix -o x.wav": 2, "remix none.wav -o x.wav": 66, "remix one.wav --model none -o x.wav": 66,
        "remix one.wav --gain 1=loud -o x.wav": 2, "remix one.wav --gain 9=3 -o x.wav": 2,
        "remix one.wav --gain 1=3 -o one.wav": 73, "remix one.wav --peak x -o x.wav": 2,
        "remix one.wav --lufs 90 -o x.wav": 2, "remix one.wav --kind free -o x.wav": 2,
        "remix one.wav --subtype x -o x.wav": 2, "remix --shuffle none -o x": 66,
        "remix --shuffle set --kind x -o x": 2, "remix --shuffle set --model none -o x": 66,
        "remix --shuffle set --split x -o x": 2, "remix --shuffle set --n-remix 2 -o x": 2,
        "remix --shuffle set -o set": 73, "remix --shuffle set -o mixed": 73, "remix --shuffle set -o one.wav": 73,
    },
    "prepare-data": {
        "prepare-data": 2, "prepare-data none -o x": 66, "prepare-data empty": 2, "prepare-data empty -o x": 65,
        "prepare-data empty -o x --corpus none": 2, "prepare-data empty -o x --corpus folder --n-src 3": 2,
        "prepare-data empty -o x --corpus speakers --length x": 2, "prepare-data none --check": 66,
    },
    "cluster": {
        "cluster": 2, "cluster slurm": 2, "cluster slurm -- train --profile small_pit": 0,
        "cluster x -- train --profile small_pit": 2, "cluster slurm -- none": 2, "cluster slurm -- train --none": 2,
        "cluster slurm --time x -- train --profile small_pit": 2, "cluster slurm --array 1-4 -- info default": 2,
        "cluster slurm --nodes 2 -- separate a -o out": 2, "cluster slurm --array 4 -- separate a -o out": 2,
        "cluster slurm --signal-s 99 --time 1 -- train --profile small_pit": 2,
        "cluster slurm --sweep seed -- train --profile small_pit": 2,
    },
    "exchange": {
        "import": 2, "import none.pt -o x.safetensors": 66, "import one.wav -o x.safetensors --kind x": 2,
        "export": 2, "export default --to x": 2, "export none --to torch-export": 66,
        "export default --to torch-export -o x.onnx": 2, "export default --to torch-export -o there.pt2": 73,
        "pull": 2, "pull none": 2, "pull ./none": 66, "pull ./none --sha256 12": 2,
        "push": 2, "push none ./x": 66, "push default x": 2, "push default ./pushed": 73,
    },
}  # fmt: skip
LINES = """
import contextlib, io, sys
from usepcli.cli import app
for line in sys.argv[1:]:
    sys.argv, code = ["usep", *line.split()], 0
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            app.main()
        except SystemExit as end:
            code = end.code or 0
    print(code, "torch" in sys.modules, line)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recording, a manifest, and outputs that stand in the way."""
    import numpy as np
    import soundfile as sf

    root = tmp_path_factory.mktemp("place")
    sf.write(root / "one.wav", np.zeros(800), 8000)
    for name in (
        "empty/.keep",
        "done/one_1.wav",
        "scored/items.csv",
        "tested/key.csv",
        "there.pt2",
        "pushed/README.md",
    ):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    shutil.copytree(PACKAGE / "samples" / "testset", root / "set")
    (root / "mixed").mkdir()
    (root / "mixed/manifest.csv").write_text("id,mixture,sample_rate,frames\na,one.wav,8000,800\n")
    (root / "run").mkdir()
    (root / "run/run.json").write_text('{"profile": {"seed": 7}}')
    (root / "run/last.ckpt").touch()
    (root / "pit.yaml").write_text("extends: small_pit\nabout: on the set\ndata: {manifest: set, pool: []}\n")
    return root


@pytest.mark.parametrize("group", NO_TORCH)
def test_cheap_commands_and_wrong_lines_are_answered_without_torch(group: str, place: Path) -> None:
    wanted = NO_TORCH[group]
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(place),
        "USEP_PROFILES": str(ROOT / "profiles"),
    }
    done = subprocess.run(
        [sys.executable, "-c", LINES, *wanted], capture_output=True, text=True, cwd=place, env=environ, timeout=120,
        stdin=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [f"{code} False {line}" for line, code in wanted.items()]


# Command -> the functions beneath it, and the options that are the command's own.
BENEATH = {
    "train": (["training.run:train", "training.sweep:train_all"], {"print_config", "as_json", "quiet"}),
    "calibrate": (["scoring.calibrating:calibrate"], {"as_json"}),
    "evaluate": (["scoring.run:evaluate"], {"as_json", *_earlier.NAMES}),
    "listen make": (["scoring.listen:make"], {"as_json"}),
    "listen score": (["scoring.listen:score"], {"as_json", "quiet"}),
    "separate": (
        ["separation.run:separate", "separation.live:separate_live"],
        {"ctx", "live", "as_json"},
    ),
    "remix": (["mixing.run:mix", "pseudo.run:shuffle"], {"ctx", "shuffle", "as_json"}),
    "import": (["exchange.foreign:import_checkpoint"], {"as_json", "quiet"}),
    "cluster": (["cluster.job:job_file"], set()),
    "export": (["exchange.export:export"], {"as_json", "quiet"}),
    "pull": (["exchange.hub_pull:pull"], {"as_json"}),
    "push": (["exchange.hub_push:push"], {"as_json"}),
}
# What a notebook may hand in, and a command line cannot; and the manifest that --shuffle names.
_HANDED_IN = {"say", "show", "done", "manifest"}


def _defaults(function: Any) -> dict[str, Any]:
    """Return the defaults of a function's arguments; none, None and nothing at all are one."""
    found = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    return {name: None if value in (inspect.Parameter.empty, (), []) else value for name, value in found.items()}


@pytest.mark.parametrize("command", BENEATH)
def test_the_options_of_a_command_are_the_arguments_of_the_function_beneath_it(command: str) -> None:
    names, own = BENEATH[command]
    first = command.split()[0]
    module = importlib.import_module(f"usepcli.cli.{app.MODULES.get(first, first)}")
    options = _defaults(getattr(module, command.split()[-1] if " " in command else app.MODULES.get(first, first)))
    below: dict[str, Any] = {}
    for name in names:
        place, function = name.split(":")
        below |= _defaults(getattr(importlib.import_module(f"usepcli.engine.{place}"), function))
    assert own <= options.keys()
    wanted = {name: default for name, default in below.items() if name not in _HANDED_IN}
    assert {name: default for name, default in options.items() if name not in own} == wanted


def test_every_command_with_work_beneath_it_keeps_the_idiom() -> None:
    alone = {"prepare-data", "profiles", "models", "info", "doctor"}  # tables of what is there; options by corpus
    assert {command.split()[0] for command in BENEATH} | alone == set(app.COMMANDS)


def test_the_command_line_holds_no_work_files() -> None:
    assert {path.stem for path in (PACKAGE / "cli").glob("_*.py")} == {
        *("__init__", "_corpora", "_docs", "_earlier", "_help", "_options", "_streams")
    }


def test_generated_files_are_fresh():
    from usepcli.cli import _docs

    made = _docs.generated()
    kept = {
        _name(path): path.read_text("utf-8") for folder in ("man", "completions") for path in (ROOT / folder).iterdir()
    }
    stale = sorted(path for path in set(made) | set(kept) if made.get(path) != kept.get(path))
    assert not stale, f"stale: {', '.join(stale)}; run: {_docs.COMMAND_LINE}"


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
def test_man_pages_have_no_warnings():
    for page in sorted((ROOT / "man").glob("*.1")):
        done = subprocess.run(["groff", "-man", "-ww", "-Tutf8", str(page)], capture_output=True, text=True, check=True)
        assert done.stderr == "", page.name


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_bash_completion_is_valid():
    script = ROOT / "completions" / "usep.bash"
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_every_exit_code_is_in_the_contributing_guide():
    from usepcli.cli.app import EXIT_CODES

    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert all(re.search(rf"\| {code} \|", text) for code in EXIT_CODES)


def test_the_package_says_that_it_is_typed() -> None:
    """Without the marker a type checker takes every name of usepcli for Any (PEP 561)."""
    assert (PACKAGE / "py.typed").is_file()
