"""Write a first rules.yaml, and the schema that lets editors complete and check it.

Nothing is overwritten.
"""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "write a first rules.yaml"

RULES_NAME = "rules.yaml"
SCHEMA_NAME = "rules.schema.json"

RULES = """\
# yaml-language-server: $schema=rules.schema.json
#
# Rules for rulesproxy. Save this file and the running proxy follows it.
#
#   rulesproxy run                             runs the proxy on 127.0.0.1:8080 with these rules
#   rulesproxy test                            runs the tests below
#   curl -x 127.0.0.1:8080 http://api.test/users/7
#
# All keys of a match hold together; a list means any of. The first rule that answers, wins.
version: 1

vars:
  staging: staging.shop.test

rules:
  # A mock: the server is not asked. {id:int} takes a number from the path.
  - name: mock-user
    match:
      host: api.test
      path: "/users/{id:int}"
    action:
      respond:
        json: {id: "${path.id | int}", name: Ada}
    tests:
      - request: GET http://api.test/users/7
        expect: {rule: mock-user, status: 200, json: {id: 7, name: Ada}, sent: nothing}
      - request: GET http://api.test/users/ada
        expect: {no_rule: mock-user}

  # Nobody reaches this host; a browser is shown a page that names the rule.
  - name: no-trackers
    match: {domain: tracker.test}
    action: {block: {}}
    tests:
      - request: GET http://pixel.tracker.test/
        expect: {rule: no-trackers, status: 403, sent: nothing}

  # The same site from another server, with a header so that the server can tell.
  - name: shop-from-staging
    match: {host: shop.test, method: [GET, HEAD]}
    unless: {path: /checkout/**}
    action:
      redirect_server: {to: "http://${vars.staging}", keep_host: false}
      rewrite:
        headers: {set: {x-env: staging}}
    tests:
      - request: GET http://shop.test/items
        expect: {rule: shop-from-staging, server: "staging.shop.test:80", sent: {headers: {x-env: staging}}}
      - request: GET http://shop.test/checkout/cart
        expect: {no_rule: shop-from-staging, server: "shop.test:80"}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", default=".", type=Path, metavar="DIR",
                        help="where to; made if it does not exist (default: here)")


def run(args: argparse.Namespace) -> int:
    from rulesproxy.errors import StartupError
    from rulesproxy.packaged import rule_schema

    files = {args.folder / RULES_NAME: RULES, args.folder / SCHEMA_NAME: rule_schema().read_text("utf-8")}
    for path in files:
        if path.exists() or path.is_symlink():
            raise StartupError(f"{path} exists already; nothing was written")
    try:
        args.folder.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            with open(path, "x", encoding="utf-8", newline="\n") as file:
                file.write(text)
    except OSError as exc:
        raise StartupError(f"cannot write {exc.filename or args.folder}: {(exc.strerror or str(exc)).lower()}") from exc
    print("\n".join(f"wrote {path}" for path in files))
    where = "" if args.folder == Path(".") else f"cd {args.folder} && "
    print(f"next: {where}rulesproxy run")
    return 0
