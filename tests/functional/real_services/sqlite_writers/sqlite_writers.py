# SPDX-License-Identifier: Apache-2.0
"""A SQLAlchemy plugin that lets several services write to one SQLite database.

oslo.db opens every transaction with a plain BEGIN. One that reads first and
then writes while another process writes cannot be given the lock, and SQLite
says "database is locked" at once, however long the timeout is. Here a
transaction takes its lock before its first write and no lock for its reads, so
that writers wait for each other.
"""

from typing import Any

from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.engine import CreateEnginePlugin


class Writers(CreateEnginePlugin):
    """Chosen with ``?plugin=writers`` in a database's URL."""

    def update_url(self, url: URL) -> URL:
        """Leave the URL as it is: SQLAlchemy has taken its own parts out."""
        return url

    def engine_created(self, engine: Engine) -> None:
        """Take over from oslo.db, whose listeners are added later."""
        event.listen(engine, "begin", _begin)


def _begin(connection: Connection) -> None:
    # What oslo.db notes when it has sent BEGIN, and looks for before it does.
    connection.info["in_transaction"] = True
    driver: Any = connection.connection.dbapi_connection
    driver.isolation_level = "IMMEDIATE"
