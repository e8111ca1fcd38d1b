"""AWS's service models as botocore ships them, with our corrections laid over: what can be asked, and in which shapes.

Nothing of AWS's interface is retyped here: operations, members, constraints, statuses are read at run time. What we
change is data, in `spec_patches.json`, each entry with its reason. Knows no HTTP and none of outcrop's other rooms.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final, Literal, Protocol

from botocore.loaders import Loader
from botocore.model import NoShapeFoundError, ServiceModel

ServiceProtocol = Literal["rest-json", "rest-xml", "query"]

SERVICES: Final = ("bedrock", "bedrock-runtime", "s3", "sts", "iam")
"""The services spoken, by botocore's names."""

SIGNED_AS: Final[Mapping[str, tuple[str, ...]]] = {
    "bedrock": ("bedrock", "bedrock-runtime"),
    "s3": ("s3",),
    "sts": ("sts",),
    "iam": ("iam",),
}
"""A credential scope's service name -> the services that sign with it."""


class Shape(Protocol):
    """What we read of a botocore shape (it publishes no types); members apply to the kinds that have them."""

    name: str
    type_name: str
    serialization: Mapping[str, Any]
    metadata: Mapping[str, Any]
    members: Mapping[str, "Shape"]
    required_members: list[str]
    member: "Shape"
    key: "Shape"
    value: "Shape"
    is_document_type: bool
    is_tagged_union: bool


class Operation(Protocol):
    """What we read of a botocore operation model."""

    name: str
    http: Mapping[str, Any]
    input_shape: Shape | None
    output_shape: Shape | None
    error_shapes: list[Shape]
    deprecated: bool
    http_checksum: Mapping[str, Any]

    def __hash__(self) -> int:
        """One there is once: what is known of it can be kept beside it."""
        ...


@dataclass(frozen=True, slots=True)
class Service:
    """One service's model: its operations by name, and the errors it may answer."""

    name: str
    protocol: ServiceProtocol
    version: str
    namespace: str
    """The XML namespace of its answers (rest-xml and query)."""
    operations: Mapping[str, Operation]
    roots: Mapping[str, str]
    """rest-xml: output shape -> the root element that AWS really sends, where it is not the shape's name."""
    matchers: Mapping[str, str]
    """A shape's pattern -> an equal one that matches in linear time."""
    model: Any

    def error(self, code: str) -> Shape | None:
        """Return the modelled error of this code (`NoSuchEntity` or the shape's own name), or None."""
        shape: Shape | None = self.model.shape_for_error_code(code)
        if shape is None:
            try:
                shape = self.model.shape_for(code)
            except NoShapeFoundError:
                return None
        return shape if shape is not None and shape.metadata.get("exception") else None


class Spec:
    """The models of every service we speak, each loaded when first asked for (all together about 0.1 s)."""

    def __init__(self) -> None:
        self._loader = Loader()
        self._patches: dict[str, Any] = json.loads(
            resources.files("outcrop.wire").joinpath("spec_patches.json").read_text("utf-8")
        )
        self._services: dict[str, Service] = {}

    def service(self, name: str) -> Service:
        """Return a service by botocore's name; raises KeyError for one that we do not speak."""
        if name not in SERVICES:
            raise KeyError(name)
        if name not in self._services:
            self._services[name] = self._load(name)
        return self._services[name]

    def operation(self, service: str, name: str) -> Operation:
        """Return one operation; raises KeyError when the service has none of that name."""
        return self.service(service).operations[name]

    def _load(self, name: str) -> Service:
        document = copy.deepcopy(self._loader.load_service_model(name, "service-2"))
        changes = self._patches.get(name, {})
        for patch in changes.get("patches", ()):
            apply(document, patch)
        model = ServiceModel(document, name)
        return Service(
            name=name,
            protocol=model.metadata["protocol"],
            version=model.api_version,
            namespace=model.metadata.get("xmlNamespace") or changes.get("namespace", ""),
            operations={each: model.operation_model(each) for each in model.operation_names},
            roots=changes.get("roots", {}),
            matchers={each["pattern"]: each["matches"] for each in changes.get("matchers", ())},
            model=model,
        )


def apply(document: Any, patch: Mapping[str, Any]) -> None:
    """Apply one patch in place: `add`, `replace` or `remove` as in RFC 6902, or `append` (text after text, ours).

    A path that no longer fits (botocore moved on) raises KeyError, so that a stale patch cannot go unseen.
    """
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in patch["path"].split("/")[1:]]
    place = document
    for part in parents:
        place = place[part]
    operation = patch["op"]
    if operation != "add" and last not in place:
        raise KeyError(patch["path"])
    if operation == "remove":
        del place[last]
    elif operation == "append":
        place[last] += patch["value"]
    elif operation in ("add", "replace"):
        place[last] = patch["value"]
    else:
        raise ValueError(f"unknown patch operation {operation!r} at {patch['path']}")
