"""The load generator counts right answers and nothing else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks import load
from benchmarks.load import Job

BODY = b"0123456789"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + BODY


@contextmanager
def proxy(answer: Callable[[int], bytes]) -> Iterator[Job]:
    """A server that gives `answer(number)` for the number-th request of its life and keeps connections open; an empty
    answer closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve, args=(server, answer), daemon=True)
        thread.start()
        yield Job(server.getsockname()[1], "origin.test", 80, tls=False, keep_alive=True, body=BODY)
        server.shutdown(socket.SHUT_RDWR)  # ends the accept
    thread.join(5)
    assert not thread.is_alive()


def _serve(server: socket.socket, answer: Callable[[int], bytes]) -> None:
    number = 0
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(5)
            while connection.recv(65536):
                number += 1
                data = answer(number)
                if not data:
                    break
                for byte in range(0, len(data), 7):  # in pieces, as a proxy may send it
                    connection.sendall(data[byte:byte + 7])


def test_right_answers_are_counted() -> None:
    with proxy(lambda number: GOOD) as job:
        tally = load.run(job, connections=1, seconds=0.3)
    assert tally.errors == []
    assert tally.done > 0
    assert tally.sample == GOOD
    assert 0.3 <= tally.seconds < 5


def test_another_body_is_an_error() -> None:
    with proxy(lambda number: GOOD if number == 1 else GOOD.replace(b"200", b"502")) as job:
        tally = load.run(job, connections=1, seconds=5)
    assert tally.done == 1
    assert len(tally.errors) == 1
    assert "502" in tally.errors[0]


def test_a_closed_connection_is_an_error() -> None:
    with proxy(lambda number: b"") as job:
        tally = load.run(job, connections=1, seconds=5)
    assert (tally.done, tally.errors) == (0, ["ValueError: the proxy closed the connection"])


def test_once_asks_once() -> None:
    asked: list[int] = []

    def answer(number: int) -> bytes:
        asked.append(number)
        return GOOD

    with proxy(answer) as job:
        tally = load.once(job)
    assert (tally.done, asked) == (1, [1])
