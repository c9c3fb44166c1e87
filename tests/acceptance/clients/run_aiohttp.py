"""aiohttp, and aiohttp-socks where the proxy is one."""

from __future__ import annotations

import ssl
from typing import cast

import aiohttp
from aiohttp_socks import ProxyConnector

from tests.acceptance.clients.jobs import Job, Seen, run, trust


class Witness(ssl.SSLObject):
    """Remembers who signed what it was shown."""

    issuers: list[str] = []

    def do_handshake(self) -> None:
        super().do_handshake()
        certificate = self.getpeercert()
        assert certificate is not None
        fields = cast(tuple[tuple[tuple[str, str], ...], ...], certificate["issuer"])
        self.issuers.append(dict(pair for field in fields for pair in field)["commonName"])


async def get(job: Job) -> Seen:
    # One context is all it has, for an https proxy and the origin behind it.
    secured_proxy = job["proxy"].startswith("https:")
    context = trust(job["ca"], *([job["proxy_ca"]] if secured_proxy else []))
    context.sslobject_class = Witness
    if job["proxy"].startswith("socks5h:"):
        connector: aiohttp.BaseConnector = ProxyConnector.from_url(job["proxy"].replace("socks5h", "socks5"), rdns=True)
        proxy = None
    else:
        connector, proxy = aiohttp.TCPConnector(), job["proxy"] or None
    async with aiohttp.ClientSession(connector=connector) as client, \
            client.get(job["url"], proxy=proxy, ssl=context) as answer:
        version = f"HTTP/{answer.version.major}.{answer.version.minor}" if answer.version else ""
        issuer = Witness.issuers[-1] if job["url"].startswith("https:") else None
        return {"version": version, "text": await answer.text(), "mark": answer.headers.get("x-mark"),
                "issuer": issuer}


if __name__ == "__main__":
    run(get)
