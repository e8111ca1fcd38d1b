"""outcrop demo: the documented flow, live on the terminal."""

from rich.console import Console

from outcrop.commands.options import Data, settings_from
from outcrop.directory import DataDirectory


def demo(data: Data = None) -> None:
    """Run the documented flow end to end: dataset, fine-tuning, throughput, base against custom.

    Asks the server that runs on the data directory; where none does it runs one of its own meanwhile.

    Leaves every number of the run in demo/report.json of the data directory, and the loss curve in demo/loss.png.
    """
    from outcrop.demo.run import run

    settings = settings_from(data=data)
    run(DataDirectory(settings.data.absolute()), Console())
