"""One side of the serving benchmark: the engine's own process, asked as the gateway asks it.

python -m benchmarks.serve_http MODEL WORK OUT
"""

import asyncio
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.serve_load import Heard, Work, measure, write
from outcrop.records import Prompt
from outcrop.serve.line import Line
from outcrop.serve.own import OwnEngine
from outcrop.serve.process import EngineProcess

NAME = "base"


def start(model: Path, folder: Path) -> EngineProcess:
    """An engine that serves."""
    program = (sys.executable, "-m", "outcrop.engines.host")
    command = OwnEngine(program).command(model, NAME, folder / "ready")
    process = EngineProcess(command, folder / "log", folder / "ready")
    while (state := process.state()) != "serving":
        if state == "dead":
            raise SystemExit(process.story())
        time.sleep(0.05)
    return process


async def listen(line: Line, text: str, tokens: int) -> Heard:
    """One streamed answer."""
    began, first, made = time.perf_counter(), 0.0, 0
    async for piece in line.stream(NAME, Prompt(text, max_tokens=tokens, temperature=0)):
        first = first or time.perf_counter() - began
        made = piece.completion_tokens
    return Heard(first, made)


def main(model: str, work_file: str, out: str) -> None:
    """Measure and write the result."""
    work, loop = Work.read(Path(work_file)), asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        process = start(Path(model), Path(folder))
        line = Line(process.url(), process.key, trunk=process.trunk())

        def ask(prompt: dict[str, Any], tokens: int, _model: str | None) -> Heard:
            return asyncio.run_coroutine_threadsafe(listen(line, prompt["text"], tokens), loop).result()

        try:
            result = measure(ask, work)
        finally:
            process.end()
            loop.call_soon_threadsafe(loop.stop)
    write(Path(out), result)


if __name__ == "__main__":
    main(*sys.argv[1:])
