"""Which operation a request means: the credential scope's service first, then method and raw path, query and headers.

The path is split on `/` while still percent-encoded, so an ARN in it stays one segment. Knows the service models and
the request's head; never looks into a body but for the `Action` of the query protocol, which the caller hands in.
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from outcrop.wire.request import Request, decode_form, percent_decode
from outcrop.wire.spec import Operation, Service, Spec

FORM: Final = "application/x-www-form-urlencoded"

VERSION_OF_STS: Final = "2011-06-15"


@dataclass(frozen=True, slots=True)
class Match:
    """An operation, and the decoded labels of the request's path."""

    service: Service
    operation: Operation
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Path:
    """One operation's place: its segments, the query it insists on, the members that tell it from its neighbours."""

    operation: Operation
    segments: tuple[str, ...]
    literals: tuple[tuple[str, str], ...]
    required: tuple[tuple[str, str], ...]

    def labels(self, segments: Sequence[str]) -> dict[str, str] | None:
        """Return the raw labels if the request's segments fit, else None."""
        greedy = bool(self.segments) and self.segments[-1].endswith("+}")
        if len(segments) < len(self.segments) or (len(segments) > len(self.segments) and not greedy):
            return None
        found: dict[str, str] = {}
        for index, wanted in enumerate(self.segments):
            given = "/".join(segments[index:]) if wanted.endswith("+}") else segments[index]
            if wanted.startswith("{"):
                if not given:
                    return None
                found[wanted.strip("{+}")] = given
            elif given != wanted:
                return None
        return found

    @property
    def literal(self) -> bool:
        """Whether it begins with a literal segment."""
        return bool(self.segments) and not self.segments[0].startswith("{")

    @property
    def fixed(self) -> int:
        """How many segments are literal: the more, the more specific."""
        return sum(not segment.startswith("{") for segment in self.segments)


class RestRouter:
    """The operations of one rest-json or rest-xml service, by method and path."""

    def __init__(self, service: Service) -> None:
        self.service = service
        paths = [_path(each) for each in service.operations.values()]
        # Where two operations share a place entirely (S3 has five such pairs), the one not deprecated, then the first.
        unique: dict[tuple[str, tuple[str, ...], object, object], _Path] = {}
        for path in sorted(paths, key=lambda each: (each.operation.deprecated, each.operation.name)):
            place = (path.operation.http["method"], path.segments, path.literals, path.required)
            unique.setdefault(place, path)
        self._paths = tuple(unique.values())
        self._reserved = {name for path in self._paths for name, _ in path.literals}
        self._begun = {path.segments[0] for path in self._paths if path.literal}
        self._places: dict[tuple[str, str], tuple[_Path, ...]] = {}
        """What may match, by method and the first segment where some operation's is literal, else \"\"."""
        for method in {path.operation.http["method"] for path in self._paths}:
            for first in ("", *self._begun):
                self._places[method, first] = tuple(
                    path
                    for path in self._paths
                    if path.operation.http["method"] == method and (not path.literal or path.segments[0] == first)
                )

    def match(self, request: Request, segments: Sequence[str]) -> Match | None:
        """Return the most specific operation for the request, or None.

        `segments` is the raw path, split. A query name that is a sub-resource of some operation excludes every
        operation that does not name it: `DELETE /bucket?cors` must never be read as `DELETE /bucket`.
        """
        query = dict(request.pairs())
        reserved = self._reserved & query.keys()
        best: tuple[tuple[int, ...], _Path, dict[str, str]] | None = None
        first = segments[0] if segments and segments[0] in self._begun else ""
        for path in self._places.get((request.method, first), ()):
            if any(query.get(name) != value for name, value in path.literals):
                continue
            if reserved and reserved - {name for name, _ in path.literals}:
                continue
            labels = path.labels(segments)
            if labels is None:
                continue
            present = sum(
                name in (query if where == "querystring" else request.headers) for where, name in path.required
            )
            rank = (path.fixed, len(path.literals), present, -len(path.required))
            if best is None or rank > best[0]:
                best = rank, path, labels
        if best is None:
            return None
        return Match(self.service, best[1].operation, {name: percent_decode(raw) for name, raw in best[2].items()})

    def has_path(self, segments: Sequence[str]) -> bool:
        """Whether any method has an operation at this path (S3 tells 405 from 501 by it)."""
        return any(path.labels(segments) is not None for path in self._paths)


def _path(operation: Operation) -> _Path:
    path, _, query = operation.http["requestUri"].partition("?")
    literals = tuple((name, value) for name, _, value in (each.partition("=") for each in query.split("&") if each))
    required: list[tuple[str, str]] = []
    shape = operation.input_shape
    for member in shape.required_members if shape else ():
        assert shape is not None
        where = shape.members[member].serialization.get("location")
        if where in ("querystring", "header"):
            name = shape.members[member].serialization["name"]
            required.append((where, name if where == "querystring" else name.lower()))
    return _Path(operation, tuple(split_path(path)), literals, tuple(sorted(required)))


def split_path(path: str) -> list[str]:
    """Return the raw segments of a path; `/` has none, and empty segments count (S3 keys may hold them)."""
    return path.removeprefix("/").split("/") if path not in ("", "/") else []


class Router:
    """Every service's operations behind one address."""

    def __init__(self, spec: Spec, domains: Iterable[str]) -> None:
        self._spec = spec
        self._domains = tuple("." + each for each in domains)
        self._rest = {name: RestRouter(spec.service(name)) for name in ("bedrock", "bedrock-runtime", "s3")}

    def rest(self, services: Sequence[str], request: Request) -> Match | None:
        """Return the operation of the first of these rest services that knows the request, or None."""
        for name in services:
            match = self._rest[name].match(request, self.segments(name, request))
            if match is not None:
                return match
        return None

    def query(self, service: str, request: Request, form: str) -> Match | None:
        """Return the operation that `Action` (in the query, or in a form body) names, or None."""
        given = dict(request.pairs() + decode_form(form))
        model = self._spec.service(service)
        operation = model.operations.get(given.get("Action", ""))
        if operation is None or given.get("Version", model.version) != model.version:
            return None
        return Match(model, operation, {})

    def has_path(self, service: str, request: Request) -> bool:
        """Whether the path exists for another method."""
        return self._rest[service].has_path(self.segments(service, request))

    def segments(self, service: str, request: Request) -> list[str]:
        """Return the raw path segments; for S3 the bucket first, also when the host names it."""
        segments = split_path(request.path)
        if service != "s3":
            return segments
        bucket = self.bucket_of_host(request.host)
        segments = segments if bucket is None else [bucket, *segments]
        # `/bucket/` is the bucket: no key is empty.
        return segments[:1] if len(segments) == 2 and not segments[1] else segments

    def bucket_of_host(self, host: str) -> str | None:
        """Return the bucket of a virtual-host style address (`bucket.localhost:4580`), or None."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if _is_address(name):
            return None
        for domain in self._domains:
            if name.lower().endswith(domain):
                return name[: -len(domain)] or None
        return None

    def unsigned(self, request: Request) -> tuple[str, ...]:
        """Guess the services of a request that carries no credentials: bedrock's paths, forms, and S3 for the rest."""
        if self.bucket_of_host(request.host) is None:
            if request.headers.get("content-type", "").startswith(FORM) or "Action" in dict(request.pairs()):
                version = dict(request.pairs()).get("Version", VERSION_OF_STS)
                return ("sts",) if version == VERSION_OF_STS else ("iam",)
            bedrock = ("bedrock", "bedrock-runtime")
            if self.rest(bedrock, request) is not None:
                return bedrock
        return ("s3",)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
