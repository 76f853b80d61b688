"""A server that speaks as much of the Hugging Face hub's protocol as an upload needs, and keeps what it was sent."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LARGE = (".safetensors", ".pt")


@dataclass
class Hub:
    """What arrived: repositories, the files of commits, large ones by their SHA-256, and the tokens given with them."""

    repositories: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    tokens: set[str | None] = field(default_factory=set)
    commits: list[str] = field(default_factory=list)
    address: str = ""

    def answer(self, method: str, path: str, body: bytes) -> Any:
        """The JSON that the hub would answer; None where it knows no such path."""
        if method == "PUT" and path.startswith("/store/"):
            self.large[path.removeprefix("/store/")] = body
            return {}
        if path == "/api/repos/create":
            self.repositories.append(json.loads(body))
            return {"url": f"{self.address}/owner/name", "name": "owner/name", "id": "owner/name"}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if path.endswith("/preupload/main"):
            paths = [file["path"] for file in json.loads(body)["files"]]
            modes = {name: "lfs" if name.endswith(LARGE) else "regular" for name in paths}
            return {"files": [{"path": p, "uploadMode": mode, "shouldIgnore": False} for p, mode in modes.items()]}
        if path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            uploads = [
                {**entry, "actions": {"upload": {"href": f"{self.address}/store/{entry['oid']}"}}} for entry in objects
            ]
            return {"transfer": "basic", "objects": uploads}
        if path.endswith("/commit/main"):
            self._commit([json.loads(line) for line in body.splitlines()])
            return {"success": True, "commitOid": "0" * 40, "commitUrl": f"{self.address}/owner/name/commit/0"}
        return None

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.commits.append(value["summary"])
            elif line["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.files[value["path"]] = self.large[value["oid"]]


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A hub on a free local port, at `address`."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            if path.endswith(("/create", "/commit/main")):
                hub.tokens.add(self.headers.get("Authorization"))
            content = hub.answer(self.command, path, body)
            encoded = json.dumps(content if content is not None else {"error": f"no {path}"}).encode()
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        def log_message(self, *arguments: Any) -> None:
            """Nothing on the terminal."""

    for method in ("GET", "HEAD", "POST", "PUT"):
        setattr(Handler, f"do_{method}", Handler._serve)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
