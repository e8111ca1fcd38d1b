"""A server with nothing but the job loop: python -m tests.jobs.server DIR, over DIR/outcrop.db, until it is killed."""

import sys
import time
from pathlib import Path

from outcrop.store.database import Database
from outcrop.store.store import Store
from tests.jobs.world import World

if __name__ == "__main__":
    root = Path(sys.argv[1])
    world = World(root, Store.over(Database(f"sqlite:///{root}/outcrop.db")))
    world.server().start()
    while True:
        time.sleep(60)
