import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.wire.messages import (
    HEADER,
    MAX_FRAME,
    Assignment,
    Broken,
    Cancel,
    Canceled,
    Completed,
    Conditioned,
    Configure,
    Failed,
    Heartbeat,
    Leaving,
    LinkError,
    Message,
    Paced,
    Ready,
    Stepped,
    Timed,
    Trial,
    Vacant,
    decode,
    encode,
    lengths,
)

MESSAGES: list[Message] = [
    Ready("tensorrt", "a target", "a GPU", "fp16", "said plainly", {"sizes": [[64, 96]]}),
    Vacant(3),
    Conditioned(1, 2, 0.25),
    Paced(19, 0.004, 1, 0.02, 3),
    Paced(lora_changes=2, lora_seconds=0.5, batches={"1": 3, "4": 16}),
    Timed({"step": [0.25, 0.125], "save": []}),
    Stepped("a", 1, 0.25),
    Stepped("a", 2, 0.25, b"\xff\xd8 jpeg \0"),
    Completed("a", "a.png", 64, 32, 1000),
    Completed("a", "a.jpg", 64, 32, 1000, ["a part of the recipe is not in it"]),
    Failed("a", "title", "detail ✓"),
    Canceled("a"),
    Leaving(),
    Heartbeat(),
    Heartbeat({"weights": 5_000_000_000, "free": 1}, ["denoiser runs without a CUDA graph"]),
    Trial("denoiser", over=True),
    Broken("no package", lasting=True),
    Configure({"model": "m", "draw": {"max_batch": None}}),
    Assignment("a", {"prompt": "x", "loras": [{"id": "y", "weight": 0.5}]}),
    Cancel("a"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_is_read_back(message: Message) -> None:
    frame = encode(message)
    body, payload = lengths(frame[: HEADER.size])
    assert len(frame) == HEADER.size + body + payload
    rest = frame[HEADER.size :]
    assert decode(rest[:body], rest[body:]) == message


@pytest.mark.fuzz
@given(st.one_of(st.binary(), st.sampled_from([b"{}", b"[]", b'{"kind": []}', b'{"kind": "x"}'])))
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(LinkError, match="no message"):
        decode(body, b"")


@pytest.mark.parametrize(
    "body",
    [
        b'{"kind": "Vacant"}',
        b'{"kind": "Vacant", "count": 1, "more": 2}',
        b'{"kind": "Heartbeat", "payload": 1}',
    ],
)
def test_a_message_with_other_fields_is_refused(body: bytes) -> None:
    with pytest.raises(LinkError, match="no message"):
        decode(body, b"")


def test_a_frame_of_no_sensible_length_is_refused() -> None:
    with pytest.raises(LinkError, match="at most"):
        lengths(struct.pack(">II", MAX_FRAME, 1))
