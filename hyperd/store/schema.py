"""The database's shape, as the list of steps that lead to it. A step, once released, never changes; new ones are appended."""

import sqlite3

from hyperd.errors import UnavailableError

# Records are JSON (msgspec), beside the few columns that are looked for or must be unique.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE pods (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        record BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE containers (
        id TEXT PRIMARY KEY,
        pod TEXT NOT NULL REFERENCES pods (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        record BLOB NOT NULL,
        UNIQUE (pod, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE execs (
        id TEXT PRIMARY KEY,
        pod TEXT NOT NULL REFERENCES pods (id) ON DELETE CASCADE,
        container TEXT NOT NULL,
        record BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX execs_container ON execs (container);
    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        time REAL NOT NULL,
        record BLOB NOT NULL
    ) STRICT;
    CREATE INDEX events_time ON events (time);
    """,
    # Records of pods and execs are sealed from here on, as hyperd.store.sealing does it to those that there are: the shape stays.
    "",
)


def migrate(connection: sqlite3.Connection) -> None:
    """Brings a database of any earlier version, or an empty one, to this one's shape: all of a step or nothing.

    :raise UnavailableError: it was written by a later version
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise UnavailableError(
            f"the database has version {version}, this hyperd knows {len(MIGRATIONS)}", hint="it was used by a later hyperd"
        )
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")
