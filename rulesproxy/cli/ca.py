"""Say where the certificate authority is and how to trust it.

The authority is made when there is none yet. Its key never leaves the configuration folder: hand out the certificate
only, and trust it only on machines of your own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "say where the certificate authority is and how to trust it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--confdir", type=Path, metavar="DIR", help="the configuration folder")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--pem", action="store_true", help="print the certificate in PEM form and nothing else")
    shape.add_argument("--path", action="store_true", help="print the path of the certificate and nothing else")


def run(args: argparse.Namespace) -> int:
    from rulesproxy.certs.authority import Authority
    from rulesproxy.config import default_confdir

    authority = Authority.load_or_create(args.confdir if args.confdir is not None else default_confdir())
    if args.pem:
        print(authority.certificate_pem.decode("ascii"), end="")
    elif args.path:
        print(authority.path.absolute())
    else:
        print(_page(authority.path.absolute(), authority.fingerprint_sha256,
                    f"{authority.certificate.not_valid_after_utc:%Y-%m-%d}"))
    return 0


def _page(path: Path, fingerprint: str, until: str) -> str:
    import shlex

    from rulesproxy.certs.trust import trust_steps

    pairs = ":".join(fingerprint[at:at + 2] for at in range(0, len(fingerprint), 2)).upper()
    lines = [f"certificate  {path}", f"key          {path.with_name('ca-key.pem')} (keep it to yourself)",
             f"SHA-256      {pairs}", f"valid until  {until}", "",
             "How to trust it, on machines of your own only:", ""]
    for where, how in trust_steps(shlex.quote(str(path)), "127.0.0.1:8080"):
        lines += [where, f"    {how}"]
    return "\n".join(lines)
