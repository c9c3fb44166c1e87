"""Add a field to every response.

    rulesproxy run -s examples/add_header.py --set header_value=hello
"""

from rulesproxy.addons.context import ctx
from rulesproxy.addons.lifecycle import Loader
from rulesproxy.model.flow import HTTPFlow


def load(loader: Loader) -> None:
    loader.add_option("header_value", str, "yes", "What X-Passed-By says.")


def responseheaders(flow: HTTPFlow) -> None:
    # At the head: the body streams by. A `response` handler would have it collected first.
    if flow.response is not None:
        flow.response.headers["X-Passed-By"] = ctx.options.header_value
