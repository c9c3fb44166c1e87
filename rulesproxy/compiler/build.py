"""Rule files → rules: the front of the compiler in one call.

What comes in: paths and a reader. What goes out: a `Build` with the rules of each file, everything that was read, and
all diagnostics. Files are found and judged (`includes`), shared names are collected (`environment`), then each file's
rules are built (`rules`). A file whose content, environment and inputs did not change is not built again. Knows nothing
of order, indexes or generated code.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as SequenceType
from dataclasses import dataclass, field

from rulesproxy.compiler import ir
from rulesproxy.compiler.diagnostics import Diagnostic, Report, Severity
from rulesproxy.compiler.environment import Environment, Profile, build_environment
from rulesproxy.compiler.includes import Document, Loader, ParseCache, SourceFile
from rulesproxy.compiler.inputs import FileReader, Inputs
from rulesproxy.compiler.rules import build_rule
from rulesproxy.compiler.sets import SetCache
from rulesproxy.compiler.source import Mapping, Node, Scalar, Sequence
from rulesproxy.compiler.suggest import did_you_mean
from rulesproxy.compiler.testcase import TestCase, build_test

#: Errors that only follow from a definition that could not be read.
_FOLLOWS = frozenset(("unknown-var", "unknown-set"))


@dataclass(frozen=True, slots=True, eq=False)
class RuleFile:
    """The rules of one file, in the order written; the same object as long as nothing they depend on changed."""

    path: str
    rules: tuple[ir.Rule, ...]
    tests: tuple[TestCase, ...]
    digest: str


@dataclass(slots=True)
class Build:
    """The result: complete if `report` has no errors, else as far as it got."""

    report: Report
    files: list[RuleFile] = field(default_factory=list)
    profile: str | None = None
    vars: dict[str, str] = field(default_factory=dict)
    sets: dict[str, frozenset[str]] = field(default_factory=dict)
    profiles: dict[str, Profile] = field(default_factory=dict)
    #: path → digest of every file read: rules, sets, bodies
    inputs: dict[str, str] = field(default_factory=dict)
    #: path → content of every file read, for keeping them
    contents: dict[str, bytes] = field(default_factory=dict)
    #: folders in which a change may change the rules
    watched: frozenset[str] = frozenset()
    #: rule files as read, for excerpts in diagnostics
    sources: dict[str, bytes] = field(default_factory=dict)

    @property
    def rules(self) -> list[ir.Rule]:
        """All rules in the order of their files, disabled ones too."""
        return [rule for file in self.files for rule in file.rules]

    @property
    def tests(self) -> list[TestCase]:
        return [test for file in self.files for test in file.tests]

    def render(self, color: bool = False) -> str:
        """The diagnostics as text, with excerpts."""
        return self.report.render(self.sources, color)


@dataclass(frozen=True, slots=True)
class _Built:
    """A built file with what it was built from."""

    source: SourceFile
    file: RuleFile
    diagnostics: tuple[Diagnostic, ...]
    inputs: dict[str, str]  # paths its rules read, with digests


@dataclass(slots=True)
class BuildCache:
    """What one build leaves for the next."""

    parsed: ParseCache = field(default_factory=ParseCache)
    sets: SetCache = field(default_factory=dict)
    environment: Environment | None = None
    built: dict[str, _Built] = field(default_factory=dict)


def build(paths: SequenceType[str], *, profile: str | None = None, files: FileReader,
          cache: BuildCache | None = None) -> Build:
    """Read and build the rule files and folders in `paths`. Never raises for what users write."""
    cache = cache or BuildCache()
    report, inputs = Report(), Inputs(files)
    loader = Loader(inputs, report, cache.parsed)
    loader.load(paths)
    cache.parsed.keep(loader.files)
    before = report.error_count
    environment = build_environment(loader.files, profile, inputs, report, cache.sets)
    complete = loader.complete and report.error_count == before
    if environment != cache.environment:
        cache.environment = environment
        cache.built.clear()
    built = {source.path: _build_file(source, environment, inputs, cache.built.get(source.path))
             for source in loader.files}
    cache.built = built
    for item in built.values():
        for diagnostic in item.diagnostics:
            if complete or diagnostic.code not in _FOLLOWS:
                report.add(diagnostic)
    result = Build(report, [item.file for item in built.values()], profile, environment.vars, environment.sets,
                   environment.profiles, inputs.digests, inputs.contents, frozenset(inputs.watched), loader.sources)
    _check_names(result)
    return result


def _build_file(source: SourceFile, environment: Environment, inputs: Inputs, before: _Built | None) -> _Built:
    if before is not None and before.source is source and _still_good(before, inputs):
        return before
    report, recorder = Report(), Inputs(inputs)
    rules: list[ir.Rule] = []
    tests: list[TestCase] = []
    defaults: Mapping | None = None
    for document in source.documents:
        given = document.get("defaults")
        defaults = given if isinstance(given, Mapping) else defaults
        _build_document(document, defaults, environment, recorder, report, rules, tests)
    file = RuleFile(source.path, tuple(rules), tuple(tests), source.digest)
    return _Built(source, file, tuple(report.diagnostics), recorder.digests)


def _build_document(document: Document, defaults: Mapping | None, environment: Environment, inputs: Inputs,
                    report: Report, rules: list[ir.Rule], tests: list[TestCase]) -> None:
    for node in document.items("rules"):
        if isinstance(node, Mapping):
            rule = build_rule(node, defaults, environment, inputs, report)
            if rule is not None:
                rules.append(rule)
            name, written = node.get("name"), node.get("tests")
            if isinstance(name, Scalar) and isinstance(written, Sequence):
                tests += _build_tests(written.items, report, name.text)
    tests += _build_tests(document.items("tests"), report)


def _build_tests(nodes: Iterable[Node], report: Report, rule: str = "") -> list[TestCase]:
    built = [build_test(node, report, rule, index) for index, node in enumerate(nodes)]
    return [test for test in built if test is not None]


def _still_good(before: _Built, inputs: Inputs) -> bool:
    """True if the files a rule file's rules read are what they were. After an error (a missing file) nobody knows."""
    if any(diagnostic.severity is Severity.ERROR for diagnostic in before.diagnostics):
        return False
    try:
        for path in before.inputs:
            inputs.read(path)
    except OSError:
        return False
    return all(inputs.digests[path] == known for path, known in before.inputs.items())


def _check_names(result: Build) -> None:
    """Rule names are unique among all files; what tests expect must exist."""
    seen: dict[str, ir.Rule] = {}
    for rule in result.rules:
        first = seen.setdefault(rule.name, rule)
        if first is not rule:
            result.report.error(rule.pos, f'the rule name "{rule.name}" is used twice', code="defined-twice",
                                notes=[(first.pos, "it is first used here")])
    if result.report.has_errors:
        return
    for test in result.tests:
        for step in test.steps:
            for name in (*step.expect.rule, *step.expect.no_rule):
                if name not in seen:
                    result.report.error(step.expect.pos, f'the test expects the rule "{name}", which does not exist',
                                        code="unknown-rule", help=did_you_mean(name, seen))
