"""A model hub on loopback, as far as its client asks for it: data set repositories of one commit each, from memory."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REVISIONS = {COMMIT, "main"}


@dataclass
class Hub:
    """The repositories by name, each with its files by path; those in ``gated`` refuse whoever asks."""

    repositories: dict[str, dict[str, bytes]]
    gated: frozenset[str] = frozenset()
    url: str = ""
    downloads: list[str] = field(default_factory=list)
    """The path of every file that was downloaded."""


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        parts = unquote(url.path).strip("/").split("/")
        match parts:
            case ["api", "datasets", owner, name, "auth-check"]:
                self._repository(f"{owner}/{name}")
            case ["api", "datasets", owner, name, "revision", *revision]:
                if (files := self._repository(f"{owner}/{name}", "/".join(revision), closed=False)) is not None:
                    gated = "manual" if f"{owner}/{name}" in self.hub.gated else False
                    siblings = [{"rfilename": path} for path in files]
                    self._send({"id": f"{owner}/{name}", "sha": COMMIT, "gated": gated, "siblings": siblings})
            case ["api", "datasets", owner, name, "tree", revision, *folder]:
                if (files := self._repository(f"{owner}/{name}", revision, closed=False)) is not None:
                    recursive = parse_qs(url.query).get("recursive") == ["true"]
                    self._send(_tree(files, PurePosixPath(*folder), recursive))
            case ["datasets", owner, name, "resolve", revision, *path]:
                if (files := self._repository(f"{owner}/{name}", revision)) is not None:
                    self._send_file(files, "/".join(path))
            case _:
                self._refuse(404, "")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        match unquote(self.path).strip("/").split("/"):
            case ["api", "datasets", owner, name, "paths-info", revision]:
                if (files := self._repository(f"{owner}/{name}", revision, closed=False)) is not None:
                    entries = _tree(files, PurePosixPath(), recursive=True)
                    self._send([entry for entry in entries if entry["path"] in body["paths"]])
            case _:
                self._refuse(404, "")

    def _repository(self, name: str, revision: str = "main", *, closed: bool = True) -> dict[str, bytes] | None:
        if name not in self.hub.repositories:
            return self._refuse(401, "RepoNotFound")
        if closed and name in self.hub.gated:
            return self._refuse(401, "GatedRepo")
        if revision not in REVISIONS:
            return self._refuse(404, "RevisionNotFound")
        if self.path.endswith("auth-check"):
            self._send({})
        return self.hub.repositories[name]

    def _send_file(self, files: dict[str, bytes], path: str) -> None:
        if path not in files:
            self._refuse(404, "EntryNotFound")
            return
        if self.command == "GET":
            self.hub.downloads.append(path)
        self._answer(200, files[path], {"ETag": f'"{hashlib.sha1(files[path]).hexdigest()}"'})

    def _send(self, value: Any) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, b"", {"X-Error-Code": code})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"X-Repo-Commit": COMMIT, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def _tree(files: dict[str, bytes], folder: PurePosixPath, recursive: bool) -> list[dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {}
    for name, content in files.items():
        path = PurePosixPath(name)
        if not path.is_relative_to(folder):
            continue
        for parent in path.parents:
            if parent != folder and parent.is_relative_to(folder) and (recursive or parent.parent == folder):
                entries[str(parent)] = {"type": "directory", "path": str(parent), "oid": "0" * 40, "size": 0}
        if recursive or path.parent == folder:
            oid = hashlib.sha1(content).hexdigest()
            entries[name] = {"type": "file", "path": name, "oid": oid, "size": len(content)}
    return list(entries.values())
