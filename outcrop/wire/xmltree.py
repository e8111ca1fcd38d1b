"""XML as a plain tree, read safely: no document types (so no entities), no deep nesting, no namespaces kept.

Over expat alone. Knows nothing of shapes.
"""

from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

MAX_DEPTH: Final = 64
"""S3's deepest document (a lifecycle or replication rule) nests fewer than ten elements."""

MAX_ELEMENTS: Final = 200_000
"""DeleteObjects names at most 1,000 keys, CompleteMultipartUpload 10,000 parts of some nine elements."""


class MalformedXml(ValueError):
    """Text that is no well-formed XML, or XML that we will not read."""


@dataclass(slots=True)
class Element:
    """One element: its name and attributes without prefixes' namespaces resolved, its text, its children in order."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    def all(self, name: str) -> list["Element"]:
        """The children of that local name."""
        return [child for child in self.children if child.name == name]


class _Builder:
    def __init__(self) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []
        self._texts: list[list[str]] = []
        self._count = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if len(self._open) >= MAX_DEPTH or self._count > MAX_ELEMENTS:
            raise MalformedXml("nested too deep or too long")
        element = Element(name.rpartition(":")[2], attributes)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)
        self._texts.append([])

    def end(self, _name: str) -> None:
        self._open.pop().text = "".join(self._texts.pop())

    def data(self, text: str) -> None:
        self._texts[-1].append(text)

    def doctype(self, *_: object) -> None:
        raise MalformedXml("a document type is not accepted")


def parse(text: bytes) -> Element:
    """Return the root element; raises MalformedXml."""
    builder = _Builder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = builder.doctype
    try:
        parser.Parse(text, True)
    except expat.ExpatError as fault:
        raise MalformedXml(str(fault)) from fault
    assert builder.root is not None
    return builder.root
