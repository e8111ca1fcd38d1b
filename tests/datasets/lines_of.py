"""Lines for the checker's tests: good ones as people's tools spell them, and broken ones made of these."""

import json
from typing import Any

from hypothesis import strategies as st

from outcrop.datasets.formats import FORMATS

TEXT = st.one_of(
    st.sampled_from(
        [
            "a",
            "role",
            'say "no"',
            "back\\slash",
            "line\nfeed",
            "日本語",
            "😀",
            "é",
            "prompt",
            "Human:",
            "\\u0041",
            "a" * 600,
            " ",
            "\n\u3000",
        ]
    ),
    st.text(min_size=1, max_size=40).filter(
        lambda text: text.isascii() or text.encode("utf-8", "ignore").decode() == text
    ),
)
_MARKS = [b"{", b"}", b'"', b":", b",", b" ", b"[", b"]", b"\\", b'\\"', b"null", b"1", b'""']
_BYTES = [b"\r", b"\t", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\0", b"\xef\xbb\xbf", "あ".encode()]
_ESCAPES = [rb"\ud83d", rb"\ude00", rb"\u00e9", rb"\u12", rb"\x"]
_MEMBERS = [b'"prompt"', b'"role"', b'"system": "x", ', b',"content":"x"', b'{"text": "y"}', b'"assistant"', b'"user"']
BROKEN = st.sampled_from([*_MARKS, *_BYTES, *_ESCAPES, *_MEMBERS, b"Human:"])


@st.composite
def records(draw: st.DrawFn, format: str) -> dict[str, Any]:
    """A good record of a format as its document."""
    if format == "prompt-completion":
        pair = [("prompt", draw(TEXT)), ("completion", draw(TEXT))]
        return dict(draw(st.permutations(pair)))
    if format == "text":
        return {"input": draw(TEXT)}
    turns = [(role, draw(TEXT)) for role in ["user", "assistant"] * draw(st.integers(1, 3))]
    system = draw(st.none() | TEXT)
    if format == "messages":
        messages = [{"role": role, "content": text} for role, text in turns]
        return {"messages": messages} if system is None else {"system": system, "messages": messages}
    blocks = [{"role": role, "content": [{"text": text}]} for role, text in turns]
    head: dict[str, Any] = {"schemaVersion": "bedrock-conversation-2024"}
    return head | ({} if system is None else {"system": [{"text": system}]}) | {"messages": blocks}


@st.composite
def good_lines(draw: st.DrawFn, format: str) -> bytes:
    """One good line in some spelling."""
    found = draw(records(format))
    spaces = draw(st.sampled_from([(", ", ": "), (",", ":"), (",", ": "), (" , ", " : ")]))
    return json.dumps(found, ensure_ascii=draw(st.booleans()), separators=spaces).encode("utf-8")


@st.composite
def any_lines(draw: st.DrawFn, format: str) -> bytes:
    """One line, good or broken in a place or two."""
    line = draw(good_lines(draw(st.sampled_from([format, format, format, *FORMATS]))))
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(line)))
        end = draw(st.integers(start, min(len(line), start + 3)))
        line = line[:start] + draw(st.just(b"") | BROKEN) + line[end:]
    return line.replace(b"\n", b"")
