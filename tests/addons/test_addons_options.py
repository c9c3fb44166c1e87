"""Options are typed, change together, and say what they would have accepted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import pytest

from rulesproxy.addons.core_options import ProxyOptions
from rulesproxy.addons.errors import OptionsError
from rulesproxy.addons.option_types import Size
from rulesproxy.addons.options import Options
from rulesproxy.addons.options_page import markdown
from rulesproxy.proxy.settings import Settings

OPTIONAL = Optional[str]  # noqa: UP045 - the spelling scripts use


def make() -> Options:
    options = Options()
    options.add("flag", bool, False, "")
    options.add("count", int, 1, "", minimum=1)
    options.add("ratio", float, 0.5, "")
    options.add("size", Size, 1024, "")
    options.add("word", str, "a", "", ("a", "b"))
    options.add("maybe", OPTIONAL, None, "")
    options.add("many", Sequence[str], (), "")
    return options


@pytest.mark.parametrize("name, text, value", [
    ("flag", "true", True), ("flag", "Yes", True), ("flag", "off", False), ("flag", "0", False),
    ("count", "42", 42), ("count", " 7 ", 7), ("ratio", "1e-1", 0.1), ("ratio", "3", 3.0),
    ("size", "10m", 10 << 20), ("size", "64 KiB", 64 << 10), ("size", "0", 0), ("size", "2G", 2 << 30),
    ("word", "b", "b"), ("maybe", "", None), ("maybe", "x=y", "x=y"), ("many", "one", ("one",)), ("many", "", ()),
])
def test_text_is_read_as_the_options_type(name: str, text: str, value: Any) -> None:
    parsed = make().parse(name, text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize("name, text", [
    ("flag", "maybe"), ("count", "1.5"), ("count", "0"), ("count", ""), ("count", "٣"), ("count", "9" * 30),
    ("ratio", "nan"), ("ratio", "inf"), ("ratio", "x"), ("size", "-1"), ("size", "10x"), ("size", ""), ("word", "c"),
])
def test_text_that_does_not_fit_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(OptionsError, match=f"option {name}: "):
        make().parse(name, text)


@pytest.mark.parametrize("name, value", [
    ("flag", 1), ("flag", "true"), ("count", True), ("count", 1.0), ("ratio", "1"), ("ratio", False), ("word", None),
    ("maybe", 3), ("many", "text"), ("many", [1]), ("size", 1.5),
])
def test_values_of_another_type_are_refused(name: str, value: Any) -> None:
    options = make()
    before = {spec.name: current for spec, current in options.items()}
    with pytest.raises(OptionsError, match=f"option {name}: "):
        options.update(**{"ratio": 0.75, name: value} if name != "ratio" else {name: value})
    assert {spec.name: current for spec, current in options.items()} == before


def test_an_unknown_name_gets_the_nearest_known_one() -> None:
    options = make()
    with pytest.raises(OptionsError, match=r'unknown option "cuont"; did you mean "count"\?'):
        options.update(cuont=1)
    with pytest.raises(AttributeError, match=r'unknown option "cuont"; did you mean "count"\?'):
        _ = options.cuont
    assert not hasattr(options, "cuont")


@pytest.mark.parametrize(("name", "ours"), [
    ("ssl_insecure", "verify_upstream=false"), ("proxyauth", "proxy_auth"),
    ("ignore_hosts", "a rule with tls: passthrough"),
])
def test_words_of_other_proxies_are_known(name: str, ours: str) -> None:
    options = ProxyOptions()
    options.set([f"{name}=x"])
    with pytest.raises(OptionsError, match=rf'unknown option "{name}"; did you mean {ours}\?'):
        options.check_deferred()


@pytest.mark.parametrize(("name", "mode"), [("listen", "regular"), ("dns", "dns")])
def test_listeners_are_options_by_another_name_than_on_the_command_line(name: str, mode: str) -> None:
    options = ProxyOptions()
    options.load({name: "127.0.0.1:0"}, "config.yaml")
    with pytest.raises(OptionsError, match=rf'did you mean "mode: \[{mode}@HOST:PORT\]"'):
        options.check_deferred()


def test_assignment_is_an_update() -> None:
    options = make()
    seen: list[frozenset[str]] = []
    options.observe(seen.append)
    options.count = 5
    options.count = 5
    assert options.count == 5 and seen == [frozenset({"count"})]
    with pytest.raises(OptionsError):
        options.count = "5"


def test_set_applies_assignments() -> None:
    options = make()
    options.set(["many=a", "flag", "many=b=c", "count=2", "count=3"])
    assert options.many == ("a", "b=c")
    assert options.flag is True and options.count == 3


def test_a_name_alone_is_for_switches_only() -> None:
    with pytest.raises(OptionsError, match="--set: option word needs a value: word="):
        make().set(["word"])


def test_errors_name_their_source() -> None:
    with pytest.raises(OptionsError, match=r"^--set: option count: expected a whole number, not 'x'$"):
        make().set(["count=x"])
    with pytest.raises(OptionsError, match=r"^config\.yaml: option count: expected one value, not a list$"):
        make().load({"count": ["1", "2"]}, "config.yaml")


def test_values_for_options_declared_later_wait() -> None:
    options = make()
    options.load({"late": "1", "later": ["x", "y"]}, "config.yaml")
    options.set(["late=2"])
    options.add("late", int, 0, "", owner="script.py")
    options.add("later", Sequence[str], (), "", owner="script.py")
    assert options.late == 2, "the command line wins"
    assert options.later == ("x", "y")
    options.check_deferred()


def test_values_nobody_declares_are_mistakes() -> None:
    options = make()
    options.load({"coutn": "1"}, "config.yaml")
    options.set(["zzz=2"])
    with pytest.raises(OptionsError) as caught:
        options.check_deferred()
    assert str(caught.value).split("\n") == [
        'config.yaml: unknown option "coutn"; did you mean "count"?', '--set: unknown option "zzz"']


def test_a_waiting_value_of_the_wrong_type_is_refused_at_declaration() -> None:
    options = make()
    options.set(["late=x"])
    with pytest.raises(OptionsError, match="--set: option late: expected a whole number"):
        options.add("late", int, 0, "")


def test_a_script_may_declare_its_option_again() -> None:
    options = make()
    options.add("mine", int, 1, "", owner="script.py")
    options.add("mine", int, 2, "", owner="script.py")
    assert options.mine == 2, "an untouched value follows the new default"
    options.mine = 7
    options.add("mine", int, 3, "", owner="script.py")
    assert options.mine == 7, "a value that was set stays"
    options.add("mine", str, "x", "", owner="script.py")
    assert options.mine == "x", "a value that no longer fits does not"


@pytest.mark.parametrize("owner", ["", "other.py"])
def test_nobody_declares_an_option_of_somebody_else(owner: str) -> None:
    options = make()
    options.add("mine", int, 1, "", owner="script.py")
    with pytest.raises(OptionsError, match=r"option mine is already declared by script\.py"):
        options.add("mine", int, 1, "", owner=owner)
    with pytest.raises(OptionsError, match="option count is already declared by the proxy"):
        options.add("count", int, 1, "", owner="script.py")


@pytest.mark.parametrize("name", ["update", "_specs", "two words", "items", "", "1st"])
def test_names_that_cannot_be_attributes_are_refused(name: str) -> None:
    with pytest.raises(OptionsError, match="cannot be the name"):
        Options().add(name, int, 1, "")


@pytest.mark.parametrize("typespec", [bytes, dict, list[int], [], object()])
def test_unsupported_types_are_refused(typespec: Any) -> None:
    with pytest.raises(OptionsError, match="not supported"):
        Options().add("x", typespec, None, "")


def test_a_snapshot_brings_back_declarations_and_values() -> None:
    options = make()
    before = options.snapshot()
    options.add("late", int, 1, "")
    options.count = 9
    assert options.restore(before) == {"count"}
    assert options.count == 1 and "late" not in options and not hasattr(options, "late")


def test_every_proxy_option_is_declared_annotated_and_explained() -> None:
    options = ProxyOptions()
    assert set(ProxyOptions.__annotations__) == options.names
    for spec, value in options.items():
        assert spec.help.endswith("."), spec.name
        assert spec.check(value) == value


def test_the_cores_settings_take_their_values_from_the_options() -> None:
    options = ProxyOptions()
    options.update(connect_timeout=1.5, identity="warn")
    settings = Settings.from_options(options)
    assert (settings.connect_timeout, settings.identity) == (1.5, "warn")
    default = Settings()
    for name in ("head_timeout", "tls_timeout", "idle_timeout", "body_timeout", "rule_body_limit", "connections"):
        assert getattr(settings, name) == getattr(default, name), name


def test_the_options_page_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "options.md"
    assert page.read_text(encoding="utf-8") == markdown(ProxyOptions()), \
        "run: python -m rulesproxy.addons.options_page > docs/options.md"
