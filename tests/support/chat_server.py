"""A server that speaks as much of OpenAI's chat protocol as scoring needs, and counts what it is asked."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What the server does with one request.

    Attributes:
        text: Of the answer.
        status: Of HTTP; from 400 on the text is the error's message.
        headers: Further ones.
        delay: Seconds until it answers.
        hang_up: It closes the connection instead.
        raw: The whole body, instead of the protocol's.
    """

    text: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    hang_up: bool = False
    raw: bytes | None = None


@dataclass
class Chat:
    """The model behind the server, and what arrived.

    Attributes:
        model: From (system prompt, user prompt, how many requests came before) to a reply.
        requests: The bodies, in the order in which they came.
        keys: The authorizations given with them.
        tokens: What every answer is said to cost; None: nothing is said.
        at_once: The most requests that were under way together.
    """

    model: Callable[[str, str, int], Reply]
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    tokens: int | None = 100
    at_once: int = 0
    address: str = ""
    _under_way: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reply(self, body: dict[str, Any], key: str | None) -> Reply:
        with self._lock:
            before = len(self.requests)
            self.requests.append(body)
            self.keys.add(key)
            self._under_way += 1
            self.at_once = max(self.at_once, self._under_way)
        system, user = (message["content"] for message in body["messages"])
        reply = self.model(system, user, before)
        time.sleep(reply.delay)
        with self._lock:
            self._under_way -= 1
        return reply

    def completion(self, reply: Reply) -> bytes:
        if reply.raw is not None:
            return reply.raw
        if reply.status >= 400:
            return json.dumps({"error": {"message": reply.text, "type": "server_error"}}).encode()
        message = {"role": "assistant", "content": reply.text}
        content: dict[str, Any] = {
            "id": "chatcmpl-0",
            "object": "chat.completion",
            "created": 0,
            "model": "scripted",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        }
        if self.tokens is not None:
            content["usage"] = {"prompt_tokens": self.tokens - 1, "completion_tokens": 1, "total_tokens": self.tokens}
        return json.dumps(content).encode()


@contextmanager
def serve(chat: Chat) -> Iterator[Chat]:
    """Serve on a free local port, whose address, with the protocol's /v1, is `chat.address`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            reply = chat.reply(body, self.headers["Authorization"]) if self.path == "/v1/chat/completions" else None
            if reply is None:
                reply = Reply("no such path", 404)
            if reply.hang_up:
                self.close_connection = True
                return
            content = chat.completion(reply)
            try:
                self.send_response(reply.status)
                for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except ConnectionError:  # whoever asked has gone
                self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    chat.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield chat
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
