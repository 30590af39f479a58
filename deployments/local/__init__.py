"""The local stack: a Prefect server, MLflow, a worker and a watcher on this machine.

- `stack`: start and stop all of it.
- `servers`: the two servers, ready when they answer.
- `services`: work pools, deployments, workers and the watcher of a project.
- `prefect_server`: Prefect's server, with write transactions that begin as such on SQLite.
- `home`: the folder that holds databases, ports and the lock of the stack.
"""
