"""The rules of the house that a program can check: floors, sizes, forbidden calls, generated files."""

from __future__ import annotations

import ast
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from usepcli import registry

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "usepcli"
SOURCES = sorted(PACKAGE.rglob("*.py"))
FLOORS = [
    {"errors"}, {"registry", "files", "versions", "device"}, {"guard"}, {"profile"}, {"audio", "dsp"},
    {"models", "losses", "metrics", "data"}, {"objectives", "weights"}, {"separator", "report"}, {"engine"}, {"cli"},
]  # fmt: skip
# The engine has floors of its own; its loose modules carry all of them.
ENGINE = [{""}, {"separation"}, {"scoring", "preparing"}, {"training"}, {"mixing", "pseudo", "exchange"}]
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


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


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
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, names)) + r")\b", re.IGNORECASE)
    wrong = [_name(path) for path in (PACKAGE / "engine").rglob("*.py") if pattern.search(path.read_text("utf-8"))]
    assert not wrong, f"an objective is named in {wrong}"


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
        timeout=120,
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
