"""Streams of what is served are begun in the event loop; whatever must be waited for is waited for in a thread."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from outcrop.api.call import admit
from outcrop.errors import AccessDeniedException, MustWait
from outcrop.wire.gateway import SMALL_BODY, Signed
from tests.api.bedrock_server import REGION, refused
from tests.api.runtime_server import EXPRESS, Runtime, runtime_over
from tests.serve.fleet_world import now

STREAM = "InvokeModelWithResponseStream"


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    with runtime_over(tmp_path) as running:
        yield running


def told(runtime: Runtime, model: str, text: str = "one two", **settings: Any) -> str:
    """What a model streams."""
    body = json.dumps({"inputText": text, "textGenerationConfig": settings})
    answer = runtime.client().invoke_model_with_response_stream(modelId=model, body=body)
    return "".join(json.loads(event["chunk"]["bytes"])["outputText"] for event in answer["body"]).strip()


def conversed(runtime: Runtime, model: str) -> str:
    messages = [{"role": "user", "content": [{"text": "one two"}]}]
    events = runtime.client().converse_stream(modelId=model, messages=messages)["stream"]
    return "".join(event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event)


def outcomes(runtime: Runtime) -> dict[tuple[str, str], float]:
    """How calls ended, by model, as /metrics counts them."""
    return {
        (sample.labels["model_id"], sample.labels["outcome"]): sample.value
        for family in runtime.world.fleet._meter.registry.collect()
        for sample in family.samples
        if sample.name == "outcrop_invocations_total"
    }


def code(act: Callable[[], object]) -> str:
    return refused(act)[0]


def test_a_stream_of_what_is_served_needs_no_thread_and_sees_every_change(runtime: Runtime) -> None:
    custom = runtime.world.model()
    arn = runtime.world.serve(1, custom.arn)
    assert told(runtime, EXPRESS) == "one two"  # the key is known now
    runtime.gateway._threads.waiting.shutdown()
    assert code(lambda: runtime.client().invoke_model(modelId=EXPRESS, body='{"inputText": "a"}')) == (
        "InternalServerException"  # what waits for a whole answer has no thread any more
    )
    assert told(runtime, EXPRESS) == "one two"
    assert told(runtime, arn) == told(runtime, "pt-1") == f"{custom.id}: one two"
    assert conversed(runtime, arn).startswith(f"{custom.id}: ")
    renamed = runtime.world.store.throughputs.update_asked(arn, name="renamed", model_arn=None, now=now())
    assert told(runtime, "renamed") == f"{custom.id}: one two"
    runtime.world.store.throughputs.delete(renamed.arn, now())
    assert code(lambda: told(runtime, arn)) == "ResourceNotFoundException"
    assert runtime.leases == 0


@pytest.mark.parametrize("database", ["file", "memory"])
def test_what_has_to_be_waited_for_is_answered_and_counted_once(tmp_path: Path, database: str) -> None:
    options = {} if database == "file" else {"database": "sqlite://"}
    with runtime_over(tmp_path, **options) as runtime:
        long = "word " * (SMALL_BODY // 4)
        assert told(runtime, EXPRESS) == "one two"  # nobody is known and nothing is loaded
        assert told(runtime, EXPRESS, long, maxTokenCount=2) == "word word"
        assert told(runtime, EXPRESS) == "one two"
        assert code(lambda: told(runtime, "nobody-s")) == "ValidationException"
        [((model, outcome), count)] = outcomes(runtime).items()
        assert (model.startswith(EXPRESS), outcome, count) == (True, "ok", 3)


def test_only_the_known_admin_is_admitted_without_a_question(runtime: Runtime) -> None:
    identity, params = runtime.rooms.identity, {"modelId": EXPRESS}
    role = identity.role_of(runtime.keys.role_arn)
    assert role is not None
    session = identity.mint(role, "s", timedelta(hours=1)).access_key

    def admitted(access_key: str, *, patient: bool) -> bool:
        signed = Signed(access_key, "bedrock-runtime", STREAM, REGION, "id", "host", {}, secure=False)
        return admit(runtime.rooms, signed, params, patient=patient).patient

    for access_key in (runtime.keys.access_key, session):
        with pytest.raises(MustWait):
            admitted(access_key, patient=False)
        assert identity.credential_for(access_key) is not None
    assert admitted(runtime.keys.access_key, patient=False) is False
    assert admitted(runtime.keys.access_key, patient=True) is True
    with pytest.raises(MustWait):
        admitted(session, patient=False)
    with pytest.raises(AccessDeniedException):
        admitted(session, patient=True)
