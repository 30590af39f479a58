"""Names under which MLflow keeps what is ours: tags of runs and of model versions, artifact paths, one metric.

Every name is stored, in registries that exist: a changed one cannot find what was written before. Each line says what
the name holds and who writes it. Names that begin with ``mlflow.`` or ``prefect.`` are theirs; ours are found beside
them.
"""

from __future__ import annotations

from collections.abc import Mapping

# Tags of a candidate's run.
CANDIDATE = "prefect_mlops.candidate"  # key a retry finds the run by; `tracking.runs.open_child`
DATA = "prefect_mlops.data"  # digest of the training rows, also on the model version; `log_run`, `register_model`
DATA_ROWS = "prefect_mlops.data.rows"  # number of training rows; `log_run`
DATA_SOURCE = "prefect_mlops.data.source"  # `TableRef` the rows were read from, as JSON without columns; `log_run`
SEED = "prefect_mlops.seed"  # seed of split and training; `log_run`
LOCK = "prefect_mlops.lock"  # digest of the lock file; `log_run`, where there is one
GIT_DIRTY = "prefect_mlops.git.dirty"  # "true" where tracked files differ from the commit; `log_run`
ENVIRONMENT = "prefect_mlops.environment."  # prefix, then a name of `lineage.environment.environment`; `log_run`
SPEC = "prefect_mlops.spec"  # dotted name of the ModelSpec; flows `train` and `backfill`
SPEC_DIGEST = "prefect_mlops.spec.digest"  # digest of the spec's training part; flows `train` and `backfill`
REFIT_OF = "prefect_mlops.refit_of"  # version that was judged, where this one is its recipe fitted on all rows
OWN_FLOW = "prefect_mlops.flow"  # a flow of one's own that trained it
TUNED = "prefect_mlops.tuned"  # parameters a search found, as JSON; flows `train` and `backfill`
TUNED_RUN = "prefect_mlops.tuned.run"  # id of the parent run of that search; flows `train` and `backfill`
BACKFILL = "prefect_mlops.backfill"  # "@" and the data version trained on; flow `backfill`
GIT_COMMIT = "mlflow.source.git.commit"  # full hash of the commit; `log_run`
FLOW_RUN_URL = "prefect.flow_run_url"  # page of the Prefect run; `log_run`, `tune_model`

# Tags of the parent run of a flow run, and of its children.
FLOW_RUN = "prefect.flow_run_id"  # id of the Prefect run, on the parent only; `tracking.runs.open_parent`
PARENT = "mlflow.parentRunId"  # id of the parent run, on a child; `log_run`, `tune_model`

# Tags of the runs of a search; all by `tune_model`.
SEARCH = "prefect_mlops.search"  # key of the search
SEARCH_TRIAL = "prefect_mlops.search.trial"  # number of the trial, from 0
SEARCH_PARAMS = "prefect_mlops.search.params"  # parameters, as JSON: MLflow's own parameters are all text
SEARCH_REASON = "prefect_mlops.search.reason"  # why the trial failed
SEARCH_FLOW_RUN = "prefect_mlops.search.flow_run"  # id of the Prefect run; `FLOW_RUN` would make the run a parent

# Tags of a model version.
DECISION = "prefect_mlops.decision"  # `Decision` as JSON; `record_decision`
RECIPE = "prefect_mlops.recipe"  # digest of what the decision rests on; `record_decision`
HISTORY = "prefect_mlops.history."  # prefix, then the number of a history entry; its hash; `tracking.anchors`

# Artifacts of a candidate's run.
LINEAGE_FOLDER = "lineage"
LINEAGE_DATA = "lineage/data.json"  # `Lineage` of the training rows; `log_run`
PACKAGES = "lineage/packages.txt"  # installed distributions, a ``name==version`` line each; `log_run`
UNCOMMITTED_DIFF = "lineage/uncommitted.diff"  # difference to the commit, only where there is one; `log_run`
SMOKE_TEST_FOLDER = "rehearsal"
SMOKE_TEST_ROWS = "rehearsal/rows.parquet"  # up to 200 rows of features; `log_run`
SMOKE_TEST_PREDICTIONS = "rehearsal/predictions.npz"  # what the model predicted for them at training; `log_run`
REPORTS_FOLDER = "reports"  # a report of each kind, as JSON and markdown; `log_run`, `record_decision`
TRAINING_PROFILE_FOLDER = "reference"
TRAINING_PROFILE = "reference/profile.json.gz"  # profile of the training rows; `save_training_profile`
TRAINING_SAMPLE = "reference/sample.parquet"  # sample of the training rows; `save_training_profile`
DRIFT_FOLDER = "drift"  # the page Evidently draws; `detect_drift`
CARD_MARKDOWN = "card.md"  # model card; this and the next two by `write_card`
CARD_HTML = "card.html"
CARD_JSON = "card.json"

# Metrics of a candidate's run that are no score.
EVALUATED_ROWS = "evaluated_rows"  # number of test rows the scores are of; `log_run`


def environment_tag(name: str) -> str:
    """Return the tag of a fact about the environment."""
    return f"{ENVIRONMENT}{name}"


def environment_facts(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the facts about the environment that a run's tags hold, by name: the inverse of `environment_tag`."""
    return {tag.removeprefix(ENVIRONMENT): value for tag, value in tags.items() if tag.startswith(ENVIRONMENT)}


def history_tag(sequence: int) -> str:
    """Return the tag that holds the hash of a history entry."""
    return f"{HISTORY}{sequence}"


def history_hashes(tags: Mapping[str, str]) -> dict[int, str]:
    """Return the hashes of history entries that a version's tags hold, by number: the inverse of `history_tag`."""
    found = {tag.removeprefix(HISTORY): value for tag, value in tags.items() if tag.startswith(HISTORY)}
    return {int(number): value for number, value in found.items() if number.isdecimal()}
