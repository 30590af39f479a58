"""The work as a plain script, the measure of what an orchestrator adds."""

# ruff: noqa: TID251 - MLflow as its documentation shows it

from __future__ import annotations

import mlflow
import pandas as pd
import work


def main() -> None:
    """Check, train, log, judge, promote, draw."""
    mlflow.set_experiment(work.EXPERIMENT)
    rows = pd.read_parquet(work.TABLE)
    work.check_rows(rows)
    prepared = work.prepare_rows(rows)
    train, test = work.split_rows(prepared)
    with mlflow.start_run():
        mlflow.log_params(work.SETTINGS)
        model = work.fit_model(train, work.SETTINGS)
        version = work.log_model(model, train)
        scores = work.score_model(model, test)
        mlflow.log_metrics(scores)
        if not work.judge(scores, work.score_model(work.load_champion(), test)):
            raise SystemExit("refused: worse than the champion")
        work.promote(version)
        work.compare_rows(prepared).save_html(work.PAGE)
        mlflow.log_artifact(work.PAGE)


if __name__ == "__main__":
    main()
