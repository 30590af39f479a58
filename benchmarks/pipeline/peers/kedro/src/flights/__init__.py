"""The flights as a Kedro project."""
