"""One side of the serving benchmark: the engine in this process, asked by its public verbs, with no HTTP in between.

python -m benchmarks.serve_engine MODEL WORK OUT
"""

import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.serve_load import Heard, Work, adapters, measure, write
from outcrop.engines import host
from outcrop.engines.text import TextEngine
from outcrop.records import Prompt

NAME = "base"


def asker(engine: TextEngine) -> Any:
    """Asks the engine and waits for the answer's end."""

    def ask(prompt: dict[str, Any], tokens: int, model: str | None) -> Heard:
        began, ended, told = time.perf_counter(), threading.Event(), []
        firsts: list[float] = []

        def emit(output: Any) -> None:
            if not firsts:
                firsts.append(time.perf_counter() - began)
            if output.finish:
                told.append(output)
                ended.set()

        engine.submit(model or NAME, Prompt(prompt["text"], max_tokens=tokens, temperature=0), emit)
        ended.wait()
        if told[0].failure:
            raise RuntimeError(told[0].failure)
        return Heard(firsts[0], told[0].completion_tokens)

    return ask


def main(model: str, work_file: str, out: str) -> None:
    """Measure and write the result."""
    began, work = time.perf_counter(), Work.read(Path(work_file))
    told = ["--weights", model, "--name", NAME, "--ready", "unused"]
    engine = host.load(host.arguments().parse_args(told))
    loaded = time.perf_counter() - began
    running = threading.Thread(target=engine.run)
    running.start()
    try:
        result = measure(asker(engine), work)
        names = [f"adapter-{number}" for number in range(len(work.adapters))]
        for name, folder in zip(names, work.adapters, strict=True):
            engine.load_adapter(name, Path(folder)).result()
        if names:
            result["adapters"] = adapters(asker(engine), work, names)
    finally:
        engine.end()
        running.join()
    write(Path(out), {**result, "load_seconds": round(loaded, 2)})


if __name__ == "__main__":
    main(*sys.argv[1:])
