"""What good data means: checking a table, learning a suite from good data, splitting bad rows off."""

from prefect_mlops.data_checks.inference import infer_suite
from prefect_mlops.data_checks.rows import split_bad_rows
from prefect_mlops.data_checks.suites import check_table

__all__ = ["check_table", "infer_suite", "split_bad_rows"]
