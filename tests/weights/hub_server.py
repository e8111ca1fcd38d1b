"""A small real hub over HTTP: as much of the Hugging Face hub's API as its own client asks for while it downloads."""

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LFS_FROM = 1000
"""Bytes from which a file is large: its ETag is SHA-256 and not git's blob id."""


@dataclass(slots=True)
class Repo:
    """One repository with one commit."""

    files: dict[str, bytes]
    gated: bool = False
    private: bool = False
    commit: str = "c0ffee00" * 5


@dataclass(slots=True)
class Hub:
    """Repositories by org/name, and the tokens that may read the closed ones."""

    repos: dict[str, Repo] = field(default_factory=dict)
    readers: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)
    """Tokens of accounts that exist."""
    asked: list[str] = field(default_factory=list)
    """Method and path of every request."""
    broken: int | None = None
    """A status to answer everything with."""
    cut: str | None = None
    """A file whose answer breaks off in the middle, once."""
    server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        assert self.server is not None
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def open(self) -> "Hub":
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self}))
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def close(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()


def files_of(folder: Path) -> dict[str, bytes]:
    """A folder's files as a repository has them."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


class Handler(BaseHTTPRequestHandler):
    """One request to the hub."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._route()

    def do_HEAD(self) -> None:
        self._route()

    def _route(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        if self.hub.broken:
            return self._say(self.hub.broken, b"the hub has a bad day")
        parts = path.strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        if api:
            parts = parts[2:]
        name, rest = "/".join(parts[:2]), parts[2:]
        repo = self.hub.repos.get(name)
        if refusal := self._refused(repo, api=api):
            return refusal()
        assert repo is not None
        revision = rest[1] if len(rest) > 1 else "main"
        if revision not in ("main", "v1", repo.commit):
            return self._say(404, b"Revision Not Found", {"X-Error-Code": "RevisionNotFound"})
        if api:
            return self._say(200, json.dumps(self._listing(name, repo, rest)).encode())
        return self._file(repo, "/".join(rest[2:]))

    def _refused(self, repo: Repo | None, *, api: bool) -> Any:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.known:
            why = {"X-Error-Message": "Invalid credentials in Authorization header"}
            return lambda: self._say(401, b"", why)
        if repo is None or (repo.private and token not in self.hub.readers):
            missing = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
            return lambda: self._say(404 if token else 401, b"", missing)
        if repo.gated and token not in self.hub.readers and not api:
            # As the hub does: the listing of a gated repository is open, its files are not.
            gated = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to this model is restricted."}
            return lambda: self._say(403 if token else 401, b"", gated)
        return None

    def _listing(self, name: str, repo: Repo, rest: list[str]) -> Any:
        entries = [(path, content, blob(content)) for path, content in repo.files.items()]
        if rest[:1] == ["tree"]:
            return [
                {"type": "file", "path": path, "size": len(content), "oid": oid} | large(content, "oid")
                for path, content, oid in entries
            ]
        siblings = [
            {"rfilename": path, "size": len(content), "blobId": oid} | large(content, "sha256")
            for path, content, oid in entries
        ]
        return {"id": name, "modelId": name, "sha": repo.commit, "siblings": siblings, "tags": [], "private": False}

    def _file(self, repo: Repo, path: str) -> None:
        content = repo.files.get(path)
        if content is None:
            return self._say(404, b"", {"X-Error-Code": "EntryNotFound"})
        etag = hashlib.sha256(content).hexdigest() if len(content) >= LFS_FROM else blob(content)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": repo.commit, "Accept-Ranges": "bytes"}
        ranged = self.headers.get("Range", "")
        start = int(ranged.removeprefix("bytes=").split("-")[0]) if ranged else 0
        if self.hub.cut == path and self.command == "GET":
            self.hub.cut = None
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return None
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self._say(206 if start else 200, content[start:], headers)

    def _say(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def blob(content: bytes) -> str:
    """Git's id of a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def large(content: bytes, digest: str) -> dict[str, Any]:
    """What a listing says of a large file; its two forms name the digest differently."""
    if len(content) < LFS_FROM:
        return {}
    return {"lfs": {digest: hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}}
