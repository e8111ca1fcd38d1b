"""The engine process: one base model behind HTTP on this machine, until its parent goes away.

    python -m outcrop.engines.host --weights DIR --name NAME --port 0 --ready FILE

The ready file, JSON {"port", "trunk", "pid"}, appears whole and only once a first token was made: HTTP's port, and that
of the connection over which the server asks for streams (outcrop/trunk.py). The process ends when its
standard input does: whoever started it holds the other end, so no crash of the parent leaves an engine behind. Every
request must carry the bearer key in OUTCROP_ENGINE_KEY, where that is set.
"""

import argparse
import asyncio
import gc
import json
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch

from outcrop.children import ENGINE_KEY
from outcrop.datasets.tokens import Encoder
from outcrop.engines.http import EngineHttp
from outcrop.engines.models import WAYS, NotLean
from outcrop.engines.post import Post
from outcrop.engines.text import TextEngine
from outcrop.engines.trunk import Trunk
from outcrop.errors import OutcropError
from outcrop.garbage import lasting
from outcrop.kernels import native
from outcrop.listen import Listener, Port
from outcrop.records import Prompt
from outcrop.sources import memory
from outcrop.sources.look import look
from outcrop.weights import choose_dtype, load_config, load_model, require_steps


def arguments() -> argparse.ArgumentParser:
    """What the process is told."""
    parser = argparse.ArgumentParser(prog="outcrop.engines.host", description="Serve one base model and its adapters.")
    parser.add_argument("--weights", type=Path, required=True, help="folder in Hugging Face layout")
    parser.add_argument("--name", required=True, help="what the base is called in requests")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: one of the kernel's choice")
    parser.add_argument("--ready", type=Path, required=True, help="file to write once it serves")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, …")
    parser.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--running", type=int, default=64, help="sequences that run at once")
    parser.add_argument("--waiting", type=int, default=256, help="requests kept beyond those")
    parser.add_argument("--step-tokens", type=int, default=0, help="rows that a step reads; 0: by the device")
    parser.add_argument("--cache-gb", type=float, default=0.0, help="of keys and values; 0: by the free memory")
    parser.add_argument("--stream-interval", type=float, default=0.0, help="ms that pieces of a stream are gathered")
    parser.add_argument("--way", choices=WAYS, default="auto", help="how the model is run")
    return parser


@lasting()
def load(options: argparse.Namespace) -> TextEngine:
    """The model in memory, proven by one token; raises OutcropError with a message for a person."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.set_num_threads(options.threads or len(os.sched_getaffinity(0)))
    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        dtype = choose_dtype(load_config(options.weights), options.dtype, device)
        seen = look(options.weights, str(options.weights))
        memory.require_serving(seen, str(options.weights), dtype.itemsize, memory.here())
    engine = _fastest(options, device) if options.way == "auto" else _over(options, device, options.way)
    print(f"{options.weights} runs {engine.way}{engine.why and f': {engine.why}'}", file=sys.stderr)
    if torch.get_num_threads() > 1 and not native.threaded():
        print("no OpenMP was found beside torch: kernels run on one core", file=sys.stderr)
    outputs: list[str | None] = []
    engine.submit(options.name, Prompt("a", max_tokens=1, temperature=0), lambda output: outputs.append(output.failure))
    while not outputs:
        engine.step()
    if outputs[0]:
        raise OutcropError(f"the model at {options.weights} does not run: {outputs[0]}")
    return engine


def _fastest(options: argparse.Namespace, device: str) -> TextEngine:
    """An engine that goes the fastest way that these weights can go."""
    try:
        return _over(options, device, "auto")
    except NotLean as why:
        print(f"{why}: it is read again, to run packed", file=sys.stderr)
    # Out here: what was raised holds the first model, and two may be more than there is room for. It lies in a circle,
    # and by itself nobody looks for those now.
    gc.collect()
    return _over(options, device, "packed")


def _over(options: argparse.Namespace, device: str, way: str) -> TextEngine:
    """An engine over the weights, read anew."""
    model = load_model(options.weights, options.dtype, device)
    require_steps(model)
    return TextEngine(
        model,
        Encoder.read(options.weights),
        name=options.name,
        running=options.running,
        waiting=options.waiting,
        step_tokens=options.step_tokens,
        cache_bytes=int(options.cache_gb * 1e9) or None,
        way=way,
    )


async def serve(engine: TextEngine, options: argparse.Namespace) -> None:
    """Answer requests until the process ends."""
    key = os.environ.get(ENGINE_KEY, "")
    loop = asyncio.get_running_loop()
    post = Post(loop, options.stream_interval / 1e3)
    engine.after_step = post.ring
    listener = Listener(EngineHttp(engine, post, key), Port(options.host, options.port))
    await listener.start()
    trunk = await loop.create_server(lambda: Trunk(engine, post, key), options.host, 0)
    ready = {"port": listener.port, "trunk": trunk.sockets[0].getsockname()[1], "pid": os.getpid()}
    temporary = options.ready.with_name(f".{options.ready.name}.{os.getpid()}")
    temporary.write_text(json.dumps(ready))
    temporary.replace(options.ready)
    await asyncio.Event().wait()


def follow_parent() -> None:
    """End the process when its standard input ends: there is nothing to save, and nobody left to answer."""
    # Not through sys.stdin: its lock, held by a waiting thread, would abort an orderly exit.
    while os.read(0, 4096):
        pass
    os._exit(0)


def step_forever(engine: TextEngine) -> None:
    """Run the engine's loop; a fault of ours ends the process, and whoever watches it starts another."""
    try:
        engine.run()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def main(argv: Sequence[str] | None = None) -> int:
    """Load, tell that it is ready, serve."""
    options = arguments().parse_args(argv)
    # Before the model is loaded: the parent may go away meanwhile.
    threading.Thread(target=follow_parent, name="parent", daemon=True).start()
    try:
        engine = load(options)
        threading.Thread(target=step_forever, args=(engine,), name="engine", daemon=True).start()
        asyncio.run(serve(engine, options))
    except OutcropError as fault:
        print(fault, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
