"""Prints the rules of one file as a Python module: one function per rule and phase, guard clauses, then effects.

Host keys are not printed: the index evaluates them. What a function does, in this order:

1. return unless the rest of the match holds (response part of a rule that acted on the request: unless it did act);
2. give way if a slot is taken;
3. wait if it needs a body that is not there yet;
4. build its operations, so that an error in a template leaves the decision untouched;
5. act.

The text is free of global positions: `RULES[n]` is the n-th rule of the file, numbered when the modules are linked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rulesproxy.compiler.ir import All, AnyOf, Effect, Leaf, Not, Predicate, Rule, Test, Value
from rulesproxy.compiler.source import Position
from rulesproxy.compiler.template import render_inside, values_in
from rulesproxy.compiler.writer import Module
from rulesproxy.runtime.op import Op
from rulesproxy.runtime.phase import Phase, Slot

_SLOT_ATTRIBUTES = {Slot.ANSWER: "answer", Slot.ROUTE: "route", Slot.VIA: "via", Slot.TLS: "tls", Slot.NAME: "name",
                    Slot.DROP: "drop", Slot.CLOSE: "close"}
_BODY_READY = {Phase.REQUEST: "x.request_ready", Phase.RESPONSE: "x.response_ready"}
_BODY_OVER = {Phase.REQUEST: "x.request_over", Phase.RESPONSE: "x.response_over"}
_PHASE = "rulesproxy.runtime.phase"
TRUE = Test("True", "False")
FALSE = Test("False", "True")


@dataclass(frozen=True, slots=True)
class Emitted:
    """A generated module: its text, which line is whose, and the names of its functions by (rule index, phase)."""

    text: str
    source_map: dict[int, Position]
    data: tuple[bytes, ...]
    functions: dict[tuple[int, Phase], str]


def emit_file(rules: tuple[Rule, ...]) -> Emitted:
    """The module for the rules of one file, in the order written. Deterministic: equal IR, equal text."""
    module = Module()
    functions: dict[tuple[int, Phase], str] = {}
    for index, rule in enumerate(rules):
        if not rule.enabled:
            continue
        for phase in sorted(emitted_phases(rule)):
            name = f"rule_{index}_{phase.name.lower()}"
            functions[index, phase] = name
            _RulePrinter(module, rule, index, phase).print(name)
    text, source_map = module.text()
    return Emitted(text, source_map, tuple(module.data), functions)


def emitted_phases(rule: Rule) -> frozenset[Phase]:
    """The phases with a function: those it acts in, and the request phase if its response part must be foreseen."""
    phases = rule.phases
    if Phase.RESPONSE in phases and _looks_ahead(rule):
        phases |= {Phase.REQUEST}
    return phases


def _looks_ahead(rule: Rule) -> bool:
    """The response part reads a body: the request phase has to ask for it in time."""
    return any(e.reads_response_body or e.reads_request_body for e in rule.effects_in(Phase.RESPONSE))


def slots_taken(effects: tuple[Effect, ...], phase: Phase) -> frozenset[Slot]:
    """The slots a rule needs free. A DNS query has one answer, whether a block or a name gives it."""
    slots = frozenset(effect.slot for effect in effects if effect.slot is not None and effect.kind == "slot")
    if phase is Phase.DNS and slots & {Slot.ANSWER, Slot.NAME}:
        slots |= {Slot.ANSWER, Slot.NAME}
    return slots


# --- predicates ---------------------------------------------------------------------------------------------------


def emit_predicate(predicate: Predicate, module: Module) -> Test:
    match predicate:
        case All(items):
            return _join([emit_predicate(item, module) for item in items], "and", TRUE, FALSE)
        case AnyOf(items):
            return _join([emit_predicate(item, module) for item in items], "or", FALSE, TRUE)
        case Not(item):
            return emit_predicate(item, module).negated
        case _:
            return predicate.emit(module)


def _join(tests: list[Test], word: str, empty: Test, settled: Test) -> Test:
    """`empty` is what no test at all comes to and adds nothing; one `settled` settles the matter."""
    if settled in tests:
        return settled
    tests = [test for test in tests if test != empty]
    if not tests:
        return empty
    if len(tests) == 1:
        return tests[0]
    return Test(f" {word} ".join(_in_parentheses(test.yes) for test in tests))


def _in_parentheses(expression: str) -> str:
    simple = not any(word in expression for word in (" and ", " or ", " if ", " for ", "not "))
    return expression if simple else f"({expression})"


def possible(predicate: Predicate, phase: Phase) -> Predicate:
    """What can be said in `phase` already: true wherever the predicate may still turn out true."""
    return _known(predicate, phase, All())


def _known(predicate: Predicate, phase: Phase, unknown: Predicate) -> Predicate:
    match predicate:
        case All(items):
            return All(tuple(_known(item, phase, unknown) for item in items))
        case AnyOf(items):
            return AnyOf(tuple(_known(item, phase, unknown) for item in items))
        case Not(item):
            return Not(_known(item, phase, AnyOf() if unknown == All() else All()))
        case _:
            return predicate if phase in predicate.PHASES else unknown


def without_host_keys(predicate: Predicate) -> tuple[Predicate, ...]:
    """The conjuncts that are left for the function once the index has evaluated the host keys."""
    conjuncts = predicate.items if isinstance(predicate, All) else (predicate,)
    return tuple(item for item in conjuncts if not (isinstance(item, Leaf) and item.IS_HOST))


# --- one function -------------------------------------------------------------------------------------------------


class _RulePrinter:
    def __init__(self, module: Module, rule: Rule, index: int, phase: Phase) -> None:
        self.module = module
        self.rule = rule
        self.phase = phase
        self.me = f"RULES[{index}]"
        self.effects = rule.effects_in(phase)

    def print(self, name: str) -> None:
        self.module.line()
        self.module.line()
        self.module.line(f"def {name}(x, d):", pos=self.rule.pos)
        if not self.effects:
            self._print_look_ahead()
            return
        if self.phase is Phase.DNS and any(effect.slot is Slot.ANSWER for effect in self.effects):
            self._line("if x.own:")  # a block answers clients; the proxy's own look-ups go on (rule-language 3.3)
            self._line("    return")
        self._print_guards(self._predicate())
        slots = self._slots()
        if slots:
            self._line(f"if d.slots & {slots}:")
            self._line(f"    return d.overrule({self.me}, {slots})")
        self._print_wait()
        operations = [(effect, self._operation(effect)) for effect in self.effects if effect.kind != "pass"]
        self._print_act(operations, slots)

    def _predicate(self) -> Predicate:
        conditions = tuple(effect.requires for effect in self.effects if effect.requires is not None)
        return All((*without_host_keys(self.rule.predicate), *conditions)) if conditions else self.rule.predicate

    def _line(self, text: str) -> None:
        self.module.line(text, 1, self.rule.pos)

    def _print_guards(self, predicate: Predicate) -> None:
        if self.phase is Phase.RESPONSE and self._acts_on_request():
            self._line(f"if {self.me} not in x.acted:")
            self._line("    return")
            return
        for conjunct in without_host_keys(predicate):
            test = emit_predicate(conjunct, self.module)
            if test == TRUE:
                continue
            self._line(f"if {test.negated.yes}:")
            self._line("    return")

    def _acts_on_request(self) -> bool:
        return any(effect.kind != "pass" for effect in self.rule.effects_in(Phase.REQUEST))

    def _print_look_ahead(self) -> None:
        """A function of the request phase for a rule that acts on the response only."""
        self._print_guards(possible(self.rule.predicate, Phase.REQUEST))
        later = self.rule.effects_in(Phase.RESPONSE)
        if any(effect.reads_request_body for effect in later):
            self._line("if not x.request_ready:")
            self._line(f"    d.wait({self.me})")
        if any(effect.reads_response_body for effect in later):
            self._line("d.reads_response = True")

    def _print_wait(self) -> None:
        if self.phase not in _BODY_READY:
            return
        if self.phase is Phase.REQUEST:
            readers = [effect for effect in self.rule.effects if effect.reads_request_body]
        else:
            readers = [effect for effect in self.effects if effect.reads_response_body]
        if not readers:
            return
        ready = _BODY_READY[self.phase]
        if all(effect.replaces_body for effect in readers):  # it need not be readable, as long as it is over
            ready = f"({ready} or {_BODY_OVER[self.phase]})"
        self._line(f"if not {ready}:")
        self._line(f"    return d.wait({self.me})")

    def _slots(self) -> str:
        """The slots it needs, by name; empty for none."""
        slots = slots_taken(self.effects, self.phase)
        if not slots:
            return ""
        if slots == {Slot.ANSWER, Slot.NAME}:
            return self.module.use(_PHASE, "DNS_ANSWER")
        names = [self.module.use(_PHASE, str(slot.name)) for slot in sorted(slots)]
        return names[0] if len(names) == 1 else self.module.const(" | ".join(names), "SLOTS")

    def _operation(self, effect: Effect) -> str:
        """The name that stands for the operation: a hoisted constant, or a local built here."""
        expression = print_operation(effect, self.module)
        if is_constant(effect.args):
            return self.module.const(expression, "E")
        local = f"e{self.effects.index(effect)}"
        self._line(f"{local} = {expression}")
        return local

    def _print_act(self, operations: list[tuple[Effect, str]], slots: str) -> None:
        passes = any(effect.kind == "pass" for effect in self.effects)
        if passes:
            self._line(f"d.leave({self.me})")
        else:
            self._line(f"d.act({self.me}, {slots})" if slots else f"d.act({self.me})")
        for effect, name in operations:
            if effect.kind == "slot" and effect.slot is not None:
                self._line(f"d.{_SLOT_ATTRIBUTES[effect.slot]} = {name}")
        edits = [name for effect, name in operations if effect.kind == "edit"]
        if edits:
            self._line(f"d.edits += {_tuple_of(edits)}")
        notes = [f"({self.me}, {name})" for effect, name in operations if effect.kind == "note"]
        if notes:
            self._line(f"d.notes += {_tuple_of(notes)}")
        if self.phase is Phase.REQUEST and any(e.reads_response_body for e in self.rule.effects_in(Phase.RESPONSE)):
            self._line("d.reads_response = True")
        if self.rule.stop and not passes:
            self._line("d.stopped = True")


def _tuple_of(expressions: list[str]) -> str:
    return f"({expressions[0]},)" if len(expressions) == 1 else f"({', '.join(expressions)})"


# --- operations ---------------------------------------------------------------------------------------------------


def is_constant(value: Any) -> bool:
    """True if nothing inside has to be computed at run time."""
    match value:
        case Value():
            return value.is_constant
        case tuple() | list():
            return all(is_constant(item) for item in value)
        case dict():
            return all(is_constant(item) for item in value.values())
    return True


def print_operation(effect: Effect, module: Module) -> str:
    """`Respond(status=200, body=b'…')`: the call that makes the effect's operation."""
    module.use(effect.op.__module__, effect.op.__name__)
    arguments = ", ".join(f"{name}={print_value(value, module)}" for name, value in effect.args)
    return f"{effect.op.__name__}({arguments})"


def print_value(value: Any, module: Module) -> str:
    match value:
        case Value():
            return value.emit(module)
        case _ if not list(values_in(value)):
            return module.value(value)
        case tuple():
            return _tuple_of([print_value(item, module) for item in value])
        case list():
            return f"[{', '.join(print_value(item, module) for item in value)}]"
        case dict():
            inner = ", ".join(f"{module.value(k)}: {print_value(v, module)}" for k, v in value.items())
            return f"{{{inner}}}"
    raise TypeError(f"cannot print {type(value).__name__}")


def evaluate(effect: Effect, x: Any) -> Op:
    """The operation itself, from the IR: what the interpreter uses instead of printed code."""
    return effect.op(**{name: render_inside(value, x) for name, value in effect.args})
