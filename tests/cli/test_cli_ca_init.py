"""`rulesproxy ca` and `rulesproxy init`."""

from __future__ import annotations

import json
import re
import ssl
from pathlib import Path

import pytest

from rulesproxy.cli.main import run_command_line
from rulesproxy.packaged import rule_schema
from tests.support.command import rulesproxy, running


def test_ca_says_where_it_is_and_how_to_trust_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    confdir = tmp_path / "conf"
    assert run_command_line(["ca", "--confdir", str(confdir)]) == 0
    shown = capsys.readouterr().out
    assert f"certificate  {confdir}/ca-cert.pem" in shown
    assert re.search(r"^SHA-256      ([0-9A-F]{2}:){31}[0-9A-F]{2}$", shown, re.MULTILINE)
    for where in ("curl", "Debian", "Fedora", "macOS", "Windows", "Firefox", "Java", "Python", "Node.js", "Android",
                  "iOS"):
        assert f"\n{where}" in shown
    assert (confdir / "ca-key.pem").stat().st_mode & 0o777 == 0o600


def test_ca_prints_the_path_and_the_certificate_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["ca", "--confdir", str(tmp_path / "c"), "--path"]) == 0
    path = Path(capsys.readouterr().out.rstrip("\n"))
    assert run_command_line(["ca", "--confdir", str(tmp_path / "c"), "--pem"]) == 0
    pem = capsys.readouterr().out
    assert pem == path.read_text()
    assert ssl.PEM_cert_to_DER_cert(pem)
    assert "PRIVATE" not in pem


def test_ca_in_a_folder_others_can_read_is_one_clear_message(tmp_path: Path,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o755)
    assert run_command_line(["ca", "--confdir", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"rulesproxy: {tmp_path} holds private keys")


async def test_what_init_writes_is_correct_and_runs(tmp_path: Path) -> None:
    done = await rulesproxy("init", "new", cwd=tmp_path)
    assert (done.code, done.err) == (0, b"")
    assert "cd new && rulesproxy run" in done.text
    written = tmp_path / "new"
    assert (written / "rules.schema.json").read_bytes() == rule_schema().read_bytes()
    assert json.loads((written / "rules.schema.json").read_text())["title"] == "rulesproxy rule file"
    assert (written / "rules.yaml").read_text().startswith(
        "# yaml-language-server: $schema=rules.schema.json\n")
    checked = await rulesproxy("check", "rules.yaml", cwd=written)
    assert (checked.code, "0 errors, 0 warnings" in checked.text) == (0, True), checked.text
    tested = await rulesproxy("test", "rules.yaml", cwd=written)
    assert tested.code == 0, tested.text
    async with running("run", "--listen", "127.0.0.1:0", cwd=written) as proxy:
        assert json.loads((await proxy.curl("http://api.test/users/7")).out) == {"id": 7, "name": "Ada"}


@pytest.mark.parametrize("name", ["rules.yaml", "rules.schema.json"])
def test_init_overwrites_nothing(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_text("mine")
    assert run_command_line(["init", str(tmp_path)]) == 1
    assert f"{tmp_path / name} exists already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_init_where_nothing_can_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run_command_line(["init", str(tmp_path / "file" / "below")]) == 1
    assert capsys.readouterr().err.startswith("rulesproxy: ")
