"""The names of templates (rule-language 3.4): what stands for what, and in which phases it can be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rulesproxy.compiler.expression import SIMPLE, Capture, ExpressionError, Lookup, Parsed
from rulesproxy.compiler.ir import Value
from rulesproxy.compiler.suggest import did_you_mean

if TYPE_CHECKING:
    from rulesproxy.compiler.context import Context

_NAMES = ("vars", "path", "match", "query", "request", "response", "now", "uuid", "random")
_REQUEST = ("method", "host", "path", "url", "headers", "cookies", "body", "json")
_RESPONSE = ("status", "headers", "json")


def resolve(parsed: Parsed, context: Context) -> str | Value:
    """The value a name stands for; a variable's text. Raises ExpressionError for one that is not known here."""
    if parsed.arguments and parsed.steps[0] in _NAMES and parsed.steps != ("random",):
        raise ExpressionError("only random(…) and filters take arguments")
    head, *rest = parsed.steps
    match head:
        case "vars":
            return _variable(".".join(map(str, rest)), context)
        case "path" | "match":
            return _capture(f"{head}.{'.'.join(map(str, rest))}", context)
        case "query" if len(rest) == 1:
            value = Lookup("query", (str(rest[0]),))
        case "request" if rest:
            value = _message("request", rest, _REQUEST)
        case "response" if rest:
            value = _message("response", rest, _RESPONSE)
        case "now" | "uuid" if not rest:
            return Lookup(head)
        case "random" if not rest:
            return _random(parsed.arguments)
        case "query" | "request" | "response" | "now" | "uuid" | "random":
            raise ExpressionError(f"{head} is not written like that", _USAGE[head])
        case _:
            hint = did_you_mean(str(head), _NAMES) or f"known are {', '.join(_NAMES)}"
            raise ExpressionError(f'no name "{head}"', hint)
    if not value.phases & context.visible:
        what = "response" if value.sees_response else "request"
        raise ExpressionError(f"the {what} cannot be seen where this rule acts")
    return value


_USAGE = {
    "query": "query.KEY",
    "request": f"request.{{{' '.join(_REQUEST)}}}", "response": f"response.{{{' '.join(_RESPONSE)}}}",
    "now": "now, or now | date(\"%Y\")", "uuid": "uuid", "random": "random(1, 6)",
}


def _variable(name: str, context: Context) -> str:
    if name not in context.vars:
        raise ExpressionError(f"no variable {name}", did_you_mean(name, context.vars)
                              or "variables are defined under vars: at the top of a file", code="unknown-var")
    return context.vars[name]


def _capture(name: str, context: Context) -> Capture:
    leaves = context.captures.get(name)
    if leaves is None:
        why = context.why_no_capture(name)
        known = sorted(context.captures)
        raise ExpressionError(
            f"the match captures no {name}" + (f": {why}" if why else ""),
            did_you_mean(name, known) or (f"captured are {', '.join(known)}" if known else
                                          "a path like /users/{id} captures path.id"))
    return Capture(name, leaves)


def _message(which: str, rest: list[Any], known: tuple[str, ...]) -> Lookup:
    what, *keys = rest
    if what not in known:
        raise ExpressionError(f"{which} has no {what}", did_you_mean(str(what), known) or _USAGE[which])
    if (which, what) in SIMPLE and not keys:
        return Lookup(SIMPLE[which, what])
    if what == "body" and not keys:
        return Lookup("request.body")
    if what == "json":
        return Lookup(f"{which}.json", tuple(keys))
    if what in ("headers", "cookies") and len(keys) == 1:
        return Lookup(f"{which}.{what}", (str(keys[0]),))
    raise ExpressionError(f"{which}.{what} is not written like that", _USAGE[which])


def _random(arguments: tuple[str | int | float, ...]) -> Lookup:
    match arguments:
        case (int(low), int(high)) if low <= high:
            return Lookup("random", (low, high))
    raise ExpressionError("random takes two whole numbers, the smaller first", "random(1, 6)")
