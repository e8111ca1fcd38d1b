"""A small real object store over HTTP for the training child: put, get, head, refusals, and going away."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from tests.port import KeptPort


class Shelf:
    """Objects in memory behind a port of the kernel's choice; keys are bucket/key."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.puts: list[str] = []
        """Every key that was put, in order."""
        self.refused: set[tuple[str, str]] = set()
        """(method, bucket/key): answered with the code."""
        self.code = "AccessDenied"
        self._kept = KeptPort()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self.open()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._kept.number}"

    def open(self) -> None:
        """Serve, at the same port every time."""
        address = ("127.0.0.1", self._kept.number)
        self._server = ThreadingHTTPServer(address, type("Handler", (Handler,), {"shelf": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Go away: connections are refused from now on."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def end(self) -> None:
        """Go away for good."""
        self.close()
        self._kept.release()


class Handler(BaseHTTPRequestHandler):
    """One request to the shelf."""

    shelf: Shelf
    # HTTP/1.0 closes after each answer, so closing the shelf leaves no connection behind.
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        self._answer(self._found())

    def do_HEAD(self) -> None:
        self._answer(self._found())

    def do_PUT(self) -> None:
        body = self._body()
        if self._denied():
            return self._error(403, self.shelf.code)
        self.shelf.objects[self._key()] = body
        self.shelf.puts.append(self._key())
        return self._answer(b"", etag=body)

    def _found(self) -> bytes | None:
        return None if self._denied() else self.shelf.objects.get(self._key())

    def _key(self) -> str:
        return unquote(self.path.split("?")[0].lstrip("/"))

    def _denied(self) -> bool:
        return (self.command, self._key()) in self.shelf.refused

    def _body(self) -> bytes:
        raw = self.rfile
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        if "aws-chunked" not in self.headers.get("Content-Encoding", ""):
            return raw.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(raw.readline().split(b";")[0], 16):
            content += raw.read(size)
            raw.readline()
        while raw.readline().strip():
            pass
        return content

    def _answer(self, content: bytes | None, etag: bytes | None = None) -> None:
        if content is None:
            return self._error(403, self.shelf.code) if self._denied() else self._error(404, "NoSuchKey")
        self.send_response(200)
        digest = hashlib.md5(content if etag is None else etag).hexdigest()
        self.send_header("ETag", f'"{digest}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        return None

    def _error(self, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass
