"""What is run with real clients, and what must be seen: the one source of the tests and of docs/clients.md.

`python -m tests.acceptance.clients.table` writes the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

PAGE = Path(__file__).resolve().parents[3] / "docs" / "clients.md"
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"

WAYS = ("regular", "regular, TLS", "socks5", "upstream:http", "upstream:https", "reverse:http", "reverse:https",
        "reverse:tcp", "reverse:tls", "transparent")


@dataclass(frozen=True, slots=True)
class Client:
    """`program` runs it, `kind` is the kind of origin it talks to."""

    program: str
    kind: str

    @property
    def schemes(self) -> tuple[str, str]:
        return {"socket": ("ws", "wss"), "grpc": ("grpc", "grpcs")}.get(self.kind, ("http", "https"))


CLIENTS = {
    "curl --http1.1": Client("run_curl", "web"),
    "curl --http2": Client("run_curl", "web"),
    "curl --http2-prior-knowledge": Client("run_curl", "h2c"),
    "curl -N, event stream": Client("run_curl", "events"),
    "httpx": Client("run_httpx", "web"),
    "httpx, http2=True": Client("run_httpx", "web"),
    "httpx, event stream": Client("run_httpx", "events"),
    "aiohttp": Client("run_aiohttp", "web"),
    "websockets": Client("run_websockets", "socket"),
    "grpcio": Client("run_grpc", "grpc"),
    "Node fetch": Client("run_node", "web"),
    "Node fetch, allowH2": Client("run_node", "web"),
    "Node fetch, event stream": Client("run_node", "events"),
    "Node, WebSocket": Client("run_node", "socket"),
    "Chromium, page": Client("run_chromium", "web"),
    "Chromium, event stream": Client("run_chromium", "events"),
    "Chromium, WebSocket": Client("run_chromium", "socket"),
}

# A cell is `CLIENT-ORIGIN`, the version of HTTP on either side of the proxy, or one version where bytes pass and both
# ends are the same, or a letter for the reason why there is nothing to run. In the order of WAYS.
CHANGED = """
curl --http1.1               | http  | 1-1 1-1 1-1 1-1 1-1 1-1 1-2 1 t 1-1
curl --http1.1               | https | 1-2 1-2 1-2 1-2 1-2 1-1 1-2 b 1 1-2
curl --http2                 | http  | 1-1 1-1 1-1 1-1 1-1 1-1 1-2 1 t 1-1
curl --http2                 | https | 2-2 2-2 2-2 2-2 2-2 2-1 2-2 b 2 2-2
curl --http2-prior-knowledge | http  | 2-2 2-2 2-2 2-2 2-2 2-2 2-2 2 t 2-2
curl --http2-prior-knowledge | https | 2-2 2-2 2-2 2-2 2-2 h   2-2 b 2 2-2
curl -N, event stream        | http  | 1-1 1-1 1-1 1-1 1-1 1-1 1-1 1 t 1-1
curl -N, event stream        | https | 2-1 2-1 2-1 2-1 2-1 2-1 2-1 b 1 2-1
httpx                        | http  | 1-1 1-1 1-1 1-1 1-1 1-1 1-2 1 t 1-1
httpx                        | https | 1-2 1-2 1-2 1-2 1-2 1-1 1-2 b 1 1-2
httpx, http2=True            | http  | 1-1 1-1 1-1 1-1 1-1 1-1 1-2 1 t 1-1
httpx, http2=True            | https | 2-2 2-2 2-2 2-2 2-2 2-1 2-2 b 2 2-2
httpx, event stream          | http  | 1-1 1-1 1-1 1-1 1-1 1-1 1-1 1 t 1-1
httpx, event stream          | https | 1-1 1-1 1-1 1-1 1-1 1-1 1-1 b 1 1-1
aiohttp                      | http  | 1-1 1-1 1-1 1-1 1-1 1-1 1-2 1 t 1-1
aiohttp                      | https | 1-2 1-2 1-2 1-2 1-2 1-1 1-2 b 1 1-2
websockets                   | ws    | 1-1 1-1 1-1 1-1 1-1 1-1 1-1 1 t 1-1
websockets                   | wss   | 1-1 1-1 1-1 1-1 1-1 1-1 1-1 b 1 1-1
grpcio                       | grpc  | 2-2 p   p   2-2 2-2 2-2 2-2 2 t 2-2
grpcio                       | grpcs | 2-2 p   p   2-2 2-2 h   2-2 b 2 2-2
Node fetch                   | http  | 1-1 1-1 1-1 1-1 1-1 1-1 1-2 1 t 1-1
Node fetch                   | https | 1-2 1-2 1-2 1-2 1-2 1-1 1-2 b 1 1-2
Node fetch, allowH2          | http  | 1-1 1-1 1-1 1-1 1-1 1-1 1-2 1 t 1-1
Node fetch, allowH2          | https | 1-2 1-2 2-2 1-2 1-2 2-1 2-2 b 2 2-2
Node fetch, event stream     | http  | 1-1 1-1 1-1 1-1 1-1 1-1 1-1 1 t 1-1
Node fetch, event stream     | https | 1-1 1-1 1-1 1-1 1-1 1-1 1-1 b 1 1-1
Node, WebSocket              | ws    | 1-1 1-1 1-1 1-1 1-1 1-1 1-1 1 t 1-1
Node, WebSocket              | wss   | 1-1 1-1 1-1 1-1 1-1 1-1 1-1 b 1 1-1
Chromium, page               | http  | 1-1 2-1 1-1 1-1 1-1 1-1 1-2 1 t 1-1
Chromium, page               | https | 2-2 2-2 2-2 2-2 2-2 2-1 2-2 b 2 2-2
Chromium, event stream       | http  | 1-1 2-1 1-1 1-1 1-1 1-1 1-1 1 t 1-1
Chromium, event stream       | https | 2-1 2-1 2-1 2-1 2-1 2-1 2-1 b 1 2-1
Chromium, WebSocket          | ws    | 1-1 1-1 1-1 1-1 1-1 1-1 1-1 1 t 1-1
Chromium, WebSocket          | wss   | 2-1 2-1 2-1 2-1 2-1 2-1 2-1 b 1 2-1
"""

UNTOUCHED = """
curl --http1.1               | http  | 1-1 1-1 1-1 1-1 1-1 1-1 1-2 1 t 1-1
curl --http1.1               | https | 1   1   1   1   1   e   1   1 e 1
curl --http2                 | http  | 1-1 1-1 1-1 1-1 1-1 1-1 1-2 1 t 1-1
curl --http2                 | https | 2   2   2   2   2   e   2   2 e 2
curl --http2-prior-knowledge | http  | 2-2 2-2 2-2 2-2 2-2 2-2 2-2 2 t 2-2
curl --http2-prior-knowledge | https | 2   2   2   2   2   e   2   2 e 2
curl -N, event stream        | http  | 1-1 1-1 1-1 1-1 1-1 1-1 1-1 1 t 1-1
curl -N, event stream        | https | 1   1   1   1   1   e   1   1 e 1
httpx                        | http  | 1-1 1-1 1-1 1-1 1-1 1-1 1-2 1 t 1-1
httpx                        | https | 1   1   1   1   1   e   1   1 e 1
httpx, http2=True            | http  | 1-1 1-1 1-1 1-1 1-1 1-1 1-2 1 t 1-1
httpx, http2=True            | https | 2   2   2   2   2   e   2   2 e 2
httpx, event stream          | http  | 1-1 1-1 1-1 1-1 1-1 1-1 1-1 1 t 1-1
httpx, event stream          | https | 1   1   1   1   1   e   1   1 e 1
aiohttp                      | http  | 1-1 1-1 1-1 1-1 1-1 1-1 1-2 1 t 1-1
aiohttp                      | https | 1   1   1   1   1   e   1   1 e 1
websockets                   | ws    | 1-1 1-1 1-1 1-1 1-1 1-1 1-1 1 t 1-1
websockets                   | wss   | 1   1   1   1   1   e   1   1 e 1
grpcio                       | grpc  | 2-2 p   p   2-2 2-2 2-2 2-2 2 t 2-2
grpcio                       | grpcs | 2   p   p   2   2   e   2   2 e 2
Node fetch                   | http  | 1-1 1-1 1-1 1-1 1-1 1-1 1-2 1 t 1-1
Node fetch                   | https | 1   1   1   1   1   e   1   1 e 1
Node fetch, allowH2          | http  | 1-1 1-1 1-1 1-1 1-1 1-1 1-2 1 t 1-1
Node fetch, allowH2          | https | 1   1   2   1   1   e   2   2 e 2
Node fetch, event stream     | http  | 1-1 1-1 1-1 1-1 1-1 1-1 1-1 1 t 1-1
Node fetch, event stream     | https | 1   1   1   1   1   e   1   1 e 1
Node, WebSocket              | ws    | 1-1 1-1 1-1 1-1 1-1 1-1 1-1 1 t 1-1
Node, WebSocket              | wss   | 1   1   1   1   1   e   1   1 e 1
Chromium, page               | http  | 1-1 2-1 1-1 1-1 1-1 1-1 1-2 1 t 1-1
Chromium, page               | https | 2   2   2   2   2   e   2   2 e 2
Chromium, event stream       | http  | 1-1 2-1 1-1 1-1 1-1 1-1 1-1 1 t 1-1
Chromium, event stream       | https | 1   1   1   1   1   e   1   1 e 1
Chromium, WebSocket          | ws    | 1-1 1-1 1-1 1-1 1-1 1-1 1-1 1 t 1-1
Chromium, WebSocket          | wss   | 1   1   1   1   1   e   1   1 e 1
"""

REASONS = {
    "b": "the TLS of the client passes this mode as bytes; nothing in it can be seen or changed",
    "e": "the TLS of the client ends at the proxy in this mode, whatever rules say",
    "h": "this origin without TLS speaks HTTP/2 only, and a `reverse:http` destination is asked over HTTP/1.1 for "
         "clients that agreed on HTTP/2 in TLS",
    "p": "this client knows HTTP proxies only, and no TLS to them",
    "t": "the listener wants TLS",
}

# dig, by transport, and the transport on which the name server was asked; a letter as above.
DNS_WAYS = ("dns", "reverse:dns", "reverse:udp")
DNS = {"UDP": ("UDP", "UDP", "UDP"), "TCP": ("TCP", "TCP", "u")}
DNS_REASONS = {"u": "the mode takes datagrams"}

Cell = tuple[str, str, bool]


def wanted(client: str, ways: tuple[str, ...]) -> dict[Cell, str]:
    """What a client must see, by way, scheme and whether a rule changes it. Where nothing can be run there is nothing.
    """
    return {(way, scheme, marked): row[WAYS.index(way)]
            for marked, text in ((True, CHANGED), (False, UNTOUCHED))
            for (name, scheme), row in rows(text).items() if name == client
            for way in ways if row[WAYS.index(way)] not in REASONS}


def rows(text: str) -> dict[tuple[str, str], list[str]]:
    found = {}
    for line in text.strip().splitlines():
        client, scheme, cells = (part.strip() for part in line.split("|"))
        found[client, scheme] = cells.split()
    return found


def tables() -> str:
    lines = ["### Changed by a rule", "", *_table(CHANGED), "", "### Untouched", "", *_table(UNTOUCHED), ""]
    lines += [f"* *{letter}*: {reason}." for letter, reason in REASONS.items()]
    lines += ["", "### DNS", "", f"| dig over | {' | '.join(f'`{way}`' for way in DNS_WAYS)} |", "|---|---|---|---|"]
    lines += [f"| {transport} | {' | '.join(_shown_dns(transport, cell) for cell in cells)} |"
              for transport, cells in DNS.items()]
    lines += ["", *(f"* *{letter}*: {reason}." for letter, reason in DNS_REASONS.items())]
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """`text` with the tables as they are now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + tables() + END + after


def _table(text: str) -> list[str]:
    heads = [f"`{way}`" if way != "regular, TLS" else "TLS to `regular`" for way in WAYS]
    lines = [f"| client | | {' | '.join(heads)} |", "|---" * (len(WAYS) + 2) + "|"]
    for (client, scheme), cells in rows(text).items():
        lines.append(f"| {client} | {scheme} | {' | '.join(_shown(cell) for cell in cells)} |")
    return lines


def _shown(cell: str) -> str:
    return f"*{cell}*" if cell in REASONS else " → ".join(f"h{version}" for version in cell.split("-"))


def _shown_dns(transport: str, cell: str) -> str:
    return f"*{cell}*" if cell in DNS_REASONS else f"{transport} → {cell}"


def is_whole() -> bool:
    """Each table has every client with both of its schemes, and a cell for every way."""
    lines = [pair for name, client in CLIENTS.items() for pair in product([name], client.schemes)]
    return all([*rows(text)] == lines and all(len(row) == len(WAYS) for row in rows(text).values())
               for text in (CHANGED, UNTOUCHED))


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
