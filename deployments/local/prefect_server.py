"""Prefect's server as the local stack starts it: on SQLite a transaction takes the right to write when it begins.

    python -m prefect_mlops.deployments.local.prefect_server start --host 127.0.0.1 --port 4200

Prefect lets a transaction begin as a reading one. Where another one commits before it writes, SQLite refuses it at
once: the client gets 503 and repeats the request two seconds later. Worse, the refused cursor is left to Python's
garbage collector. When that closes it on the event loop's thread while its connection waits for the write lock in
another thread, there is a deadlock: the loop waits for the connection, the connection for the holder of the lock, and
the holder for the loop, until SQLite gives up after a minute. With three flow runs at a time the refusal happened every
few runs, the deadlock every few dozen. Transactions that take the write lock at their beginning are not refused.

This replaces a private method of Prefect. Where it is missing, or is called in another way, the server runs as
Prefect's own, and the log says so (`fork_worker.internals`, TURNS).

Source: https://www.sqlite.org/isolation.html and https://www.sqlite.org/lang_transaction.html, "immediate".
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from prefect_mlops.deployments.fork_worker.internals import TURNS, missing


def begin_by_writing() -> None:
    """Let transactions of Prefect's server on SQLite begin immediately in this process, or log why they cannot."""
    if lack := missing(TURNS):
        from prefect.logging import get_logger

        get_logger("prefect_mlops").warning(lack)
        return
    from prefect.server.database.configurations import SQLITE_BEGIN_MODE, AioSqliteConfiguration

    stock = AioSqliteConfiguration.begin_transaction

    @asynccontextmanager
    async def begin_transaction(
        self: AioSqliteConfiguration, session: Any, with_for_update: bool = False
    ) -> AsyncGenerator[Any, None]:
        outermost = SQLITE_BEGIN_MODE.get() is None
        async with stock(self, session, with_for_update=with_for_update or outermost) as transaction:
            if outermost:
                await session.connection()  # begins now, and not with the first statement
                SQLITE_BEGIN_MODE.set("DEFERRED")  # a session inside of this one would wait for it
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
