"""Answer requests for one path with JSON; the origin never sees them.

    rulesproxy run -s examples/mock_api.py
    curl -x http://127.0.0.1:8080 -d '{"name": "Ada"}' http://api.example/greet
"""

import json

from rulesproxy.model.flow import HTTPFlow
from rulesproxy.model.http import Response


def request(flow: HTTPFlow) -> None:
    if flow.request.path.partition("?")[0] != "/greet":
        return
    try:
        name = flow.request.json()["name"]
    except (ValueError, TypeError, KeyError):
        flow.response = _answer(400, {"error": "expected a JSON object with a name"})
    else:
        flow.response = _answer(200, {"greeting": f"Hello, {name}!"})


def _answer(status: int, body: dict[str, str]) -> Response:
    return Response.make(status, json.dumps(body), {"Content-Type": "application/json"})
