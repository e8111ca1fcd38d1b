"""Keys, roles and managed policies as one value: who may call, as the store keeps it. Decides nothing."""

from outcrop.store.database import Database
from outcrop.store.keys import KeyStore
from outcrop.store.policies import PolicyStore
from outcrop.store.roles import RoleStore


class AccessStore:
    """The verbs of keys, roles and policies over one database."""

    def __init__(self, database: Database) -> None:
        self.keys = KeyStore(database)
        self.roles = RoleStore(database)
        self.policies = PolicyStore(database)
