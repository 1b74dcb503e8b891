"""Which records are sealed, and what becomes of those that an earlier hyperd wrote in clear."""

import sqlite3
from collections.abc import Iterator

from hyperd.sealing import Seal, is_sealed

TABLES = ("pods", "execs")


def purpose(table: str, identity: str) -> str:
    """What a record is sealed for: its row, and no other."""
    return f"hyperd {table} {identity}"


def opened(connection: sqlite3.Connection, seal: Seal, table: str) -> Iterator[bytes]:
    """The records of a table.

    :raise UnavailableError: the key is missing or another
    """
    for identity, record in connection.execute(f"SELECT id, record FROM {table}"):
        yield seal.open(record, purpose(table, identity))


def seal_all(connection: sqlite3.Connection, seal: Seal) -> None:
    """Seals what is not; in one step, and nothing of it stays readable in the file.

    :raise UnavailableError: the key cannot be had
    """
    clear: list[tuple[str, str, bytes]] = []
    some_sealed = False
    for table in TABLES:
        for identity, record in connection.execute(f"SELECT id, record FROM {table}"):
            if is_sealed(record):
                some_sealed = True
            else:
                clear.append((table, identity, record))
    if not some_sealed:
        seal.make()  # else there was one, and a new one would open nothing
    if not clear:
        return
    connection.execute("PRAGMA secure_delete = ON")
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for table, identity, record in clear:
            sealed = seal.close(record, purpose(table, identity))
            connection.execute(f"UPDATE {table} SET record = ? WHERE id = ?", (sealed, identity))
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
