"""Train a model version again from its records, and compare the result with the registered model.

- `diff`: compare data, code, environment, seed, hardware, predictions and content with what was recorded.
- `recorded_run`: a version's model file, its tags, and the artifacts that are downloaded to compare.
- `reproduce`: the whole reproduction, from the name of a version to the result.
- `worktrees`: the code of a commit, checked out into a temporary git worktree.
- `_retrain`: the program that trains again, run as a process of its own in that worktree.
"""

__all__ = ["diff", "recorded_run", "reproduce", "worktrees"]
