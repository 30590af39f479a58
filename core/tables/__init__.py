"""Reading tables from files, folders, Delta tables and databases, whole or in chunks, and digests over their cells.

- ``read``: from an address to a frame with its source; references to tables (`TableRef`) and their checks
- ``formats``: one reader for each format: CSV, JSON lines, Parquet, Delta, SQL
- ``arrow``: opening Parquet files and Delta tables with pyarrow and deltalake
- ``chunks``: reading a table in chunks, so that memory does not grow with its rows
- ``errors``: errors of pandas, Arrow, deltalake and SQLAlchemy translated to ours, secrets masked
- ``digests``: a digest over every typed cell, whatever the storage format
- ``ordering``: whether a column can be put in order of time
- ``columns``: kind, values and missing values of one column, as the drift statistics read them
"""

__all__ = ["arrow", "chunks", "columns", "digests", "errors", "formats", "ordering", "read"]
