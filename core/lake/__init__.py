"""The lake: Delta tables that hold accepted rows, refused rows, and a ledger of every file that arrived.

- ``commits``: opening Delta tables, and commits with optimistic concurrency: the expected next version, or a retry
- ``ingest``: committing files, each content version exactly once (idempotent)
- ``rows``: rows in the shape a dataset and its quarantine keep them; fitting columns and types
- ``ledger``: one line for each content version of each file: state, counts, reason
- ``versions``: data versions, and the range of them that a person asks for
- ``landing``: the landing zone, in a folder or a bucket: listing files, looking up one, reading one
- ``completeness``: which files of the landing zone are complete: settle time, marker, manifest
- ``pending``: files that arrived and have not been ingested
- ``quarantine``: rows and files that were refused and have not come in since
- ``replay``: rows that leave quarantine for the dataset after the suite was corrected
- ``restore``: rows of quarantine, from JSON back to the columns and types of a dataset
- ``compaction``: small files merged to larger ones, and files deleted that no version in use needs
"""

__all__ = [
    "commits",
    "compaction",
    "completeness",
    "ingest",
    "landing",
    "ledger",
    "pending",
    "quarantine",
    "replay",
    "restore",
    "rows",
    "versions",
]
