"""The documentation does what it says: rule files compile and pass their tests, sessions print what is printed."""

from __future__ import annotations

import ast
import asyncio
import re
import shutil
from pathlib import Path

import pytest
import yaml

from docs.generate import pages
from rulesproxy.cli._rules import ServedFiles
from rulesproxy.compiler.inputs import Disk
from rulesproxy.compiler.program import Compiler
from rulesproxy.compiler.simulate import World
from rulesproxy.compiler.testrun import render_failures, run_tests
from tests.docs.pages import ROOT, Block, Page, blocks, commands, matches

DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.glob("*.md"))
#: Pages about measurements and about commands have tests beside what they speak of.
SCRIPTS = [path for path in PAGES if path.name not in ("performance.md", "commands.md")]
TEXTS = [*PAGES, *(path for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
                   if (path := ROOT / name).exists())]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
async def test_page_does_what_it_says(path: Path, tmp_path: Path) -> None:
    page = Page(tmp_path)
    try:
        for block in blocks(path):
            try:
                await carry_out(page, block)
            except AssertionError as exc:
                raise AssertionError(f"{path.name}:{block.line}: {exc}") from None
    finally:
        await page.stop()


async def carry_out(page: Page, block: Block) -> None:
    if block.file is not None:
        target = page.folder / block.file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(block.text, "utf-8")
    match block.language:
        case "yaml" if "fragment" in block.words:
            yaml.safe_load(block.text)
        case "yaml":
            assert not set(block.words) - {f"file={block.file}", "broken", "part"}, block.words
            if not {"broken", "part"} & set(block.words):
                await asyncio.to_thread(compile_and_test, page.folder, block)  # it runs a loop of its own
        case "console":
            for command, printed in commands(block.text):
                for tool in ("curl", "dig"):
                    if tool in command and shutil.which(tool) is None:
                        pytest.skip(f"{tool} is not installed")
                await page.run(command, printed)
        case "text" if "log" in block.words:
            await page.log(block.text.splitlines())


def compile_and_test(folder: Path, block: Block) -> None:
    path = folder / (block.file or "example.yaml")
    if block.file is None:
        path.write_text(block.text, "utf-8")
    program = Compiler(Disk()).compile([str(path)])
    assert program.rules is not None, program.build.render()
    results = run_tests(program.build, World(program.rules, ServedFiles()))
    assert results.results, "a rule file without a test"
    assert not results.failed, render_failures(results, str)


def test_rule_files_of_the_readme(tmp_path: Path) -> None:
    """Its commands are for a fresh clone, which other tests and CI make."""
    found = [block for block in blocks(ROOT / "README.md") if block.language == "yaml"]
    for block in found:
        compile_and_test(tmp_path, block)
    assert found


def test_generated_pages_are_up_to_date() -> None:
    stale = [name for name, text in pages().items() if (DOCS / name).read_text("utf-8") != text]
    assert not stale, "run: python -m docs.generate"


# --- links and names -----------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as repository sites make them."""
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert not dead


def test_the_index_leads_to_every_page() -> None:
    index = (DOCS / "index.md").read_text("utf-8")
    # Measurements are reached by the benchmarks that make them.
    assert [path.name for path in PAGES if path.name not in ("index.md", "performance.md")
            and f"({path.name})" not in index] == []


def names_in(path: Path) -> set[str]:
    """What a file defines: functions, classes, methods as `Class.method`, and constants."""
    names: set[str] = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                names.add(node.name)
            case ast.ClassDef():
                names.add(node.name)
                names |= {f"{node.name}.{inner.name}" for inner in node.body
                          if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)}
            case ast.Assign() | ast.AnnAssign():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_code_that_is_named_exists(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    named = re.findall(r"`((?:rulesproxy/|tests/|docs/)?[\w/]+\.py)(?::([\w.]+))?`", text)
    missing = []
    for file, function in named:
        if file.endswith(("/KEY.py", "/NAME.py")):
            continue  # whatever it will be called
        path = next((base / file for base in (ROOT, ROOT / "rulesproxy") if (base / file).exists()), None)
        if path is None or (function and function not in names_in(path)):
            missing.append(f"{file}:{function}")
    assert named and not missing


def test_sections_of_the_rule_language_that_are_cited_exist() -> None:
    text = (DOCS / "rule-language.md").read_text("utf-8")
    sections = set(re.findall(r"^## (\d)|^\*\*(\d\.\d)\*\*", text, re.M))
    numbers = {number for pair in sections for number in pair if number}
    cited = {number for folder in ("rulesproxy", "tests") for path in (ROOT / folder).rglob("*.py")
             for number in re.findall(r"rule-language (\d(?:\.\d)?)", path.read_text("utf-8"))}
    assert len(cited) > 20 and cited - numbers == set()


# --- the reader itself ---------------------------------------------------------------------------------------------


def test_a_session_is_split_into_commands() -> None:
    assert list(commands("$ a \\\n  b\none\ntwo\n$ c\n")) == [("a b", ["one", "two"]), ("c", [])]


@pytest.mark.parametrize(("expected", "printed", "same"), [
    (["a"], ["a"], True),
    (["a"], ["b"], False),
    (["a"], ["a", "b"], False),
    (["a…c"], ["abc"], True),
    (["…", "z"], ["a", "b", "z"], True),
    (["a", "…"], ["a"], True),
    (["(a"], ["(a"], True),
    ([], ["a"], False),
])  # fmt: skip
def test_output_is_compared(expected: list[str], printed: list[str], same: bool) -> None:
    assert matches(expected, printed) is same
