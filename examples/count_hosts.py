"""Count requests by host and log the busiest hosts at the end.

    rulesproxy run -s examples/count_hosts.py
"""

import logging
from collections import Counter

from rulesproxy.model.flow import HTTPFlow


class CountHosts:
    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()

    def requestheaders(self, flow: HTTPFlow) -> None:
        self.requests[flow.request.pretty_host] += 1

    def done(self) -> None:
        for host, count in self.requests.most_common(10):
            logging.info("%6d %s", count, host)


addons = [CountHosts()]
