"""The client of the demo: requests and DNS queries as any program would send them, on real sockets."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dns.message
import dns.query
import dns.rcode

from rulesproxy.model.connection import Address

_PATIENCE = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; field names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class TunnelRefused(Exception):
    """CONNECT was not answered with 200. `status` says with what."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the tunnel was refused with {status}")
        self.status = status


class Client:
    """Sends through the proxy at `proxy` and asks the DNS server at `dns_server`."""

    def __init__(self, proxy: Address, dns_server: Address) -> None:
        self._proxy = proxy
        self._dns = dns_server

    async def get(self, url: str, authority: Path | None = None) -> Answer:
        """For https only certificates that `authority` (a PEM file) signed are accepted.

        Raises TunnelRefused, OSError or http.client.HTTPException.
        """
        return await asyncio.to_thread(self._get, url, authority)

    def _get(self, url: str, authority: Path | None) -> Answer:
        parts = urlsplit(url)
        if authority is None:
            connection = http.client.HTTPConnection(*self._proxy, timeout=_PATIENCE)
            target = url
        else:
            trust = ssl.create_default_context(cafile=authority)
            connection = http.client.HTTPSConnection(*self._proxy, timeout=_PATIENCE, context=trust)
            connection.set_tunnel(parts.hostname or "", parts.port or 443)
            target = parts.path or "/"
        try:
            self._connect(connection)
            connection.request("GET", target, headers={"Host": parts.netloc, "Accept": "*/*"})
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, fields, response.read())
        finally:
            connection.close()

    def _connect(self, connection: http.client.HTTPConnection) -> None:
        try:
            connection.connect()
        except OSError as exc:
            refused = str(exc).removeprefix("Tunnel connection failed: ")
            if refused != str(exc):  # all that http.client tells
                raise TunnelRefused(int(refused.split()[0])) from None
            raise

    async def ask(self, name: str, type_: str, *, tcp: bool = False) -> tuple[str, list[str]]:
        """The response code and the data of the answer's records."""
        query = dns.message.make_query(name, type_)
        host, port = self._dns
        ask = dns.query.tcp if tcp else dns.query.udp
        response = await asyncio.to_thread(ask, query, host, port=port, timeout=_PATIENCE)
        return dns.rcode.to_text(response.rcode()), [str(item) for found in response.answer for item in found]
