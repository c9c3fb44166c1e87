"""`ChunkBuffer` against the obvious model: one byte string."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rulesproxy.net.buffer import ChunkBuffer

OPERATIONS = st.one_of(
    st.tuples(st.sampled_from(["append", "prepend"]), st.binary(max_size=20)),
    st.tuples(st.just("take"), st.integers(1, 30)),
    st.tuples(st.sampled_from(["joined", "clear"]), st.none()),
)


@given(st.lists(OPERATIONS, max_size=40))
def test_it_behaves_like_one_byte_string(operations: list[tuple[str, bytes | int | None]]) -> None:
    buffer = ChunkBuffer()
    model = b""
    for name, argument in operations:
        if isinstance(argument, bytes):
            getattr(buffer, name)(argument)
            model = model + argument if name == "append" else argument + model
        elif isinstance(argument, int):
            if model:
                taken = buffer.take(argument)
                assert 0 < len(taken) <= argument
                assert model.startswith(taken)
                model = model[len(taken):]
        elif name == "clear":
            buffer.clear()
            model = b""
        assert buffer.size == len(model)
        assert buffer.joined() == model if name == "joined" else True
    assert buffer.joined() == model


def test_a_chunk_that_fits_is_handed_out_without_copying() -> None:
    buffer = ChunkBuffer()
    chunk = bytes(1000)
    buffer.append(chunk)
    assert buffer.take(1000) is chunk
