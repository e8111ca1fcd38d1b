"""An engine that echoes: a real small program behind the engine's HTTP verbs, up in a tenth of a second.

It answers with the words of the prompt or of all messages, an adapter's name before them, and counts words as tokens;
while it streams it tells no counts before the end, as not every engine does. What else it does is written in the prompt
or in the weights folder, so that a test can have every fault that a real engine has:

    prompt "die"       the process ends in the middle of the answer      prompt "fail"    an answer that breaks
    prompt "slow …"    a word every 50 ms, for ever                      prompt "long"    refused as too long
    weights/broken     the process ends before it serves                 weights/slow     seconds before it serves
    adapter/broken     the adapter does not load                     adapter/busy     too many wait for it
    adapter/held       it does not load while this is there          adapter/mute     it does not answer while …
"""

import argparse
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class State:
    """What the engine is doing, for /health."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.adapters: dict[str, str] = {}
        self.running = 0
        self.asked = 0
        self.lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    state: State
    key: str

    def log_message(self, format: str, *args: object) -> None:
        return

    def do_GET(self) -> None:
        names = [self.state.name, *self.state.adapters]
        self.reply(200, {"load": self.state.running, "asked": self.state.asked, "models": names})

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.headers["authorization"] != f"Bearer {self.key}":
            return self.reply(401, {"error": {"message": "wrong key"}})
        if self.path == "/v1/load_lora_adapter":
            return self.load(document)
        if self.path == "/v1/unload_lora_adapter":
            del self.state.adapters[document["lora_name"]]
            return self.reply(200, {})
        with self.state.lock:
            self.state.running += 1
            self.state.asked += 1
        try:
            return self.tokenize(document) if self.path == "/tokenize" else self.complete(document)
        except OSError:  # the caller is gone
            self.close_connection = True
        finally:
            with self.state.lock:
                self.state.running -= 1
        return None

    def load(self, document: dict[str, Any]) -> None:
        if (Path(document["lora_path"]) / "broken").exists():
            return self.reply(400, {"error": {"message": "the adapter is broken"}})
        wait_for(Path(document["lora_path"]) / "held")
        self.state.adapters[document["lora_name"]] = document["lora_path"]
        return self.reply(200, {})

    def tokenize(self, asked: dict[str, Any]) -> None:
        words = question(asked).split()
        return self.reply(200, {"count": len(words), "max_model_len": 99, "tokens": list(range(len(words)))})

    def complete(self, asked: dict[str, Any]) -> None:
        model, prompt = asked["model"], question(asked)
        if model != self.state.name and model not in self.state.adapters:
            return self.reply(404, {"error": {"message": f"The model `{model}` does not exist."}})
        if prompt in {"long", "far too long"}:
            about = prompt != "long"
            count = "about 9" if about else "9"
            told = f"Too many input tokens. Max input tokens: 4, request input token count: {count}"
            figures = {"prompt_tokens": 9, "prompt_tokens_about": about, "max_prompt_tokens": 4}
            return self.reply(400, {"error": {"message": told, **figures}})
        if prompt == "busy" or (model != self.state.name and (Path(self.state.adapters[model]) / "busy").exists()):
            return self.reply(429, {"error": {"message": "too many wait"}})
        if model != self.state.name:
            wait_for(Path(self.state.adapters[model]) / "mute")
        words = prompt.split()
        if model != self.state.name:
            words.insert(0, f"{model}:")
        made = words[: asked["max_tokens"]]
        finish = "stop" if len(made) == len(words) else "length"
        stopped = next((stop for stop in asked["stop"] if stop in made), None)
        if stopped is not None:
            made, finish = made[: made.index(stopped)], "stop"
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(made)}
        if asked.get("stream"):
            return self.stream(asked, made, {"finish_reason": finish, "stop_reason": stopped}, usage)
        if prompt == "die":
            os._exit(3)
        if prompt == "fail":
            return self.reply(500, {"error": {"message": "the echo broke"}})
        if prompt.startswith("slow"):
            time.sleep(float(prompt.split()[1]))
        choice = {**said(asked, " ".join(made)), "finish_reason": finish, "stop_reason": stopped}
        return self.reply(200, {"choices": [choice], "usage": usage})

    def stream(self, asked: dict[str, Any], words: list[str], end: dict[str, Any], usage: dict[str, int]) -> None:
        prompt = question(asked)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for word in words:
            self.event({"choices": [{**said(asked, f"{word} "), "finish_reason": None, "stop_reason": None}]})
            if prompt.startswith("die"):
                os._exit(3)
            if prompt.startswith("fail"):
                self.event({"error": {"message": "the echo broke"}})
                return self.chunk(b"")
        while prompt.startswith("slow"):
            time.sleep(0.05)
            self.event({"choices": [{**said(asked, "again "), "finish_reason": None, "stop_reason": None}]})
        self.event({"choices": [{**said(asked, ""), **end}]})
        self.event({"choices": [], "usage": usage})
        self.chunk(b"data: [DONE]\n\n")
        return self.chunk(b"")

    def event(self, document: dict[str, Any]) -> None:
        self.chunk(b"data: " + json.dumps(document).encode() + b"\n\n")

    def chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def reply(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def wait_for(file: Path) -> None:
    """Until it is gone."""
    while file.exists():
        time.sleep(0.01)


def question(asked: dict[str, Any]) -> str:
    """The text of a request to either verb."""
    return str(asked["prompt"]) if "prompt" in asked else " ".join(each["content"] for each in asked["messages"])


def said(asked: dict[str, Any], text: str) -> dict[str, Any]:
    """An answer's text in the members of the verb that was asked."""
    if "prompt" in asked:
        return {"text": text}
    return {"delta" if asked.get("stream") else "message": {"role": "assistant", "content": text}}


class Server(ThreadingHTTPServer):
    """Connections may wait in any number: tests open many at once."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        return


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    for name in ("weights", "name", "ready"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", type=int, default=0)
    options, _ = parser.parse_known_args()
    weights, ready = Path(options.weights), Path(options.ready)
    if (weights / "broken").exists():
        sys.exit((weights / "broken").read_text())
    if (weights / "slow").exists():
        time.sleep(float((weights / "slow").read_text()))
    Handler.state, Handler.key = State(options.name), os.environ["OUTCROP_ENGINE_KEY"]
    server = Server(("127.0.0.1", options.port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    temporary = ready.with_suffix(".new")
    temporary.write_text(json.dumps({"port": server.server_address[1], "pid": os.getpid()}))
    temporary.replace(ready)
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
