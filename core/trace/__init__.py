"""The trace of a model version: the code, data, parameters and decisions it came from.

- ``comparison``: the differences between two traces
- ``traces``: the values of a trace
- ``tree``: a trace or a comparison as a tree of lines
"""

__all__ = [
    "comparison",
    "traces",
    "tree",
]
