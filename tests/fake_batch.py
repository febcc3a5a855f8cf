"""A Batch API on a real socket, with the dummy endpoint's answers and faults on a plan.

with batch_server(BatchPlan(expire_after=3)) as server:
    ...client of server.base_url...
assert server.paid["prompt"] == 1
"""

import asyncio
import contextlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from tasks.llm.providers.dummy_endpoint import (
    CHAT_MODEL,
    EMBEDDING_MODEL,
    DummyServer,
    embed_texts,
    running_app,
    write_answer,
)


@dataclass
class BatchPlan:
    """What goes wrong. The default does nothing wrong.

    `looks`: how often a batch is looked at before it has ended.
    `expire_after`: of the first batch, lines answered before it expires.
    `cancel_after`: the same, but somebody cancels it.
    `refuse`, `limit`: words; lines with them are a 400, or (once) a 429.
    `broken`: a word; its line's answer is no answer, once.
    `fail_as`: error code with which the first batch fails as a whole.
    `lose_create`: the answer to the first creation is lost, though the batch is made.
    `full_at`: batches that may wait at once; one more fails with token_limit_exceeded.
    `key`: the only API key that is let in.
    `wrong_key_status`: what the others get, quoted.
    `cut_content`: a download of results ends early.
    `padding`: bytes after the results.
    `keep_files`: deletions are refused, with the key quoted.
    `told`: end of every message of an error.
    `before`: bytes before the results in a file.
    `encoding`: stated compression of a download.
    `renamed`: a batch that is looked at has another id.
    """

    looks: int = 1
    expire_after: int | None = None
    cancel_after: int | None = None
    refuse: str | None = None
    limit: str | None = None
    broken: str | None = None
    fail_as: str | None = None
    lose_create: bool = False
    full_at: int | None = None
    key: str | None = None
    wrong_key_status: int = 401
    cut_content: bool = False
    padding: int = 0
    keep_files: bool = False
    told: str = ""
    before: bytes = b""
    encoding: str | None = None
    renamed: bool = False


@dataclass
class BatchServer:
    """The running server and its books."""

    plan: BatchPlan
    paid: Counter[str] = field(default_factory=Counter)
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict] = field(default_factory=dict)
    uploads: list[bytes] = field(default_factory=list)
    peak_waiting: int = 0
    address: DummyServer | None = None
    _faults: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def base_url(self) -> str:
        assert self.address is not None
        return self.address.base_url

    def create(self, asked: dict) -> dict:
        with self._lock:
            number = len(self.batches)
            waiting = sum(b["status"] == "in_progress" for b in self.batches.values())
            batch = {
                "id": f"batch_{number}",
                "object": "batch",
                "created_at": number,
                "completion_window": "24h",
                "status": "in_progress",
                "looks": 0,
                **{name: asked.get(name) for name in ("endpoint", "input_file_id", "metadata")},
            }
            if self.plan.fail_as and number == 0:
                self._fail(batch, self.plan.fail_as)
            if self.plan.full_at is not None and waiting >= self.plan.full_at:
                self._fail(batch, "token_limit_exceeded")
            self.batches[batch["id"]] = batch
            self.peak_waiting = max(self.peak_waiting, waiting + 1)
            return batch

    def look(self, name: str) -> dict:
        with self._lock:
            batch = self.batches[name]
            batch["looks"] += 1
            if batch["status"] == "in_progress" and batch["looks"] >= self.plan.looks:
                self._finish(batch)
            return batch

    def store(self, content: bytes) -> str:
        name = f"file-{len(self.uploads)}"
        self.uploads.append(content)
        self.files[name] = content
        return name

    def _fail(self, batch: dict, code: str) -> None:
        error = {"code": code, "message": f"a reason{self.plan.told}", "line": 1, "param": None}
        batch["status"], batch["errors"] = "failed", {"object": "list", "data": [error]}

    def _finish(self, batch: dict) -> None:
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        is_first = batch["id"] == "batch_0"
        expire, cancel = self.plan.expire_after, self.plan.cancel_after
        batch["status"], stop = "completed", len(lines)
        if is_first and expire is not None:
            batch["status"], stop = "expired", expire
        if is_first and cancel is not None:
            batch["status"], stop = "cancelled", cancel
        code = f"batch_{batch['status']}"
        outputs = [self._answered(line) for line in lines[:stop]]
        left = [
            {"custom_id": line["custom_id"], "error": {"code": code, "message": "too late"}}
            for line in lines[stop:]
        ]
        good = [each for each in outputs if each["response"]["status_code"] == 200]
        bad = [each for each in outputs if each["response"]["status_code"] != 200] + left
        # The order of results is not that of requests.
        batch["output_file_id"] = self._results(good[::-1])
        batch["error_file_id"] = self._results(bad)
        counts = {"total": len(lines), "completed": len(good), "failed": len(bad)}
        batch["request_counts"] = counts

    def _results(self, results: list[dict]) -> str | None:
        if not results:
            return None
        return self.store(
            self.plan.before + b"".join(json.dumps(each).encode() + b"\n" for each in results)
        )

    def _answered(self, line: dict) -> dict:
        body = line["body"]
        text = str(body["input"] if "input" in body else body["messages"][-1]["content"])
        status, reply = self._reply(line["url"], body, text)
        response = {"status_code": status, "request_id": "r", "body": reply}
        return {"id": "r", "custom_id": line["custom_id"], "response": response, "error": None}

    def _reply(self, route: str, body: dict, text: str) -> tuple[int, dict]:
        if self.plan.refuse and self.plan.refuse in text:
            return 400, {"error": {"message": f"a refused word{self.plan.told}"}}
        if self._meets(self.plan.limit, text):
            return 429, {"error": {"message": "slow down"}}
        if self._meets(self.plan.broken, text):
            return 200, {"choices": [], "data": []}
        self.paid[text] += 1
        if route == "/v1/embeddings":
            assert body["model"] == EMBEDDING_MODEL
            (vector,) = embed_texts([text])
            data = [{"object": "embedding", "index": 0, "embedding": vector.tolist()}]
            usage = {"prompt_tokens": 3, "total_tokens": 3}
            return 200, {"object": "list", "data": data, "model": "m", "usage": usage}
        assert body["model"] == CHAT_MODEL
        answer, reason = write_answer(text, body["max_tokens"])
        message = {"role": "assistant", "content": answer}
        choice = {"index": 0, "finish_reason": reason, "message": message, "logprobs": None}
        usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
        head = {"id": "c", "object": "chat.completion", "created": 0, "model": CHAT_MODEL}
        return 200, {**head, "choices": [choice], "usage": usage}

    def _meets(self, word: str | None, text: str) -> bool:
        if word is None or word not in text or self._faults[word + text]:
            return False
        self._faults[word + text] += 1
        return True


@contextlib.contextmanager
def batch_server(plan: BatchPlan | None = None) -> Iterator[BatchServer]:
    """Run the server on a real socket until the block ends."""
    server = BatchServer(plan or BatchPlan())
    with running_app(_app(server)) as address:
        server.address = address
        yield server


def _app(server: BatchServer) -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.middleware("http")
    async def let_in(request: Request, answer) -> Response:  # noqa: ANN001
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if server.plan.key is not None and key != server.plan.key:
            return JSONResponse(
                {"error": {"message": f"wrong key {key}"}}, server.plan.wrong_key_status
            )
        return await answer(request)

    @app.post("/v1/files")
    async def upload(request: Request) -> JSONResponse:
        name = server.store(_file_part(await request.body()))
        head = {"object": "file", "bytes": 1, "created_at": 0, "filename": "f"}
        return JSONResponse({**head, "id": name, "purpose": "batch", "status": "processed"})

    @app.get("/v1/files/{name}/content")
    async def content(name: str) -> Response:
        if name not in server.files:
            return JSONResponse({"error": {"message": "no such file"}}, 404)
        whole = str(len(server.files[name]) + 1)
        headers = {"Content-Length": whole} if server.plan.cut_content else {}
        if server.plan.encoding is not None:
            headers["Content-Encoding"] = server.plan.encoding
        return Response(server.files[name] + b"x" * server.plan.padding, headers=headers)

    @app.delete("/v1/files/{name}")
    async def delete(name: str, request: Request) -> JSONResponse:
        if server.plan.keep_files:
            message = f"{request.headers.get('authorization')} may not delete"
            return JSONResponse({"error": {"message": message}}, 403)
        del server.files[name]
        return JSONResponse({"id": name, "object": "file", "deleted": True})

    @app.post("/v1/batches")
    async def create(request: Request) -> JSONResponse:
        batch = server.create(await request.json())
        if server.plan.lose_create and batch["id"] == "batch_0":
            await asyncio.sleep(0.05)
            return JSONResponse({"error": {"message": "the gateway lost it"}}, 502)
        return JSONResponse(batch)

    @app.get("/v1/batches/{name}")
    async def look(name: str) -> JSONResponse:
        other = {"id": "another"} if server.plan.renamed else {}
        return JSONResponse(server.look(name) | other)

    @app.get("/v1/batches")
    async def listed() -> JSONResponse:
        newest_first = list(server.batches.values())[::-1]
        return JSONResponse({"object": "list", "data": newest_first, "has_more": False})

    return app


def _file_part(body: bytes) -> bytes:
    """The JSONL of a multipart body: its only lines that are objects."""
    return b"".join(line + b"\n" for line in body.splitlines() if line.startswith(b"{"))
