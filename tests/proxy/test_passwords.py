"""Who may use the proxy: one user, anybody, the users of an htpasswd file."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from rulesproxy.proxy.passwords import apr1, make_verifier, verify
from tests.support.tools import run_tool

SHA_SECRET = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="  # htpasswd -s, of "secret"
APR1_SECRET = "$apr1$abcdefgh$vGqqeFPLPKNJhJnIxuFjZ/"


async def made_by_openssl(password: str, salt: str) -> str:
    return (await run_tool("openssl", "passwd", "-apr1", "-salt", salt, "-stdin", stdin=password.encode())).text.strip()


@pytest.mark.parametrize("password", ["secret", "a", "0123456789abcdef", "0123456789abcdefg", "ü" * 20, "p" * 79])
@pytest.mark.parametrize("salt", ["abcdefgh", "x"])
async def test_apr1_is_what_other_tools_make(password: str, salt: str) -> None:
    entry = await made_by_openssl(password, salt)
    assert apr1(password.encode(), salt) == entry
    assert verify(entry, password)
    assert not verify(entry, password + "x")


async def test_fixed_user() -> None:
    verifier = make_verifier("me:se:cret")
    assert await verifier.accepts("me", "se:cret")
    for user, password in (("me", "se"), ("me", ""), ("", "se:cret"), ("me:se", "cret"), ("Me", "se:cret")):
        assert not await verifier.accepts(user, password)


async def test_an_empty_password_is_one() -> None:
    verifier = make_verifier("me:")
    assert await verifier.accepts("me", "")
    assert not await verifier.accepts("me", "x")


async def test_anybody() -> None:
    assert await make_verifier("any").accepts("whoever", "")


@pytest.mark.parametrize("text", ["me", ":secret", "", "Any"])
def test_what_is_no_option_value_says_what_is(text: str) -> None:
    with pytest.raises(ValueError, match="write user:password, @FILE for a file that htpasswd wrote, or any"):
        make_verifier(text)


async def test_file_with_every_format(tmp_path: Path) -> None:
    bcrypt = pytest.importorskip("bcrypt", reason="needs the bcrypt package")
    strong = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    apr = await made_by_openssl("secret", "abcdefgh")
    path = tmp_path / "users"
    path.write_text(f"# staff\n\nsha:{SHA_SECRET}\napr:{apr}\nstrong:{strong}\nbook:{strong.replace('$2b$', '$2y$')}\n")
    verifier = make_verifier(f"@{path}")
    for user in ("sha", "apr", "strong", "book"):
        for _ in range(2):  # the second time from memory
            assert await verifier.accepts(user, "secret")
            assert not await verifier.accepts(user, "Secret")
            assert not await verifier.accepts(user, "")
    assert not await verifier.accepts("nobody", "secret")
    assert not await verifier.accepts("strong", "a\0b")
    assert not await verifier.accepts("strong", "x" * 10_000)


async def test_a_changed_file_counts_at_once(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"me:{SHA_SECRET}\n")
    verifier = make_verifier(f"@{path}")
    assert await verifier.accepts("me", "secret")
    path.write_text(f"someone:{SHA_SECRET}\n")
    assert not await verifier.accepts("me", "secret")
    assert await verifier.accepts("someone", "secret")


async def test_a_broken_file_leaves_the_users_as_they_were(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "users"
    path.write_text(f"me:{SHA_SECRET}\n")
    verifier = make_verifier(f"@{path}")
    path.write_text("nonsense\n")
    for _ in range(3):
        assert await verifier.accepts("me", "secret")
    os.remove(path)
    for _ in range(3):
        assert await verifier.accepts("me", "secret")
        assert not await verifier.accepts("me", "guess")
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(said) == 2  # once for each thing that is wrong
    assert "stay as they were" in said[0]
    path.write_text(f"other:{SHA_SECRET}\n")
    assert await verifier.accepts("other", "secret")
    assert not await verifier.accepts("me", "secret")


@pytest.mark.parametrize(("content", "words"), [
    ("", "no users; add one with htpasswd -B"),
    ("# nobody\n", "no users"),
    ("me\n", ":1: no user:password"),
    (f"a:{SHA_SECRET}\n:x\n", ":2: no user:password"),
    ("me:secret\n", ":1: neither bcrypt, apr1 nor {SHA}; write it with htpasswd -B"),
    ("me:rqXexS6ZhobKA\n", "neither bcrypt"),
    ("me:$apr1$abc\n", "neither bcrypt"),
])
def test_files_that_cannot_be_used(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "users"
    path.write_text(content)
    with pytest.raises(ValueError, match="users") as caught:
        make_verifier(f"@{path}")
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        make_verifier(f"@{tmp_path}/missing")
