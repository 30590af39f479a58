"""The work pool type ``warm-process``: flow runs are forked from a process that has imported the libraries already.

- `worker`: the worker, a subclass of Prefect's process worker
- `pool`: what can be set for the pool and for each deployment
- `starter`: starts a flow run in a forked process, for Prefect's executor
- `client`: the worker's side of the fork servers
- `server`: the process that imports and forks
- `run`: what a forked process does to become a flow run
- `import_inputs`: the variables and files that the result of an import depends on
- `internals`: the private names of Prefect that this package and the local server use, and their fallbacks
"""

__all__ = ["client", "import_inputs", "internals", "pool", "run", "server", "starter", "worker"]
