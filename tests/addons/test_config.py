"""The configuration folder is found where people expect it, and mistakes in its file are pointed out."""

from __future__ import annotations

from pathlib import Path

import pytest

from rulesproxy.addons.core_options import ProxyOptions
from rulesproxy.addons.errors import OptionsError
from rulesproxy.config import default_confdir, load_config


def test_where_the_folder_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RULESPROXY_CONFDIR", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert default_confdir() == tmp_path / ".config" / "rulesproxy"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert default_confdir() == tmp_path / ".config" / "rulesproxy"
    monkeypatch.setenv("XDG_CONFIG_HOME", "/xdg")
    assert default_confdir() == Path("/xdg/rulesproxy")
    monkeypatch.setenv("RULESPROXY_CONFDIR", "~/mine")
    assert default_confdir() == tmp_path / "mine"


def load(folder: Path, text: str | bytes) -> ProxyOptions:
    (folder / "config.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    options = ProxyOptions()
    options.load(load_config(folder), "config.yaml")
    options.check_deferred()
    return options


def test_values_are_read_as_the_options_type(tmp_path: Path) -> None:
    options = load(tmp_path, "connect-timeout: 5\nverify_upstream: no\nrule_body_limit: 1m\nprofile: 10:30\n"
                             "upstream_ca: null\ndecrypt: none\nresolvers: [1.1.1.1, '::1']\n")
    assert options.connect_timeout == 5.0 and options.verify_upstream is False
    assert options.rule_body_limit == 1 << 20 and options.profile == "10:30"
    assert options.upstream_ca is None and options.decrypt == "none"
    assert options.resolvers == ("1.1.1.1", "::1")


def test_a_single_value_is_a_list_of_one(tmp_path: Path) -> None:
    assert load(tmp_path, "resolvers: 1.1.1.1\n").resolvers == ("1.1.1.1",)


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "\ufeff# BOM\n"])
def test_an_empty_file_sets_nothing(tmp_path: Path, text: str) -> None:
    assert [value for _, value in load(tmp_path, text).items()] == [value for _, value in ProxyOptions().items()]


def test_no_file_sets_nothing(tmp_path: Path) -> None:
    assert load_config(tmp_path) == {}


@pytest.mark.parametrize("text, message", [
    ("connect_timeuot: 5\n", 'config.yaml: unknown option "connect_timeuot"; did you mean "connect_timeout"?'),
    ("connect_timeout: soon\n", "config.yaml: option connect_timeout: expected a number, not 'soon'"),
    ("connect_timeout: 0\n", "config.yaml: option connect_timeout: 0.0 is less than 0.01"),
    ("decrypt: some\n", "config.yaml: option decrypt: 'some' is not one of auto, named, none"),
    ("grace: [1, 2]\n", "config.yaml: option grace: expected one value, not a list"),
    ("grace: 1\n\ngrace: 2\n", 'config.yaml:3:1: option "grace" is set twice'),
    ("grace: {a: 1}\n", 'config.yaml:1:8: option "grace": expected a value or a list of values'),
    ("resolvers: [[a]]\n", 'config.yaml:1:12: option "resolvers": expected a list of plain values'),
    ("- grace\n", "config.yaml:1:1: expected one `option: value` per line"),
    ("[a]: 1\n", "config.yaml:1:1: expected the name of an option"),
    ("grace: 1\n\tx: 2\n", "config.yaml:2:1: found character '\\t' that cannot start any token"),
    ("grace: [1\n", "config.yaml:2:1: expected ',' or ']', but got '<stream end>'"),
    ("confdir: /x\n", "config.yaml:1:1: confdir cannot be set in its own config.yaml; use --confdir"),
    ("a: 1\n---\nb: 2\n", "config.yaml:2:1: but found another document"),
    ("[" * 100_000, "config.yaml: nested too deeply"),
    ("#" * (1 << 20) + "#", "config.yaml: larger than 1 MiB"),
])
def test_mistakes_are_pointed_out(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(OptionsError) as caught:
        load(tmp_path, text)
    assert str(caught.value) == message


@pytest.mark.parametrize("content", [b"grace: \xff\n", b"grace: \x00\n"])
def test_what_is_not_text_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(OptionsError, match=r"^config\.yaml: .*"):
        load(tmp_path, content)


def test_an_unreadable_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").mkdir()
    with pytest.raises(OptionsError, match=r"config\.yaml: Is a directory$"):
        load_config(tmp_path)
