"""What the tests of Converse share: models of every family, conversations, and a server whose engines echo."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.api.runtime_server import EXPRESS, Runtime, runtime_over

COHERE = "cohere.command-text-v14"
HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"
LLAMA = "meta.llama3-1-8b-instruct-v1:0"
LLAMA_2 = "meta.llama2-13b-chat-v1"
NOVA = "amazon.nova-micro-v1:0"
MODELS = (EXPRESS, COHERE, LLAMA_2, HAIKU, NOVA)


@contextlib.contextmanager
def conversing(root: Path) -> Iterator[Runtime]:
    """A server on which every row of the catalogue has the echo's weights."""
    with runtime_over(root) as running:
        for row in running.world.catalog.rows:
            running.world.store.models.use_weights(row.long_id, str(running.world.base))
        yield running


def said(role: str, *texts: str) -> dict[str, Any]:
    return {"role": role, "content": [{"text": text} for text in texts]}


def asked(*messages: str, **members: Any) -> dict[str, Any]:
    """A conversation whose turns begin with the user's; HAIKU's, unless another model is named."""
    roles = ("user", "assistant")
    turns = [said(roles[number % 2], text) for number, text in enumerate(messages)]
    return {"modelId": HAIKU, "messages": turns, **members}
