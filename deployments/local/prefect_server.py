"""Prefect's server as the local stack starts it: on SQLite a transaction takes the right to write when it begins.

    python -m prefect_mlops.deployments.local.prefect_server start --host 127.0.0.1 --port 4200

Prefect lets a transaction begin as a reading one. Where another one commits before it writes, SQLite refuses it at
once: the client is told 503 and comes back two seconds later. Worse, the refused cursor is left to Python's garbage
collector. When that takes it down on the event loop's thread while its connection waits for the write lock in another,
the loop waits for the connection, the connection for whoever holds the lock, and that one for the loop, until SQLite
gives up after a minute. With three flow runs at a time the first happened every few runs, the second every few dozen.
Transactions that take turns from their beginning are not refused.

Source: https://www.sqlite.org/isolation.html and https://www.sqlite.org/lang_transaction.html, "immediate".
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any


def begin_by_writing() -> None:
    """Let transactions of Prefect's server on SQLite begin immediately, in this process."""
    from prefect.server.database.configurations import SQLITE_BEGIN_MODE, AioSqliteConfiguration

    as_ever = AioSqliteConfiguration.begin_transaction

    @asynccontextmanager
    async def begin_transaction(
        self: AioSqliteConfiguration, session: Any, with_for_update: bool = False
    ) -> AsyncGenerator[Any, None]:
        outermost = SQLITE_BEGIN_MODE.get() is None
        async with as_ever(self, session, with_for_update=with_for_update or outermost) as transaction:
            if outermost:
                await session.connection()  # begins now, and not with the first statement
                SQLITE_BEGIN_MODE.set("DEFERRED")  # for another session inside of this one, which would wait for it
            yield transaction

    AioSqliteConfiguration.begin_transaction = begin_transaction  # type: ignore[method-assign]


def main() -> None:
    """Run ``prefect server`` with the arguments of the command line."""
    from prefect.cli import app

    begin_by_writing()
    sys.argv[1:1] = ["server"]
    app()


if __name__ == "__main__":
    main()
