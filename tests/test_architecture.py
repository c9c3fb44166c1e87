"""The layout of the code: who may import whom, what stays pure, how large a file may grow.

If a line here hurts, change the design first, then the line, and say why in the commit.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "rulesproxy"

#: Package → the packages it may import, besides itself. Modules at the top are the composition root: anything goes.
MAY_IMPORT: dict[str, set[str]] = {
    "model": set(),
    "codecs": {"model"},
    "net": {"model", "codecs"},
    "certs": {"model"},
    "addons": {"model", "errors", "logs"},
    "runtime": {"model"},
    "compiler": {"model", "runtime"},
    "matchers": {"compiler", "runtime", "model"},
    "actions": {"compiler", "runtime", "model"},
    "proxy": {"addons", "net", "certs", "codecs", "model"},
}
#: Packages that know neither clock nor network.
PURE = ("model", "codecs", "runtime", "compiler", "matchers", "actions")
IMPURE_MODULES = {"asyncio", "socket", "ssl", "threading", "selectors", "subprocess", "multiprocessing"}
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 60
#: The one place where generated code is executed.
EXECUTES = "rulesproxy/compiler/load.py"


def modules() -> Iterator[tuple[str, Path, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        package = path.relative_to(PACKAGE).parts[0]
        yield package, path, ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, "imports are absolute"
            if node.module == "rulesproxy":
                for alias in node.names:
                    yield f"rulesproxy.{alias.name}", node.lineno
            else:
                yield node.module, node.lineno


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_imports_point_inwards() -> None:
    wrong = []
    for package, path, tree in modules():
        allowed = MAY_IMPORT.get(package)
        if allowed is None:
            continue
        for name, line in imported(tree):
            parts = name.split(".")
            if parts[0] == "rulesproxy" and len(parts) > 1 and parts[1] not in allowed | {package}:
                wrong.append(f"{place(path, line)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_every_package_is_in_the_table() -> None:
    packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert packages - {"cli", "demo"} == set(MAY_IMPORT)


def test_pure_packages_know_no_clock_and_no_network() -> None:
    wrong = [f"{place(path, line)} imports {name}" for package, path, tree in modules() if package in PURE
             for name, line in imported(tree) if name.split(".")[0] in IMPURE_MODULES]
    assert not wrong, "\n".join(wrong)


def test_files_and_functions_stay_small() -> None:
    wrong = []
    for _, path, tree in modules():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MOST_LINES:
            wrong.append(f"{path.relative_to(ROOT)} has {lines} lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MOST_LINES_OF_A_FUNCTION:
                    wrong.append(f"{place(path, node.lineno)} {node.name} has {length} lines")
    assert not wrong, "\n".join(wrong)


def test_every_module_says_what_it_is() -> None:
    silent = [str(path.relative_to(ROOT)) for _, path, tree in modules() if not ast.get_docstring(tree)]
    assert not silent, "\n".join(silent)


def test_code_is_executed_in_one_place() -> None:
    calls = [place(path, node.lineno) for _, path, tree in modules() for node in ast.walk(tree)
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("exec", "eval")]
    assert [call.rpartition(":")[0] for call in calls] == [EXECUTES]


@pytest.mark.parametrize("package", ["matchers", "actions"])
def test_every_unit_is_one_file_with_one_key(package: str) -> None:
    keys = {}
    for path in sorted((PACKAGE / package).glob("[a-z]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets
                 if isinstance(target, ast.Name)}
        names |= {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)
                  and isinstance(node.target, ast.Name)}
        assert {"KEY", "SUMMARY", "EXAMPLE", "SCHEMA"} <= names, path.name
        key = next(ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)
                   and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "KEY")
        assert keys.setdefault(key, path) == path
