"""The ground floor: values, errors, settings, the lake, digests and statistics. Knows no Prefect task and no MLflow."""
