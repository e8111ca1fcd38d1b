"""Keys, roles and policies: who may call, as the store keeps it. Knows tables and verbs; decides nothing."""

from outcrop.store.database import Database


class AccessStore:
    """The verbs of keys, roles and policies over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
