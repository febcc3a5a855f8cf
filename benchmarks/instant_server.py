"""An OpenAI-compatible server that answers at once, whatever is asked: the ceiling of a client.

Prints its URL, then serves until it is killed. It reads a request and writes ready-made bytes,
because a web framework would be the bottleneck. With `--varied`, answers differ by what was asked:
then no stage is spared by the equal answers of the one before.
"""

import asyncio
import base64
import json
import random
import struct
import sys
from zlib import crc32

import uvicorn

WIDTH = 384
VECTOR = base64.b64encode(struct.pack(f"<{WIDTH}f", *(1.0 / (i + 1) for i in range(WIDTH))))
VARIED = "--varied" in sys.argv
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


async def respond(scope, receive, send) -> None:  # noqa: ANN001
    """The ASGI app."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    reply = _chat(body) if scope["path"].endswith("completions") else _embeddings(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(reply))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": reply})


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
    config = uvicorn.Config(respond, lifespan="off", log_level="critical", ws="none", port=0)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    print(f"http://127.0.0.1:{port}/v1", flush=True)
    await serving


if __name__ == "__main__":
    asyncio.run(main())
