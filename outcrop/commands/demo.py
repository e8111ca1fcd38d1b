"""outcrop demo: the documented flow, live on the terminal."""

from rich.console import Console

from outcrop.commands.options import Data, settings_from
from outcrop.directory import DataDirectory


def demo(data: Data = None) -> None:
    """Run the documented flow end to end: dataset, fine-tuning, throughput, base against custom."""
    from outcrop.demo.run import run

    settings = settings_from(data=data)
    run(DataDirectory(settings.data.absolute()), Console())
