"""A gRPC server and a gRPC client, each a process of its own: `python grpc_peers.py server KEY CERT|-`, which prints
its port, and `… client TARGET PROXY CA|-`, which makes every kind of call and prints what came of it as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

SERVICE = "test.Echo"
SECONDS = 10.0


# --- server ----------------------------------------------------------------------------------------------------


def unary(request: bytes, context: Any) -> bytes:
    context.set_trailing_metadata((("x-trailer", "yes"),))
    return request[::-1]


def fail(request: bytes, context: Any) -> bytes:
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: ünicode")
    raise AssertionError("abort raises")


def many(request: bytes, context: Any) -> Iterator[bytes]:
    for number in range(int(request)):
        yield b"%d" % number


def collect(requests: Iterator[bytes], context: Any) -> bytes:
    return b",".join(requests)


def talk(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    for request in requests:
        yield b"re: " + request


def large(request: bytes, context: Any) -> bytes:
    return b"x" * int(request)


def serve(key: str, certificate: str) -> None:
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary), "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Many": grpc.unary_stream_rpc_method_handler(many), "Collect": grpc.stream_unary_rpc_method_handler(collect),
        "Talk": grpc.stream_stream_rpc_method_handler(talk), "Large": grpc.unary_unary_rpc_method_handler(large),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    if certificate == "-":
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        pem = Path(certificate).read_bytes()
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(pem, pem)]))
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(0)


# --- client ----------------------------------------------------------------------------------------------------


class Turns:
    """Requests of a conversation: each waits until the one before was answered."""

    def __init__(self, words: list[bytes]) -> None:
        import queue
        self._words = words
        self._go: queue.Queue[None] = queue.Queue()

    def answered(self) -> None:
        self._go.put(None)

    def __iter__(self) -> Iterator[bytes]:
        for word in self._words:
            yield word
            self._go.get(timeout=SECONDS)


def converse(target: str, proxy: str, authority: str) -> dict[str, Any]:
    options = [("grpc.http_proxy", f"http://{proxy}"), ("grpc.enable_http_proxy", 1)]
    if authority == "-":
        channel = grpc.insecure_channel(target, options)
    else:
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(Path(authority).read_bytes()), options)
    results: dict[str, Any] = {}
    with channel:
        call = channel.unary_unary(f"/{SERVICE}/Unary")
        answer, details = call.with_call(b"hello", timeout=SECONDS)
        results["unary"] = answer.decode()
        results["trailers"] = dict(details.trailing_metadata())
        try:
            channel.unary_unary(f"/{SERVICE}/Fail")(b"", timeout=SECONDS)
        except grpc.RpcError as exc:
            results["fail"] = [exc.code().name, exc.details()]
        try:
            channel.unary_unary(f"/{SERVICE}/Missing")(b"", timeout=SECONDS)
        except grpc.RpcError as exc:
            results["missing"] = exc.code().name
        results["many"] = [int(item) for item in channel.unary_stream(f"/{SERVICE}/Many")(b"50", timeout=SECONDS)]
        results["collect"] = channel.stream_unary(f"/{SERVICE}/Collect")(
            iter([b"a", b"b", b"c"]), timeout=SECONDS).decode()
        turns = Turns([b"one", b"two", b"three"])
        results["talk"] = []
        for item in channel.stream_stream(f"/{SERVICE}/Talk")(iter(turns), timeout=SECONDS):
            results["talk"].append(item.decode())
            turns.answered()
        turns = Turns([b"%d" % number for number in range(1500)])  # each comes with control frames of its own
        results["chat"] = 0
        for _ in channel.stream_stream(f"/{SERVICE}/Talk")(iter(turns), timeout=2 * SECONDS):
            results["chat"] += 1
            turns.answered()
        results["large"] = len(channel.unary_unary(f"/{SERVICE}/Large")(b"3000000", timeout=SECONDS))
        together = [channel.unary_unary(f"/{SERVICE}/Unary").future(b"%d" % number, timeout=SECONDS)
                    for number in range(100)]
        results["together"] = sum(future.result() == (b"%d" % number)[::-1] for number, future in enumerate(together))
    return results


if __name__ == "__main__":
    if sys.argv[1] == "server":
        serve(sys.argv[2], sys.argv[3])
    else:
        print(json.dumps(converse(*sys.argv[2:])))
