"""A port that stays a test's own while nobody listens on it: for servers that are killed and come back.

Without it the kernel may give the port to anybody meanwhile, even to a client of that very server as the near end of a
connection.
"""

import socket


class KeptPort:
    """A port of 127.0.0.1 of the kernel's choice; whoever is told its number can bind it, as often as needed."""

    def __init__(self) -> None:
        # Bound for good and never listening: connections are refused while nobody else does.
        self._guard = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._guard.bind(("127.0.0.1", 0))
        # Only now: a shared port is not what the kernel shall choose.
        self._guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.number = int(self._guard.getsockname()[1])

    def release(self) -> None:
        """Let it go."""
        self._guard.close()
