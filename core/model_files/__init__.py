"""Model files: loading them as untrusted input, comparing their contents, and the smoke test before promotion.

- ``loading``: the safe loader: a downloaded model folder is read by skops, with the site's trusted types only
- ``trusted_types``: the reviewed list of types that a model file may name
- ``contents``: digests of everything a skops file holds, equal for two dumps of one model
- ``smoke_test``: rows kept at training with their predictions, predicted again and compared; time and memory measured
- ``isolated``: the smoke test in a process of its own, with a clean environment and a timeout
"""

__all__ = [
    "contents",
    "isolated",
    "loading",
    "smoke_test",
    "trusted_types",
]
