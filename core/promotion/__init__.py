"""Promotion: the history of a model, and every decision about its champion.

- ``history``: entries of a model's history, in a Delta table, appended with optimistic concurrency (compare-and-swap)
- ``guards``: what prevents a training from starting: the training lock, the cool-down, the circuit breaker
- ``lock``: the training lock: acquire it, write the decision while it is held, release it after a failure
- ``decisions``: rollbacks, approvals, and the MLflow alias compared with the history
- ``periods``: champion periods: which version was champion from when to when
- ``status``: the present state of a model, and what a person can do about it
- ``tampering``: checks of the hash chain, the anchors in MLflow and the Delta log for changes made outside
"""

__all__ = [
    "decisions",
    "guards",
    "history",
    "lock",
    "periods",
    "status",
    "tampering",
]
