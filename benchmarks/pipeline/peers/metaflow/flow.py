"""The flights as a Metaflow flow: each step is a process, and what it keeps on `self` an artifact.

python flow.py run
"""

# ruff: noqa: TID251 - MLflow as its documentation shows it

from __future__ import annotations

from metaflow import FlowSpec, step


class FlightsFlow(FlowSpec):
    """Check, train, judge and promote a model of late flights."""

    @step
    def start(self) -> None:
        """Read and check the rows, and open the run that all steps log to."""
        import mlflow
        import pandas as pd
        import work

        mlflow.set_experiment(work.EXPERIMENT)
        with mlflow.start_run() as run:
            self.mlflow_run_id = run.info.run_id
            mlflow.log_params(work.SETTINGS)
        rows = pd.read_parquet(work.TABLE)
        work.check_rows(rows)
        self.prepared = work.prepare_rows(rows)
        self.next(self.train, self.compare)

    @step
    def train(self) -> None:
        """Fit and register."""
        import mlflow
        import work

        train, self.test = work.split_rows(self.prepared)
        self.model = work.fit_model(train, work.SETTINGS)
        with mlflow.start_run(run_id=self.mlflow_run_id):
            self.version = work.log_model(self.model, train)
        self.next(self.evaluate)

    @step
    def evaluate(self) -> None:
        """Measure, and promote what may replace the champion."""
        import mlflow
        import work

        self.scores = work.score_model(self.model, self.test)
        with mlflow.start_run(run_id=self.mlflow_run_id):
            mlflow.log_metrics(self.scores)
        if not work.judge(self.scores, work.score_model(work.load_champion(), self.test)):
            raise ValueError("refused: worse than the champion")
        work.promote(self.version)
        self.next(self.join)

    @step
    def compare(self) -> None:
        """Draw Evidently's page, beside the training."""
        import mlflow
        import work

        work.compare_rows(self.prepared).save_html(work.PAGE)
        with mlflow.start_run(run_id=self.mlflow_run_id):
            mlflow.log_artifact(work.PAGE)
        self.next(self.join)

    @step
    def join(self, inputs: object) -> None:
        """Wait for both branches."""
        self.scores = inputs.evaluate.scores
        self.next(self.end)

    @step
    def end(self) -> None:
        """Say what came out."""
        print(self.scores)


if __name__ == "__main__":
    FlightsFlow()
