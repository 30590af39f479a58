"""MLflow as plain functions: an explicit client, explicit run ids, no Prefect.

- `anchors`: hashes of history entries, noted on model versions, so that a rewritten history is detected.
- `candidates`: log a candidate: model, scores, parameters, reports, lineage.
- `cards`: the model card as files of a run.
- `client`: the client, MLflow's failures as our errors, files of versions and runs.
- `decisions`: decisions on versions: find one by its recipe, record one.
- `drift_pages`: the page of a drift report as an artifact of a run.
- `records`: everything MLflow and the lake's ledger keep of a run, as the fields of a trace.
- `registry`: find, load, register, promote and roll back versions; let the alias follow the history.
- `run_tags`: the tags of a run, read back as values.
- `runs`: one parent run for each flow run, one child for each candidate.
- `smoke_test`: the smoke test of a registered version.
- `traces`: where a version comes from: run, data, code, decisions.
- `training_profiles`: the training profile of a version: kept, found again.
- `trials`: the trials of a search, one run each.
"""

__all__ = [
    "anchors",
    "candidates",
    "cards",
    "client",
    "decisions",
    "drift_pages",
    "records",
    "registry",
    "run_tags",
    "runs",
    "smoke_test",
    "traces",
    "training_profiles",
    "trials",
]
