"""Settings of the project: Kedro's defaults, without a second environment."""

CONFIG_LOADER_ARGS = {"base_env": "base", "default_run_env": "base"}
