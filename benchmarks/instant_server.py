"""An OpenAI-compatible server that answers at once, whatever is asked: the ceiling of a client.

Prints its URL, then serves until it is killed. It reads a request and writes ready-made bytes,
because a web framework would be the bottleneck. With `--varied`, answers differ by what was asked:
then no stage is spared by the equal answers of the one before. `--latency SECONDS` delays answers.
"""

import asyncio
import base64
import json
import random
import re
import struct
import sys
from zlib import crc32

WIDTH = 384
VECTOR = base64.b64encode(struct.pack(f"<{WIDTH}f", *(1.0 / (i + 1) for i in range(WIDTH))))
VARIED = "--varied" in sys.argv
LATENCY = float(sys.argv[sys.argv.index("--latency") + 1]) if "--latency" in sys.argv else 0.0
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
KINDS = 1 << 13
"""Vectors to choose among where answers are varied, by the text."""
_DRAWN = random.Random(0)
VARIED_VECTORS = [
    base64.b64encode(struct.pack(f"<{WIDTH}f", *(_DRAWN.gauss(0, 1) for _ in range(WIDTH))))
    for _ in range(KINDS if VARIED else 0)
]
NUMBER = "0" * 10
SAID = f"The person likes good coffee, number {NUMBER}. " + "The person likes good coffee. " * 3
CHAT = json.dumps(
    {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "instant",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": SAID},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 120, "completion_tokens": 24, "total_tokens": 144},
    }
).encode()


class Instant(asyncio.Protocol):
    """A connection, kept open; requests have a ``Content-Length``, as those of our client."""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answers are written here."""
        assert isinstance(transport, asyncio.Transport)
        self._out = transport

    def data_received(self, data: bytes) -> None:
        """Answers each request that has arrived whole."""
        received = self._received + data
        while (end := received.find(b"\r\n\r\n")) >= 0:
            length = LENGTH.search(received, 0, end)
            stop = end + 4 + (int(length[1]) if length else 0)
            if len(received) < stop:
                break
            self._answer(received[: received.index(b"\r\n")], received[end + 4 : stop])
            received = received[stop:]
        self._received = received

    def _answer(self, first_line: bytes, body: bytes) -> None:
        reply = _chat(body) if b"completions" in first_line else _embeddings(body)
        whole = HEAD % len(reply) + reply
        if LATENCY:
            asyncio.get_running_loop().call_later(LATENCY, self._out.write, whole)
        else:
            self._out.write(whole)


def _chat(body: bytes) -> bytes:
    return CHAT.replace(NUMBER.encode(), b"%010d" % crc32(body)) if VARIED else CHAT


def _embeddings(body: bytes) -> bytes:
    texts = json.loads(body)["input"] if body else []
    data = b",".join(
        b'{"object":"embedding","index":%d,"embedding":"%s"}' % (index, _vector(text))
        for index, text in enumerate(texts)
    )
    usage = b'{"prompt_tokens":%d,"total_tokens":%d}' % (20 * len(texts), 20 * len(texts))
    return b'{"object":"list","model":"instant","data":[%s],"usage":%s}' % (data, usage)


def _vector(text: str) -> bytes:
    return VARIED_VECTORS[crc32(text.encode()) % KINDS] if VARIED else VECTOR


async def main() -> None:
    """Serves on a free port of this machine."""
    server = await asyncio.get_running_loop().create_server(Instant, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
