"""outcrop serve: the server, in the foreground, until it is interrupted."""

import asyncio
import ctypes
import os
import shlex
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.markup import escape

from outcrop.commands.options import Data, Host, Port, error_console, settings_from, spin_briefly
from outcrop.garbage import lasting

if TYPE_CHECKING:
    from outcrop.app import Service

MMAP_THRESHOLD: Final = -3
"""mallopt's M_MMAP_THRESHOLD: blocks of that size are the kernel's own, and its again once they are freed."""
LARGE_BLOCK: Final = 1024 * 1024


def serve(data: Data = None, host: Host = None, port: Port = None) -> None:
    """Serve Bedrock, S3, STS and IAM on one port until interrupted.

    Every other setting comes from the environment (OUTCROP_ and its name) or outcrop.toml in the working directory.

    What they are and mean: docs/reference/settings.md.
    """
    from outcrop.logs import configure

    spin_briefly()
    _give_memory_back()
    # The database holds keys and the buckets hold training data: what the server makes is its user's alone.
    os.umask(0o077)
    settings = settings_from(data=data, host=host, port=port)
    configure(settings.log_level)

    def make() -> "Service":
        from outcrop.app import build

        return build(settings)

    asyncio.run(_serve(make))


async def _serve(make: Callable[[], "Service"]) -> None:
    """Run a service until SIGINT or SIGTERM; a second one ends it at once."""
    asked = asyncio.Event()

    def ask(number: int) -> None:
        if asked.is_set():
            # Nothing is lost by it: whatever was answered is on disk, and engines end with their parent.
            os._exit(128 + number)
        asked.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ask, number)
    with lasting():
        service = make()
        await service.start()
    _banner(service)
    await asked.wait()
    error_console().print(
        "stopping: requests in work end, then engines; a training job goes on and is taken up at the next start "
        "(Ctrl-C again: stop at once)"
    )
    await service.stop()


def _give_memory_back() -> None:
    """Have the memory of large bodies returned as soon as they are done with; elsewhere than on glibc, do nothing.

    By itself glibc learns from the first of them to keep such blocks: some 50 MB in each of many threads' arenas.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, LARGE_BLOCK)


def _banner(service: "Service") -> None:
    """Say where the service is and how to reach it."""
    from outcrop.listen import is_loopback

    console = Console(highlight=False, soft_wrap=True)  # what is copied from here must stay in one piece
    root, host, port = service.directory.root, service.listener.host, service.listener.port
    console.print(f"[bold]outcrop[/bold] serves Bedrock, S3, STS and IAM at [bold]{service.endpoint}[/bold]")
    if not is_loopback(host):
        console.print(f"  open      to other machines on {host}, port {port}: signed, not encrypted; put TLS in front")
    console.print(
        f"  data      {escape(str(root))}"
        + (f"  [green](made now: {', '.join(service.made)})[/green]" if service.made else "")
    )
    console.print(f"  account   {service.settings.account}, every region; the first role is BedrockCustomizationRole")
    console.print(f"  weights   {_weights(service)}")
    console.print(f'  use it    eval "$(outcrop env --data {escape(shlex.quote(str(root)))})"')
    console.print("  stop it   Ctrl-C")


def _weights(service: "Service") -> str:
    """What runs behind the models, as far as one line can say it."""
    from outcrop.catalog.catalog import effective_weights

    rows, choices = service.rooms.catalog.rows, service.rooms.store.models
    own = sum(not effective_weights(row, choices).startswith("bundled:") for row in rows)
    if not own:
        return "the bundled base stands in for every model until `outcrop models use` names others"
    return f"{own} of {len(rows)} models run weights of your choice, the others the bundled base: `outcrop models list`"
