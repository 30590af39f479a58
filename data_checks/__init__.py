"""Data checks: checking a table, inferring a suite from good data, splitting bad rows off.

- ``suites``: `check_table`: a table against a Great Expectations suite, as a report
- ``inference``: `infer_suite`: a suite inferred from data that is known to be good
- ``rows``: `split_bad_rows`: rows that fail a suite, apart from those that pass
- ``engine``: running expectations on a frame with Great Expectations, without a data context
- ``chunks``: running expectations on a table that is read in chunks
- ``scopes``: what an expectation needs: single rows, column names, one aggregate, or whole columns
- ``figures``: aggregates of a column (mean, sum, minimum, distinct values) merged over chunks
- ``together``: running expectations on many small tables at once
- ``wording``: names, expected and observed values of checks, in words
"""

from prefect_mlops.data_checks.inference import infer_suite
from prefect_mlops.data_checks.rows import CheckedRows, split_bad_rows
from prefect_mlops.data_checks.suites import check_table

__all__ = ["CheckedRows", "check_table", "infer_suite", "split_bad_rows"]
