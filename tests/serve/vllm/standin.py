"""A stand-in for vLLM: a real small program that takes its command line and speaks its verbs, over one socket.

What it answers is computed: transformers reads the weights, PEFT the adapters, one token after the other. Options and
members that vLLM does not have are refused; its refusals are worded as vLLM's own code of 2026 words them (it was
read, never run). As vLLM it binds its socket before the weights are read and listens only then, asks for its key
under /v1 alone, and outlives whoever started it.

    python standin.py serve DIR --served-model-name NAME --uds PATH [--enable-lora …]

A file `standin.json` among the weights breaks it: {"exit": N, "say": TEXT} ends it before it serves, after
{"hold": true} it loads for ever, {"child": PATH} has it start a process of its own, whose id it writes there.
"""

import argparse
import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
MEMBERS = {
    "model", "prompt", "max_tokens", "temperature", "top_p", "top_k", "stop", "seed", "stop_token_ids", "stream",
    "stream_options", "logprobs", "prompt_logprobs",
}  # fmt: skip
"""Of CompletionRequest, as far as they are carried out."""


def options() -> argparse.Namespace:
    """vLLM's command line, as far as it is used: anything else ends with 2."""
    parser = argparse.ArgumentParser(prog="vllm", allow_abbrev=False)
    serve = parser.add_subparsers(required=True).add_parser("serve", allow_abbrev=False)
    serve.add_argument("model_tag")
    serve.add_argument("--served-model-name", nargs="+", required=True)
    serve.add_argument("--uds", required=True)
    serve.add_argument("--dtype", choices=("auto", "bfloat16", "float", "float16", "float32", "half"), default="auto")
    serve.add_argument("--max-model-len", type=int)
    serve.add_argument("--generation-config", default="auto")
    serve.add_argument("--gpu-memory-utilization", type=float, default=0.9)
    serve.add_argument("--enable-lora", action=argparse.BooleanOptionalAction)
    serve.add_argument("--max-loras", type=int, default=1)
    serve.add_argument("--max-cpu-loras", type=int)
    serve.add_argument("--max-lora-rank", type=int, choices=RANKS, default=16)
    told = parser.parse_args()
    if told.max_cpu_loras is not None and told.max_cpu_loras < told.max_loras:
        serve.error(f"max_cpu_loras ({told.max_cpu_loras}) must be >= max_loras ({told.max_loras})")
    return told


class Refusal(Exception):
    """An error as vLLM words and numbers it."""

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": status}}


@dataclass
class Choice:
    """An answer as it comes."""

    prompt: list[int]
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    shown: str = ""
    finish: str | None = None
    reason: str | int | None = None


class Model:
    """The weights and their adapters."""

    def __init__(self, told: argparse.Namespace) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(1)
        self.told, self.name = told, told.served_model_name[0]
        dtype = {"auto": "auto", "float": torch.float32, "half": torch.float16}.get(told.dtype, told.dtype)
        self.tokenizer = AutoTokenizer.from_pretrained(told.model_tag)
        self.base = AutoModelForCausalLM.from_pretrained(told.model_tag, dtype=dtype).eval()
        self.context = told.max_model_len or self.base.config.max_position_embeddings
        self.adapters: dict[str, Any] = {}
        self.asked = self.running = 0
        self.lock = threading.Lock()

    def load(self, name: str, path: str) -> str:
        from peft import PeftConfig, PeftModel

        if not name or not path:
            raise Refusal(400, "InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided.")
        if name in self.adapters:
            raise Refusal(400, "InvalidUserInput", f"The lora adapter '{name}' has already been loaded.")
        if not Path(path, "adapter_config.json").exists():
            raise Refusal(404, "NotFoundError", f"Loading lora {name} failed: No adapter found for {path}")
        rank = PeftConfig.from_pretrained(path).r
        if rank > self.told.max_lora_rank:
            fault = f"LoRA rank {rank} is greater than max_lora_rank {self.told.max_lora_rank}."
            raise Refusal(500, "InternalServerError", f"Call to add_lora method failed: {fault}")
        with self.lock:
            if self.adapters:
                self.base.load_adapter(path, adapter_name=name)
            else:
                self.base = PeftModel.from_pretrained(self.base, path, adapter_name=name).eval()
            self.adapters[name] = path
        return f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, name: str) -> str:
        with self.lock:
            if self.adapters.pop(name, None) is None:
                raise Refusal(404, "NotFoundError", f"The lora adapter '{name}' cannot be found.")
            if self.adapters:
                self.base.delete_adapter(name)
            else:
                self.base = self.base.unload()
        return f"Success: LoRA adapter '{name}' removed successfully."

    def check(self, asked: dict[str, Any]) -> None:
        """What vLLM refuses before it begins."""
        if unknown := asked.keys() - MEMBERS:
            raise Refusal(400, "BadRequestError", f"unknown members: {', '.join(sorted(unknown))}")
        if asked["model"] not in (self.name, *self.adapters):
            raise Refusal(404, "NotFoundError", f"The model `{asked['model']}` does not exist.", "model")
        if not 0 <= asked["temperature"] <= 2:
            told = f"temperature must be in [0, 2], got {asked['temperature']}."
            raise Refusal(400, "BadRequestError", told, "temperature")
        prompt, wanted = asked["prompt"], asked["max_tokens"]
        if not prompt or not all(isinstance(token, int) for token in prompt):
            raise Refusal(400, "BadRequestError", "The decoder prompt cannot be empty")
        if len(prompt) + wanted > self.context:
            raise Refusal(
                400,
                "BadRequestError",
                f"This model's maximum context length is {self.context} tokens. However, you requested {wanted} output "
                f"tokens and your prompt contains at least {len(prompt)} input tokens, for a total of at least "
                f"{len(prompt) + wanted} tokens.",
                "input_tokens",
            )

    def answer(self, asked: dict[str, Any]) -> Iterator[Choice]:
        """The answer after each token."""
        choice = Choice(list(asked["prompt"]))
        ends = {*asked.get("stop_token_ids", ()), self.base.config.eos_token_id}
        chooser = self._chooser(asked)
        while choice.finish is None:
            logits = self.logits(asked["model"], [*choice.prompt, *choice.tokens])[-1]
            token = chooser(logits)
            choice.tokens.append(token)
            choice.logprobs.append(float(logits.log_softmax(-1)[token]))
            text = self.tokenizer.decode(choice.tokens, skip_special_tokens=True)
            choice.shown = text.rstrip("\N{REPLACEMENT CHARACTER}")
            if token in ends:
                choice.finish, choice.reason = "stop", token if token in asked.get("stop_token_ids", ()) else None
            elif stopped := next((stop for stop in asked["stop"] if stop in text), None):
                choice.shown = text[: text.index(stopped)]
                choice.finish, choice.reason = "stop", stopped
            elif len(choice.tokens) == asked["max_tokens"]:
                choice.finish = "length"
            yield choice

    def logits(self, model: str, ids: list[int]) -> Any:
        """A row a token."""
        import torch
        from peft import PeftModel

        with self.lock, torch.inference_mode():
            rows = torch.tensor([ids])
            if not isinstance(self.base, PeftModel):
                return self.base(rows).logits[0].float()
            if model == self.name:
                with self.base.disable_adapter():
                    return self.base(rows).logits[0].float()
            self.base.set_adapter(model)
            return self.base(rows).logits[0].float()

    def _chooser(self, asked: dict[str, Any]) -> Any:
        import torch

        generator = torch.Generator().manual_seed(asked["seed"] or 0)

        def choose(logits: Any) -> int:
            if asked["temperature"] == 0:
                return int(logits.argmax())
            weights, order = (logits / asked["temperature"]).softmax(-1).sort(descending=True)
            if asked["top_k"] > 0:
                weights[asked["top_k"] :] = 0
            weights[weights.cumsum(-1) - weights > asked["top_p"]] = 0
            return int(order[torch.multinomial(weights, 1, generator=generator)])

        return choose


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    model: Model
    key: str

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:
        print(f"INFO: {format % args}", flush=True)

    def do_GET(self) -> None:
        if self.path.startswith("/v1") and not self._admitted():
            return
        if self.path == "/health":
            self._reply(200, b"", "text/plain")
        elif self.path == "/v1/models":
            base = {"id": self.model.name, "object": "model", "max_model_len": self.model.context}
            adapters = [
                {"id": name, "object": "model", "root": path, "parent": self.model.name, "max_model_len": None}
                for name, path in self.model.adapters.items()
            ]
            self._reply(200, json.dumps({"object": "list", "data": [base, *adapters]}).encode())
        elif self.path == "/metrics":
            labels = f'{{engine="0",model_name="{self.model.name}"}}'
            self._reply(
                200,
                f"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{labels} {self.model.running}.0\n"
                f"# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{labels} 0.0\n"
                f"# TYPE vllm:num_preemptions_total counter\nvllm:num_preemptions_total{labels} 0.0\n".encode(),
                "text/plain; version=0.0.4",
            )
        else:
            self._reply(404, b'{"detail":"Not Found"}')

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self._admitted():
            return
        lora = self.model.told.enable_lora and os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") in ("1", "True")
        try:
            if self.path == "/v1/completions":
                self._complete(asked)
            elif lora and self.path == "/v1/load_lora_adapter":
                self._reply(200, self.model.load(asked["lora_name"], asked["lora_path"]).encode(), "text/plain")
            elif lora and self.path == "/v1/unload_lora_adapter":
                self._reply(200, self.model.unload(asked["lora_name"]).encode(), "text/plain")
            else:
                self._reply(404, b'{"detail":"Not Found"}')
        except Refusal as refusal:
            self._reply(refusal.status, json.dumps(refusal.body).encode())
        except OSError:  # the caller is gone
            self.close_connection = True

    def _admitted(self) -> bool:
        if self.headers["authorization"] == f"Bearer {self.key}":
            return True
        self._reply(401, b'{"error":"Unauthorized"}')
        return False

    def _complete(self, asked: dict[str, Any]) -> None:
        self.model.check(asked)
        self.model.asked += 1
        self.model.running += 1
        try:
            if asked.get("stream"):
                self._stream(asked)
            else:
                *_, last = self.model.answer(asked)
                self._reply(200, json.dumps({**self._event(last, last.shown, asked), "usage": usage(last)}).encode())
        finally:
            self.model.running -= 1

    def _stream(self, asked: dict[str, Any]) -> None:
        assert asked["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        shown = 0
        for choice in self.model.answer(asked):
            # A stop string may begin in what was not shown yet.
            held = 0 if choice.finish else max((len(stop) - 1 for stop in asked["stop"]), default=0)
            end = max(shown, len(choice.shown) - held)
            self._data({**self._event(choice, choice.shown[shown:end], {}), "usage": usage(choice)})
            shown = end
        self._data({"id": "cmpl-1", "object": "text_completion", "choices": [], "usage": usage(choice)})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _event(self, choice: Choice, text: str, asked: dict[str, Any]) -> dict[str, Any]:
        told: dict[str, Any] = {"index": 0, "text": text, "logprobs": None, "finish_reason": choice.finish}
        told |= {"stop_reason": choice.reason}
        if asked.get("logprobs") is not None:
            texts = [self.model.tokenizer.decode([token]) for token in choice.tokens]
            told["logprobs"] = {
                "tokens": texts,
                "token_logprobs": choice.logprobs,
                "text_offset": [],
                "top_logprobs": [],
            }
        if asked.get("prompt_logprobs") is not None:
            rows = self.model.logits(asked["model"], choice.prompt).log_softmax(-1)
            told["prompt_logprobs"] = [None] + [
                {
                    str(token): {
                        "logprob": float(row[token]),
                        "rank": 1,
                        "decoded_token": self.model.tokenizer.decode([token]),
                    }
                }
                for row, token in zip(rows, choice.prompt[1:], strict=False)
            ]
        return {"id": "cmpl-1", "object": "text_completion", "created": int(time.time()), "choices": [told]}

    def _data(self, document: dict[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps(document).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _reply(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def usage(choice: Choice) -> dict[str, int]:
    """Tokens so far."""
    made = len(choice.tokens)
    return {"prompt_tokens": len(choice.prompt), "completion_tokens": made, "total_tokens": len(choice.prompt) + made}


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """On a socket that is bound already."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, bound: socket.socket) -> None:
        super().__init__("", Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = bound
        self.server_activate()


def main() -> None:
    """Serve until somebody ends it."""
    told = options()
    breaks = Path(told.model_tag, "standin.json")
    broken = json.loads(breaks.read_text()) if breaks.exists() else {}
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound.bind(told.uds)
    if "child" in broken:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(broken["child"]).write_text(str(child.pid))
    if "say" in broken:
        print(broken["say"], flush=True)
    if "exit" in broken:
        sys.exit(broken["exit"])
    while broken.get("hold"):
        time.sleep(60)
    Handler.model, Handler.key = Model(told), os.environ["VLLM_API_KEY"]
    print(f"Starting vLLM server on unix:{told.uds}", flush=True)
    Server(bound).serve_forever()


if __name__ == "__main__":
    main()
