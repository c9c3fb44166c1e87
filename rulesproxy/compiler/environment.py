"""What all files share: variables, sets, profiles. Each name is defined once among all files (rule-language 1.3)."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Sequence
from dataclasses import dataclass, field

from rulesproxy.compiler.context import Context
from rulesproxy.compiler.diagnostics import Report
from rulesproxy.compiler.includes import SourceFile
from rulesproxy.compiler.inputs import Inputs
from rulesproxy.compiler.sets import SetCache, build_set
from rulesproxy.compiler.source import Mapping, Node, Position, Scalar
from rulesproxy.compiler.suggest import did_you_mean
from rulesproxy.compiler.variables import expand_vars

_VAR = re.compile(r"\$\$\{|\$\{\s*vars\.([^}]*?)\s*\}")
_DEEPEST_VARS = 50


@dataclass(frozen=True, slots=True)
class Profile:
    name: str
    description: str
    vars: dict[str, str]
    pos: Position = field(compare=False)


@dataclass(slots=True)
class Environment:
    """Names and their values; two environments are equal when rules built in them are."""

    vars: dict[str, str] = field(default_factory=dict)
    sets: dict[str, frozenset[str]] = field(default_factory=dict)
    profiles: dict[str, Profile] = field(default_factory=dict)
    profile: str | None = None


def build_environment(files: Sequence[SourceFile], profile: str | None, inputs: Inputs, report: Report,
                      cache: SetCache) -> Environment:
    """Collect `vars`, `sets` and `profiles` of all files; `profile` is the chosen one."""
    profiles = _definitions(files, "profiles", "profile", report)
    variables = {name: value for name, (_, value) in _definitions(files, "vars", "variable", report).items()}
    _check_profile(profile, profiles, files, report)
    chosen = _profile_vars(profiles[profile][1]) if profile in profiles else {}
    values = _resolve({**variables, **chosen}, report)
    context = Context(report, inputs, vars=values)
    sets = {name: build_set(node, context, cache) for name, (_, node) in
            _definitions(files, "sets", "set", report).items()}
    built = {name: _profile(key, node) for name, (key, node) in profiles.items()}
    return Environment(values, sets, built, profile)


def _definitions(files: Sequence[SourceFile], group: str, noun: str,
                 report: Report) -> dict[str, tuple[Scalar, Node]]:
    found: dict[str, tuple[Scalar, Node]] = {}
    for file in files:
        for document in file.documents:
            node = document.get(group)
            for key, value in node if isinstance(node, Mapping) else ():
                if key.text in found:
                    report.error(key, f'the {noun} "{key.text}" is defined twice', code="defined-twice",
                                 notes=[(found[key.text][0].pos, "it is first defined here")])
                else:
                    found[key.text] = (key, value)
    return found


def _profile_vars(node: Node) -> dict[str, Node]:
    variables = node.get("vars") if isinstance(node, Mapping) else None
    return {key.text: value for key, value in variables} if isinstance(variables, Mapping) else {}


def _profile(key: Scalar, node: Node) -> Profile:
    description = node.get("description") if isinstance(node, Mapping) else None
    texts = {name: value.text for name, value in _profile_vars(node).items() if isinstance(value, Scalar)}
    return Profile(key.text, description.text if isinstance(description, Scalar) else "", texts, key.pos)


def _check_profile(profile: str | None, profiles: dict[str, tuple[Scalar, Node]], files: Sequence[SourceFile],
                   report: Report) -> None:
    if profile is not None and profile not in profiles and files:
        names = ", ".join(profiles)
        report.error(Position(files[0].path, 1, 1), f'no file defines the profile "{profile}"', code="unknown-profile",
                     help=did_you_mean(profile, profiles) or (f"defined are: {names}" if names else ""))


# --- variables -----------------------------------------------------------------------------------------------------


def _resolve(nodes: dict[str, Node], report: Report) -> dict[str, str]:
    """Variables may name other variables, in any order, but not in a circle."""
    scalars = {name: node for name, node in nodes.items() if isinstance(node, Scalar)}
    # Names not resolved yet stand behind those that are, for "did you mean".
    done: ChainMap[str, str] = ChainMap({}, dict.fromkeys(scalars, ""))
    for name in scalars:
        _resolve_one(name, scalars, done, (), report)
    return {name: done[name] for name in scalars}


def _resolve_one(name: str, nodes: dict[str, Scalar], done: ChainMap[str, str], path: tuple[str, ...],
                 report: Report) -> None:
    node = nodes[name]
    if name in done.maps[0]:
        return
    if name in path or len(path) > _DEEPEST_VARS:
        circle = " → ".join([*path[path.index(name):], name]) if name in path else ""
        report.error(node, f"variables refer to each other in a circle: {circle}" if circle else
                     f"variables refer to each other more than {_DEEPEST_VARS} deep", code="var-cycle")
        done[name] = ""
        return
    for found in _VAR.finditer(node.text):
        if found[1] in nodes:
            _resolve_one(found[1], nodes, done, (*path, name), report)
    if name not in done.maps[0]:  # it is, when it turned out to be part of a circle
        done[name] = expand_vars(node, done, report, "in a variable")
