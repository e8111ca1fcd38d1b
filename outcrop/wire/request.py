"""One HTTP request as it stood on the wire: raw path, raw query, headers. Knows HTTP, not AWS's shapes.

Header values are kept as latin-1 text, which keeps every byte: a signature covers bytes, not characters.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import unquote_to_bytes

MAX_PAIRS: Final = 10_000
"""Parameters of one query or form: forms are read before anyone is known. IAM's largest have some hundreds."""


AUTHORITY: Final = ":authority"


class MalformedUri(ValueError):
    """A path or a query that does not decode to UTF-8, or has no end."""


def percent_decode(text: str) -> str:
    """Return the text behind percent escapes; `+` stays a plus. Raises MalformedUri when the bytes are not UTF-8."""
    try:
        return unquote_to_bytes(text.encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError as fault:
        raise MalformedUri(text) from fault


@dataclass(frozen=True, slots=True)
class Request:
    """A request's head.

    `path` and `query` are as they came, still percent-encoded. `headers` has lower-case names; a repeated header is one
    value joined with commas, as RFC 9110 has it and as SigV4 signs it. `client` is the address of the
    connection's other end.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    scheme: str = "http"
    client: str = ""

    @property
    def host(self) -> str:
        """The authority the client named, with its port."""
        return self.headers.get("host", "")

    def pairs(self) -> list[tuple[str, str]]:
        """Return the query's decoded names and values in order; a bare name has the value ``""``."""
        return decode_form(self.query)

    def with_headers(self, headers: Mapping[str, str]) -> "Request":
        """Return the same request with other headers."""
        return replace(self, headers=headers)


def decode_form(text: str) -> list[tuple[str, str]]:
    """Return the pairs of a query string or a form body, where `+` is a space. Raises MalformedUri past MAX_PAIRS."""
    if text.count("&") >= MAX_PAIRS:
        raise MalformedUri(f"more than {MAX_PAIRS} parameters")
    pairs = []
    for piece in text.split("&"):
        if piece:
            name, _, value = piece.replace("+", " ").partition("=")
            pairs.append((percent_decode(name), percent_decode(value)))
    return pairs


def from_scope(scope: Mapping[str, Any]) -> Request:
    """Return the request of an ASGI scope; `raw_path` must be there, since `%2F` within an ARN is no separator."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    if scope.get("http_version", "1.1").startswith("2") and "host" in headers:
        # The server turned HTTP/2's pseudo-header into a host header; AWS's JavaScript SDK signs it by its own name.
        headers[AUTHORITY] = headers["host"]
    # granian gives the raw path with the query cut off; other servers may leave it on.
    path = scope["raw_path"].decode("latin-1").partition("?")[0]
    query, client = scope["query_string"].decode("latin-1"), (scope.get("client") or ("",))[0]
    return Request(scope["method"], path, query, headers, scope["scheme"], client)
