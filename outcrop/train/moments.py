"""The moments of a run: what of the parameters, the optimizer and the random numbers is kept, while the run goes on.

Knows torch's optimizer and checkpoints; nothing of steps, losses or of what else a run's state holds.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Self

import torch
from torch import Tensor, nn

from outcrop.train.checkpoint import Checkpoints

Emit = Callable[..., None]
"""emit(kind, **members), as Events.emit."""


class Moments:
    """What keeps a run's moments while it goes on, and tells of each once it is on disk.

    A full disk does not end a run: it goes on, and the next checkpoint may find room again.
    """

    def __init__(
        self, checkpoints: Checkpoints, parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, emit: Emit
    ) -> None:
        self._checkpoints, self._parameters, self._optimizer, self._emit = checkpoints, parameters, optimizer, emit
        self._pending: tuple[int, Future[None]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.settle()

    def begin(self, step: int, state: Mapping[str, Any]) -> None:
        """Write the moment before this step; the disk takes it in while training goes on."""
        self.settle()
        try:
            future = self._checkpoints.begin(step, self._tensors(), state)
        except OSError as error:
            self._warn(step, error)
            return
        if future is None:
            self._emit("checkpoint", step=step)
        else:
            self._pending = step, future

    def look(self) -> None:
        """Tell of a moment that came to rest meanwhile."""
        if self._pending is not None and self._pending[1].done():
            self.settle()

    def settle(self) -> None:
        """Wait for the moment that is under way, if there is one, and tell of it."""
        if self._pending is None:
            return
        (step, future), self._pending = self._pending, None
        try:
            future.result()
        except OSError as error:
            self._warn(step, error)
            return
        self._emit("checkpoint", step=step)

    def _warn(self, step: int, error: OSError) -> None:
        self._emit("log", level="warning", message=f"no checkpoint at step {step}: {error}")

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"parameter.{index}": parameter.detach() for index, parameter in enumerate(self._parameters)}
        for index, entry in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in entry.items()}
        tensors["rng.cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["rng.cuda"] = torch.cuda.get_rng_state()
        return tensors
