"""Control-plane calls beside open streams: how long boto3 waits for lists and reads while so many answers run.

    python -m benchmarks.serve_control MODEL WORK OUT [STREAMS]

Streams are held by a process of their own, so that their reading does not delay the calls that are timed. The same
calls are timed first with no stream open.
"""

import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.serve_load import Work, percentile, write
from benchmarks.serve_stack import FOUNDATION, asker, client, serving
from outcrop.directory import DataDirectory

STREAMS: Final = 256
PAUSE: Final = 0.02
"""Seconds between two calls: a person's console and a few pollers, not a flood."""
OPEN_SECONDS: Final = 120.0


def hold(root: str, work_file: str, streams: int, over: Any) -> None:
    """Keep so many streams open until it is over: each caller asks again when its answer is whole."""
    work, runtime = Work.read(Path(work_file)), client(DataDirectory(Path(root)), "bedrock-runtime")

    def stream(place: int) -> None:
        prompt = work.prompts[place % len(work.prompts)]["text"]
        body = json.dumps({"inputText": prompt, "textGenerationConfig": {"maxTokenCount": 256, "temperature": 0}})
        while not over.is_set():
            answer = runtime.invoke_model_with_response_stream(modelId=FOUNDATION, body=body)
            for _ in answer["body"]:
                if over.is_set():
                    return

    for place in range(streams):
        threading.Thread(target=stream, args=(place,), daemon=True).start()
    over.wait()


def open_streams(endpoint: str) -> int:
    """Calls that engines answer now, as /metrics tells."""
    page = httpx.get(f"{endpoint}/metrics", trust_env=False, timeout=30).text
    return round(sum(float(value) for value in re.findall(r"^outcrop_engine_calls\{.*\} (\S+)$", page, re.MULTILINE)))


def timed(calls: list[Callable[[], Any]], count: int) -> list[float]:
    """Seconds of each call, one after the other, each kind in turn."""
    found = []
    for number in range(count):
        time.sleep(PAUSE)
        began = time.perf_counter()
        calls[number % len(calls)]()
        found.append(time.perf_counter() - began)
    return found


def told(seconds: list[float]) -> dict[str, float]:
    """Milliseconds."""
    shares = {"median_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99, "longest_ms": 1.0}
    return {name: round(percentile(seconds, share) * 1e3, 1) for name, share in shares.items()}


def main(model: str, work_file: str, out: str, streams: str = str(STREAMS)) -> None:
    """Measure and write the result."""
    work, wanted = Work.read(Path(work_file)), int(streams)
    context = get_context("spawn")
    over = context.Event()
    with tempfile.TemporaryDirectory() as folder, serving(Path(model), Path(folder)) as directory:
        running = directory.running()
        assert running is not None
        bedrock, s3, sts = (client(directory, name) for name in ("bedrock", "s3", "sts"))
        calls: list[Callable[[], Any]] = [
            bedrock.list_foundation_models,
            bedrock.list_custom_models,
            bedrock.list_model_customization_jobs,
            bedrock.list_provisioned_model_throughputs,
            s3.list_buckets,
            sts.get_caller_identity,
        ]
        asker(client(directory, "bedrock-runtime"))(work.prompts[0], 1, None)  # the first call loads the engine
        timed(calls, len(calls) * 3)
        idle = timed(calls, work.control_calls)
        holder = context.Process(target=hold, args=(str(directory.root), work_file, wanted, over))
        holder.start()
        try:
            deadline, seen = time.monotonic() + OPEN_SECONDS, [open_streams(running.endpoint)]
            while seen[-1] < wanted * 0.95 and time.monotonic() < deadline:
                time.sleep(0.2)
                seen.append(open_streams(running.endpoint))
            seen = [seen[-1]]
            busy: list[float] = []
            while len(busy) < work.control_calls:
                busy += timed(calls, max(1, work.control_calls // 10))
                seen.append(open_streams(running.endpoint))
        finally:
            over.set()
            holder.join(10)
            holder.kill()
    write(Path(out), {"idle": told(idle), "busy": told(busy), "streams_open": [min(seen), max(seen)]})


if __name__ == "__main__":
    main(*sys.argv[1:])
