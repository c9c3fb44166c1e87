"""TLS options of the real command: key logs, and mistakes that are said before anything listens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.certificates import OriginCA
from tests.support.command import rulesproxy, running
from tests.support.origin import run_origin

RULES = "version: 1\nrules:\n  - {name: open, match: {host: localhost}, action: {tls: intercept}}\n"
HTTP = ("--listen", "127.0.0.1:0")


async def test_secrets_of_both_sides_are_logged(origin_ca: OriginCA, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(RULES)
    log = tmp_path / "keys.log"
    async with (run_origin(tls=origin_ca.server_context("localhost")) as origin,
                running("run", "rules.yaml", *HTTP, "--set", f"upstream_ca={origin_ca.pem}", cwd=tmp_path,
                        prefix=("env", f"SSLKEYLOGFILE={log}")) as command):
        warning = await command.line("SSLKEYLOGFILE")
        assert str(log) in warning and "warn" in warning
        assert (await command.curl(f"https://localhost:{origin.port}/")).text == "hello"
        assert log.stat().st_mode & 0o077 == 0
        lines = [line.split() for line in log.read_text().splitlines() if not line.startswith("#")]
    randoms = {line[1] for line in lines if line[0] == "CLIENT_HANDSHAKE_TRAFFIC_SECRET"}
    assert len(randoms) == 2  # one for the handshake with the client, one for that with the server
    for random in randoms:
        assert {line[0] for line in lines if line[1] == random} >= {
            "CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0", "SERVER_HANDSHAKE_TRAFFIC_SECRET"}


async def test_a_key_log_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rules.yaml").write_text(RULES)
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "no" / "such" / "folder"))
    done = await rulesproxy("run", "rules.yaml", *HTTP, cwd=tmp_path)
    assert done.code != 0 and b"SSLKEYLOGFILE: cannot write" in done.err


def mismatched(ca: OriginCA, folder: Path) -> Path:
    """The certificate of one, the key of another."""
    one, other = (path.read_text() for path in (ca.leaf("a.test"), ca.leaf("b.test")))
    end = "-----END PRIVATE KEY-----\n"
    path = folder / "mismatched.pem"
    path.write_text(one.partition(end)[0] + end + other.partition(end)[2])
    return path


def no_key(ca: OriginCA, folder: Path) -> Path:
    path = folder / "no-key.pem"
    path.write_bytes(ca.pem.read_bytes())
    return path


def missing(ca: OriginCA, folder: Path) -> Path:
    return folder / "missing.pem"


def empty(ca: OriginCA, folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


@pytest.mark.parametrize(("option", "make", "said"), [
    ("certs=", mismatched, "option certs: {}: the private key does not belong to the certificate"),
    ("certs=a.test=", no_key, "option certs: {} does not hold a certificate and its unencrypted private key"),
    ("certs=*.test=", missing, "option certs: cannot read {}: no such file"),
    ("certs=not a host=", missing, "write HOST=FILE, *.NAME=FILE, **.NAME=FILE or FILE"),
    ("client_certs=", mismatched, "option client_certs: {}: the private key does not belong to the certificate"),
    ("client_certs=", missing, "option client_certs: cannot read {}: no such file"),
    ("client_certs=", empty, "option client_certs: {} holds no HOST.pem"),
], ids=lambda value: getattr(value, "__name__", None))
async def test_files_that_are_of_no_use_are_said_at_the_start(
        origin_ca: OriginCA, tmp_path: Path, option: str, make: Callable[[OriginCA, Path], Path], said: str) -> None:
    (tmp_path / "rules.yaml").write_text(RULES)
    path = make(origin_ca, tmp_path)
    done = await rulesproxy("run", "rules.yaml", *HTTP, "--set", f"{option}{path}", cwd=tmp_path)
    assert done.code != 0
    assert said.format(path) in done.err.decode()
    assert b"listening on" not in done.err


@pytest.mark.parametrize(("options", "said"), [
    (["request_client_cert=required"], "name it with client_ca"),
    (["request_client_cert=maybe"], "optional"),
    (["request_client_cert=optional", "client_ca=missing.pem"], "option client_ca: cannot read missing.pem"),
    (["request_client_cert=optional", "client_ca=rules.yaml"], "rules.yaml holds no certificate"),
    (["tls_version_client_min=TLS2"], "TLS1_3"),
])
async def test_options_that_do_not_go_together(tmp_path: Path, options: list[str], said: str) -> None:
    (tmp_path / "rules.yaml").write_text(RULES)
    done = await rulesproxy("run", "rules.yaml", *HTTP, *(part for option in options for part in ("--set", option)),
                            cwd=tmp_path)
    assert done.code != 0 and said in done.err.decode()
