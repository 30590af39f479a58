"""Announce files that arrive in a landing zone, as events on the Prefect server.

- ``addresses``: landing addresses of datasets, looked up in a separate process
- ``watcher``: watch folders and list buckets for new and changed files
- ``announcements``: batch files into events, and retry until the server has accepted them
"""

__all__ = ["addresses", "announcements", "watcher"]
