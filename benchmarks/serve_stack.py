"""One side of the serving benchmark: `outcrop serve`, asked by unchanged boto3 (InvokeModelWithResponseStream).

    python -m benchmarks.serve_stack MODEL WORK OUT

The model stands behind a foundation model's id and is asked on demand, so that no model units hold anybody back; all
else of the way (signature, admission, dialect, lease, engine, event stream) is that of a custom model.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config

from benchmarks.serve_load import LOAD_LEVEL, Ask, Heard, Work, closed_loop, measure, other_words, write
from outcrop.directory import DataDirectory

FOUNDATION: Final = "amazon.titan-text-express-v1"
START_SECONDS: Final = 120.0
CONNECTIONS: Final = 300
SILENCE_SECONDS: Final = 600
"""With 256 streams on a small machine the last of them waits longer for its first token than boto3's own 60 s."""


@contextmanager
def serving(model: Path, folder: Path) -> Iterator[DataDirectory]:
    """A server over a fresh data directory, with the model behind FOUNDATION."""
    command = [sys.executable, "-m", "outcrop.cli"]
    data = ["--data", str(folder / "data")]
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen([*command, "serve", "--port", "0", *data], stdout=log, stderr=log)
    directory = DataDirectory(folder / "data")
    try:
        deadline = time.monotonic() + START_SECONDS
        while (running := directory.running()) is None or running.pid != child.pid:
            if child.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server does not start:\n{(folder / 'log').read_text()[-3000:]}")
            time.sleep(0.05)
        use = [*command, "models", "use", FOUNDATION, str(model), *data]
        if (done := subprocess.run(use, capture_output=True, text=True, check=False)).returncode:
            raise SystemExit(f"the model is not taken: {done.stdout}{done.stderr}")
        yield directory
    finally:
        child.terminate()
        child.wait()


def client(directory: DataDirectory, service: str) -> Any:
    """A client as everybody makes it; only its pool of connections is as large as what is asked at a time."""
    running, credentials = directory.running(), directory.read_credentials()
    assert running is not None
    return boto3.client(
        service,
        endpoint_url=running.endpoint,
        region_name=credentials.region,
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret,
        config=Config(max_pool_connections=CONNECTIONS, read_timeout=SILENCE_SECONDS),
    )


def asker(runtime: Any) -> Any:
    """Asks for a stream and reads it to its end."""

    def ask(prompt: dict[str, Any], tokens: int, _model: str | None) -> Heard:
        body = {"inputText": prompt["text"], "textGenerationConfig": {"maxTokenCount": tokens, "temperature": 0}}
        began, first, last = time.perf_counter(), 0.0, b""
        answer = runtime.invoke_model_with_response_stream(modelId=FOUNDATION, body=json.dumps(body))
        for event in answer["body"]:
            first = first or time.perf_counter() - began
            last = event["chunk"]["bytes"]
        return Heard(first, json.loads(last)["totalOutputTextTokenCount"])

    return ask


def main(model: str, work_file: str, out: str) -> None:
    """Measure and write the result."""
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    work = Work.read(Path(work_file))
    with tempfile.TemporaryDirectory() as folder, serving(Path(model), Path(folder)) as directory:
        ask = asker(client(directory, "bedrock-runtime"))
        ask(work.prompts[0], 1, None)  # the first call loads the engine
        result = measure(ask, work)
        result["microseconds_a_token"] = processor_time(ask, work, directory)
    write(Path(out), result)


def processor_time(ask: Ask, work: Work, directory: DataDirectory) -> dict[str, float]:
    """What a streamed token costs each process at LOAD_LEVEL, prompts included, whatever else the machine does."""
    running = directory.running()
    assert running is not None
    children = (path.read_text().split() for path in Path(f"/proc/{running.pid}/task").glob("*/children"))
    [engine] = [int(child) for found in children for child in found]
    processes = {"gateway": running.pid, "engine": engine, "client": os.getpid()}
    prompts = [other_words(prompt) for prompt in work.asked(LOAD_LEVEL)]
    before = {name: _seconds(pid) for name, pid in processes.items()}
    closed_loop(ask, prompts, LOAD_LEVEL, work.new_tokens)
    used = {name: _seconds(pid) - before[name] for name, pid in processes.items()}
    return {name: round(each / (len(prompts) * work.new_tokens) * 1e6, 1) for name, each in used.items()}


def _seconds(pid: int) -> float:
    """Processor time of a process so far, its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main(*sys.argv[1:])
