"""Answer DNS queries for some names from an option; everything else is looked up as usual.

    rulesproxy run --dns 127.0.0.1:8053 -s examples/dns_names.py --set dns_names=box.test=192.0.2.7
    dig @127.0.0.1 -p 8053 box.test
"""

from collections.abc import Sequence
from ipaddress import IPv4Address

from rulesproxy.addons.context import ctx
from rulesproxy.addons.errors import OptionsError
from rulesproxy.addons.lifecycle import Loader
from rulesproxy.model.dns import DNSFlow, ResourceRecord, types

_addresses: dict[str, IPv4Address] = {}


def load(loader: Loader) -> None:
    loader.add_option("dns_names", Sequence[str], (), "Names to answer for, each as NAME=ADDRESS.")


def configure(updated: frozenset[str]) -> None:
    if "dns_names" not in updated:
        return
    addresses = {}
    for entry in ctx.options.dns_names:
        name, _, address = entry.partition("=")
        try:
            addresses[name.lower()] = IPv4Address(address)
        except ValueError:
            raise OptionsError(f"dns_names: {entry!r} is not NAME=ADDRESS") from None
    _addresses.clear()
    _addresses.update(addresses)


def dns_request(flow: DNSFlow) -> None:
    question = flow.request.question
    if question is None:
        return
    address = _addresses.get(question.name.lower())
    if address is None:
        return
    # A name we own has no other records: an empty answer, so that nobody asks elsewhere for AAAA.
    answers = [ResourceRecord.A(question.name, address)] if question.type == types.A else []
    flow.response = flow.request.succeed(answers)
