"""The engine as a process: its ready file, its HTTP verbs, and its end with whoever started it."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from outcrop.children import ENGINE_KEY
from tests.engines.tiny import CONTEXT, write_llama

KEY = "a key of the tests"


class Host:
    """An engine process over some weights."""

    def __init__(self, weights: Path, folder: Path, *options: str) -> None:
        self.ready = folder / "ready"
        command = [sys.executable, "-m", "outcrop.engines.host", "--weights", str(weights), "--name", "base"]
        self.process = subprocess.Popen(
            [*command, "--ready", str(self.ready), *options],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, ENGINE_KEY: KEY},
        )

    def wait(self) -> "Host":
        deadline = time.monotonic() + 60
        while not self.ready.exists():
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        self.url = f"http://127.0.0.1:{json.loads(self.ready.read_text())['port']}"
        self.client = httpx.Client(
            base_url=self.url, headers={"authorization": f"Bearer {KEY}"}, timeout=30, trust_env=False
        )
        return self

    def complete(self, **members: Any) -> httpx.Response:
        asked = {"model": "base", "prompt": "the order", "max_tokens": 8, "temperature": 0}
        return self.client.post("/v1/completions", json={**asked, **members})

    def load(self) -> int:
        return int(self.client.get("/health").json()["load"])

    def idle(self) -> None:
        """Wait until nothing runs: far sooner than the answers would have ended."""
        deadline = time.monotonic() + 2
        while self.load():
            assert time.monotonic() < deadline, "a sequence was not dropped"
            time.sleep(0.01)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)
        if self.process.stderr is not None:
            self.process.stderr.close()


def events(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def roomy(folder: Path) -> Iterator[Host]:
    """A model with room for answers of thousands of tokens: seconds of work, for a caller to walk away from."""
    weights = write_llama(folder / "weights")
    config = json.loads((weights / "config.json").read_text())
    (weights / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4000, "eos_token_id": None}))
    (weights / "generation_config.json").unlink()
    host = Host(weights, folder, "--running", "4").wait()
    yield host
    host.client.close()
    host.close()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    yield from roomy(tmp_path_factory.mktemp("host"))


def test_ready_tells_port_and_pid_and_models_are_listed(host: Host) -> None:
    assert json.loads(host.ready.read_text())["pid"] == host.process.pid
    rows = host.client.get("/v1/models").json()["data"]
    assert rows == [{"id": "base", "object": "model", "max_model_len": 4000}]


def test_a_stream_says_what_the_whole_answer_says(host: Host) -> None:
    whole = host.complete(max_tokens=40).json()
    with host.client.stream(
        "POST",
        "/v1/completions",
        json={
            "model": "base",
            "prompt": "the order",
            "max_tokens": 40,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        *chunks, usage = events(response)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["choices"][0]["text"]
    assert len(chunks) > 5
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]
    assert usage["choices"] == []
    assert usage["usage"] == whole["usage"]
    assert whole["usage"]["completion_tokens"] == 40


@pytest.mark.parametrize(
    ("members", "status", "told"),
    [
        ({"model": "green"}, 404, "The model `green` does not exist."),
        ({"prompt": 3}, 400, "Expected `str | null`"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"top_p": 1.5}, 400, "top_p"),
        ({"n": 2}, 400, "`$.n`"),
        ({"prompt": "~" * 5000}, 400, "Max input tokens: 3999, request input token count: 5001"),
    ],
)
def test_refusals(host: Host, members: dict[str, Any], status: int, told: str) -> None:
    answer = host.complete(**members)
    assert answer.status_code == status
    assert told in answer.json()["error"]["message"]


def chat(host: Host, **members: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "the order"}]
    return {"model": "base", "messages": messages, "max_tokens": 8, "temperature": 0, **members}


def test_a_chat_is_answered_whole_and_streamed(host: Host) -> None:
    whole = host.client.post("/v1/chat/completions", json=chat(host)).json()
    assert whole["object"] == "chat.completion"
    message = whole["choices"][0]["message"]
    assert message["role"] == "assistant"
    options = {"include_usage": True, "continuous_usage_stats": True}
    asked = chat(host, stream=True, stream_options=options)
    with host.client.stream("POST", "/v1/chat/completions", json=asked) as response:
        *chunks, usage = events(response)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == message["content"]
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts)
    assert {chunk["usage"]["prompt_tokens"] for chunk in chunks} == {whole["usage"]["prompt_tokens"]}
    assert usage["usage"] == whole["usage"]


def test_tokens_are_counted_as_they_are_read(host: Host) -> None:
    for verb, asked in (
        ("/v1/completions", {"model": "base", "prompt": "the order is late", "max_tokens": 1}),
        ("/v1/chat/completions", chat(host, max_tokens=1)),
    ):
        counted = host.client.post("/tokenize", json=asked).json()
        assert (counted["count"], counted["max_model_len"]) == (len(counted["tokens"]), 4000)
        assert host.client.post(verb, json=asked).json()["usage"]["prompt_tokens"] == counted["count"]
    long = host.client.post("/tokenize", json={"model": "base", "prompt": "~" * 5000}).json()
    assert long["count"] == 5001, "a count needs no room"
    assert host.client.post("/tokenize", json={"model": "green", "prompt": "a"}).status_code == 404
    assert host.client.post("/tokenize", json={"model": "base"}).status_code == 400


def test_a_too_long_prompt_is_refused_with_its_figures_or_cut(host: Host) -> None:
    error = host.complete(prompt="~" * 5000).json()["error"]
    assert (error["prompt_tokens"], error["max_prompt_tokens"]) == (5001, 3999)
    for side in ("left", "right"):
        cut = host.complete(prompt="~" * 5000, truncate_prompt_tokens=-1, truncation_side=side, max_tokens=2).json()
        assert cut["usage"]["prompt_tokens"] == 3998


def test_other_verbs_bodies_and_keys_are_refused(host: Host) -> None:
    assert host.client.get("/v1/completions").status_code == 404
    assert host.client.post("/v1/completions", content=b"{").status_code == 400
    assert httpx.get(f"{host.url}/v1/models", trust_env=False).status_code == 401
    assert httpx.get(f"{host.url}/health", trust_env=False).status_code == 200


def test_adapters_come_and_go(host: Host, adapters: dict[str, Path]) -> None:
    for name, folder in adapters.items():
        answer = host.client.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": str(folder)})
        assert answer.status_code == 200, answer.text
    texts = {
        model: host.complete(model=model, max_tokens=20).json()["choices"][0]["text"] for model in ("base", *adapters)
    }
    assert len(set(texts.values())) == 3
    assert host.client.post("/v1/unload_lora_adapter", json={"lora_name": "red"}).status_code == 200
    assert host.complete(model="red").status_code == 404
    assert host.complete(model="blue", max_tokens=20).json()["choices"][0]["text"] == texts["blue"]
    assert host.client.post("/v1/unload_lora_adapter", json={"lora_name": "red"}).status_code == 404
    missing = host.client.post("/v1/load_lora_adapter", json={"lora_name": "x", "lora_path": "/nowhere"})
    assert (missing.status_code, "adapter_config.json" in missing.text) == (400, True)


def test_a_caller_that_leaves_a_stream_frees_its_slot(host: Host) -> None:
    asked = {"model": "base", "prompt": "a", "max_tokens": 3900, "temperature": 0, "stream": True}
    with host.client.stream("POST", "/v1/completions", json=asked) as response:
        lines = response.iter_lines()  # an iterator that nobody holds would close the stream
        next(lines)
        assert host.load() == 1
    host.idle()


def test_a_caller_that_leaves_before_a_whole_answer_frees_its_slot(host: Host) -> None:
    with pytest.raises(httpx.ReadTimeout):
        host.client.post(
            "/v1/completions", json={"model": "base", "prompt": "a", "max_tokens": 3900, "temperature": 0}, timeout=0.2
        )
    host.idle()


def test_a_hundred_callers_that_leave_at_once_leave_nothing(host: Host) -> None:
    def leave(_: int) -> None:
        asked = {"model": "base", "prompt": "a", "max_tokens": 3900, "temperature": 0, "stream": True}
        with host.client.stream("POST", "/v1/completions", json=asked):
            pass

    with ThreadPoolExecutor(8) as callers:
        list(callers.map(leave, range(100)))
    host.idle()
    assert host.complete().status_code == 200


def test_eight_callers_at_once_each_get_their_own_answer(host: Host) -> None:
    prompts = ["the order", "thank you", "a", "late"] * 2
    alone = {text: host.complete(prompt=text, max_tokens=30).json()["choices"][0]["text"] for text in set(prompts)}
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda text: host.complete(prompt=text, max_tokens=30).json(), prompts))
    assert [answer["choices"][0]["text"] for answer in answers] == [alone[text] for text in prompts]


def test_it_ends_with_its_parent_even_in_the_middle_of_an_answer(tiny_llama: Path, tmp_path: Path) -> None:
    host = Host(tiny_llama, tmp_path).wait()
    failed: list[Exception] = []

    def ask() -> None:
        try:
            while True:
                host.complete(max_tokens=CONTEXT)
        except httpx.HTTPError as fault:
            failed.append(fault)

    caller = threading.Thread(target=ask)
    caller.start()
    host.close()
    caller.join(10)
    host.client.close()
    assert host.process.returncode == 0
    assert failed


def test_weights_that_are_none_end_it_with_a_message(tmp_path: Path) -> None:
    host = Host(tmp_path / "nothing", tmp_path)
    assert host.process.stderr is not None
    told = host.process.stderr.read().decode()
    assert host.process.wait(30) == 1
    assert "no causal language model in Hugging Face layout" in told
    assert "Traceback" not in told
    assert not host.ready.exists()
    host.close()
