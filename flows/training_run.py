"""A training from the data to the decision, a method for each stage: what the ready flow ``train`` is made of.

A flow of one's own opens a `TrainingRun`, calls the same stages, and replaces one or adds a step between them. Lock,
history, summary and what happens when another version becomes champion meanwhile are the run's business.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from prefect.futures import PrefectFuture
from prefect.utilities.urls import url_for

from prefect_mlops.core import tags as mlflow_tags
from prefect_mlops.core.addresses import table_uri
from prefect_mlops.core.errors import ConfigError, ConflictError, MLOpsError
from prefect_mlops.core.lake.commits import open_table
from prefect_mlops.core.lineage.environment import covers_loaded_code
from prefect_mlops.core.lineage.training_data import lineage_of
from prefect_mlops.core.model_files.smoke_test import MAX_ROWS
from prefect_mlops.core.promotion.guards import breaker, find_guard, held_lock
from prefect_mlops.core.promotion.history import Entry, champion_entry, read_history
from prefect_mlops.core.promotion.lock import decision_of, freed_sentence, give_up
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.specs.model import ModelSpec, is_address, load_spec
from prefect_mlops.core.text import one_line
from prefect_mlops.core.values import Decision, Evaluation, LoadedModel, LoggedRun, ModelVersion
from prefect_mlops.flows.decision_summary import describe_decision, describe_guard, describe_no_data
from prefect_mlops.flows.judging import judge_on, reason_of, split_alike
from prefect_mlops.flows.refit import refit_champion
from prefect_mlops.flows.run_fingerprint import (
    RunFingerprint,
    decided_before,
    decided_by_older_release,
    digest_of,
    fingerprint_of,
    noted,
    own_steps,
    trained_before,
)
from prefect_mlops.flows.run_summary import RunSummary, summarise_run
from prefect_mlops.flows.training_data import Splitter, TrainingData, prepare_training_data
from prefect_mlops.tasks import (
    check_leakage,
    emit_event,
    evaluate_model,
    find_model,
    load_model,
    log_run,
    measure_model,
    promote_model,
    register_model,
    save_training_profile,
    smoke_test_model,
    train_model,
    tune_model,
    write_card,
)
from prefect_mlops.tasks.flow_context import caller, code_of_run, flow_run_id
from prefect_mlops.tasks.loop import (
    emit_stop_event,
    find_decision,
    free_training_lock,
    note_entry,
    open_breaker,
    record_decision,
    refuse_model,
    repair_alias,
    request_approval,
    take_training_lock,
)

if TYPE_CHECKING:
    import pandas as pd

    from prefect_mlops.core.cards.card import Measurements
    from prefect_mlops.core.values import Split
    from prefect_mlops.tasks.tuning import Tuned

DECIDED = "The same recipe was decided on the same rows before"
IS_CHAMPION = "The champion came of this training: gates, limits, approval and checks that changed count for the next"

T = TypeVar("T")
OwnCheck: TypeAlias = "Callable[[TrainingRun], Check | Report]"


class TrainingRun:
    """One training of a model: its data, its challenger, and the decision on it; stays inside the process.

    The stages are called in this order, inside of the block; each may be replaced by a step of one's own:

    - `load`: read, check and split the rows, take the training lock; False where there is nothing to do.
    - `train`: fit the challenger; or set ``challenger`` to an estimator you have fitted.
    - `judge`: compare it with the champion, and ask the checks of the spec; `check` asks one of your own.
    - `register`: make it a version in the registry.
    - `smoke_test`: try the version in a clean process.
    - `conclude`: promote it, request approval or refuse it, and record why.

    What a flow of one's own decides is kept apart from what others decide, by the flow's name and code.

    Args:
        spec: ModelSpec, or its dotted name; a version can be reproduced only with a name.
        data: empty takes the spec's dataset as it is now, ``@3`` its version 3; or the address of any table like it.
        dry_run: train and judge, and write nothing: `register` and `smoke_test` do nothing.
        force: decide again what was decided before, on a model that is trained again.
        automatic: honour the cool-down and the circuit breaker of the spec's retrain.
        trial: train, judge and register beside the history: no lock, and no decision; the flow writes the summary.

    Attributes:
        spec: the recipe.
        summary: of the run, published when the block ends; add sentences with ``summary.say``.
        challenger: the fitted estimator, there after `train`; one that is set is judged in its place.
        scores: the challenger's, on the test rows; there after `train`.
        champion: the live model it was judged against; None where there is none.
        gate: report of the gates and all other checks; there after `judge`.
        decision: what was decided; None before `conclude`, or before `load` found that nothing is to be done.
    """

    def __init__(
        self,
        spec: ModelSpec | str,
        data: str = "",
        *,
        dry_run: bool = False,
        force: bool = False,
        automatic: bool = False,
        trial: bool = False,
    ) -> None:
        self.spec = load_spec(spec) if isinstance(spec, str) else spec
        self.data, self.force, self.automatic, self.dry_run = data, force, automatic, dry_run
        self.champion: LoadedModel | None = None
        self.decision: Decision | None = None
        self.lock: Entry | None = None
        self._spec_name = spec if isinstance(spec, str) else ""
        self._decides = not (dry_run or trial)
        self._own = own_steps()
        self._recipe = ""
        self._summary: RunSummary | None = None
        self._challenger: Any = None
        self._scores: Evaluation | None = None
        self._gate: Report | None = None
        self._leakage: Report | None = None
        self._loaded: TrainingData | None = None
        self._trained: LoadedModel | None = None  # where the same training was decided on before
        self._tuned: Tuned | None = None
        self._judge_by: Callable[[TrainingRun], Report] = judge_by_gates
        self._against: LoadedModel | Literal["champion"] | None = "champion"
        self._set_apart = False
        self._found: tuple[LoadedModel | None] | None = None  # the champion, where `load` has looked for it
        self._checks: list[OwnCheck] = list(self.spec.checks)
        self._registering: tuple[_Coming[LoggedRun], _Coming[ModelVersion]] | None = None  # waited for when asked
        self._smoke_test: PrefectFuture[Report] | None = None
        self._smoke_tested: Report | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> TrainingRun:
        flow = caller().flow_name
        if flow is None:
            raise ConfigError(f"{self.spec.name}: a TrainingRun needs a flow run: open it in a function with @flow")
        self._summary = self._stack.enter_context(summarise_run(flow, self.spec.name))
        self._stack.enter_context(self._unlocked())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    @contextlib.contextmanager
    def _unlocked(self) -> Iterator[None]:
        """Free the training lock where the block is left without a decision, and record the reason.

        A killed process writes nothing; then the lock expires. Every other end is written with the decision.
        """
        try:
            yield
        except BaseException as error:
            self._give_up(str(error) if isinstance(error, MLOpsError) else f"{type(error).__name__}: {error}")
            raise
        if self.lock is not None and self.decision is None:
            forgotten = "the flow ended without a decision: it did not call conclude()"
            self._give_up(forgotten)
            raise ConfigError(f"{self.spec.name}: {forgotten}")

    def _give_up(self, reason: str) -> None:
        if self.lock is not None:
            with contextlib.suppress(Exception):  # the first error is the one to report
                give_up(self.lock, reason)

    @property
    def summary(self) -> RunSummary:
        """The summary of the run."""
        if self._summary is None:
            raise ConfigError(f"{self.spec.name}: open the run first: with TrainingRun(...) as run")
        return self._summary

    @property
    def challenger(self) -> Any:
        """The fitted estimator."""
        return self._there(self._challenger, "challenger", "train")

    @challenger.setter
    def challenger(self, estimator: Any) -> None:
        self.summary.reports[:] = [report for report in self.summary.reports if report is not self._gate]
        self._challenger, self._scores, self._gate = estimator, None, None
        self._trained = self._tuned = self._registering = self._smoke_test = self._smoke_tested = None

    @property
    def scores(self) -> Evaluation:
        """The challenger's scores on the test rows; computed when they are first asked for."""
        if self._scores is None:
            spec = self.spec
            self._scores = evaluate_model(
                self.challenger,
                self.test_rows.drop(columns=spec.target),
                self.split.y_test,
                metrics=spec.metrics,
                order_by=spec.order_by,
                group_by=spec.group_by,
                positive=spec.positive,
            )
        return self._scores

    @property
    def gate(self) -> Report:
        """The report of the gates and all other checks."""
        return self._there(self._gate, "report", "judge")

    @property
    def table(self) -> pd.DataFrame:
        """The prepared rows with all columns that were read, training rows first."""
        return self._data.table

    @property
    def split(self) -> Split:
        """Features and target of the training and the test rows."""
        return self._data.split

    @property
    def test_rows(self) -> pd.DataFrame:
        """The test rows, with all columns that were read."""
        return self._data.test_rows

    @property
    def training_rows(self) -> pd.DataFrame:
        """The training rows, with all columns that were read."""
        return self._data.training_rows

    @property
    def set_apart(self) -> bool:
        """Whether `judge` was called with it."""
        return self._set_apart

    @property
    def version(self) -> ModelVersion:
        """The challenger's version in the registry; waits until it is there."""
        return self._registered[1]

    @property
    def _data(self) -> TrainingData:
        if self.decision is not None and self._challenger is None:  # `load` has decided so
            raise ConfigError(
                f"{self.spec.name}: there is nothing to train ({self.decision.decision}): train only where load() "
                "returned True"
            )
        return self._there(self._loaded, "rows", "load")

    def _there(self, part: T | None, what: str, stage: str) -> T:
        if part is None:
            raise ConfigError(f"{self.spec.name}: the training run has no {what} yet: call {stage}() first")
        return part

    @property
    def _registered(self) -> tuple[LoggedRun, ModelVersion]:
        run, version = self._there(self._registering, "version", "register")
        return _come(run), _come(version)

    def load(self, *, split: Splitter | None = None) -> bool:
        """Read, check and split the rows, and take the training lock.

        The same recipe on the same rows is decided once. Where the dataset is one of the lake and all code is in a git
        repository, no row is read to know that.

        Args:
            split: ``f(table, spec) -> Split``, in place of the spec's own split.

        Returns:
            False where there is nothing to train: it was decided before, a retrain guard holds the training back, or
            no data has arrived yet. `decision` is there then, and the block can be left.

        Raises:
            ConfigError: the request is wrong.
            DataCheckError: the data does not meet the spec's suite.
            BackendError: MLflow or storage failed.
        """
        if not self._decides:
            self._loaded = self._prepared(self.data, split)
            return True
        entries = self._history()
        if self.automatic and self._held_back(entries):
            return False
        if repair := repair_alias(self.spec.name):
            self.summary.say(repair.sentence)
        known = fingerprint_of(self.spec, self.data, code_of_run(), own=self._own)
        if known and not self.force and (decided := decision_of(decided_before(entries, known))):
            return self._decided_before(decided, entries)
        at = f"@{known.version}" if known else self.data
        self._loaded = self._prepared(at, split)
        return self._lock(known, entries)

    def _prepared(self, data: str, split: Splitter | None) -> TrainingData:
        """Read and split the rows; where a hash decides on the sides, on those of the champion."""
        by_hash = split is None and not self.spec.order_by
        self._found = (find_model(self.spec.name),) if by_hash else None
        champion = self._found[0] if self._found else None
        return prepare_training_data(self.spec, data, self.summary, split=split, champion=champion)

    def train(self, estimator: Any = None) -> None:
        """Fit the challenger on the training rows, after a search for good parameters where the spec asks for one.

        A training that was decided on before is not repeated: after gates, limits, approval or checks changed, its
        version is loaded and judged anew.

        Args:
            estimator: unfitted, in place of the spec's.

        Raises:
            ConfigError: estimator and table do not go together.
            BackendError: MLflow failed, where a search keeps its trials.
        """
        if self._trained is not None and estimator is None:
            self._challenger = self._trained.estimator
            self.summary.say(f"v{self._trained.version.version} was trained before like this: it is judged anew.")
            return
        spec, split = self.spec, self.split
        tuned = self._search() if spec.tune and estimator is None else None
        if estimator is None:  # not `or`: the truth of an ensemble is its length
            estimator = tuned.applied_to(spec.estimator) if tuned else spec.estimator
        self.challenger = train_model(estimator, split.X_train, split.y_train, seed=spec.seed)
        self._tuned = tuned

    def judge(
        self,
        by: Callable[[TrainingRun], Report] | None = None,
        *,
        against: LoadedModel | Literal["champion"] | None = "champion",
        set_apart: bool = False,
    ) -> Report:
        """Judge the challenger against the champion: gates, then the checks of the spec; and look for target leakage.

        Args:
            by: ``f(run) -> Report``, in place of the gates; asked again when the champion changes meanwhile.
            against: another model than the champion; None for no model.
            set_apart: vouch that the test rows were set apart from the training of models whose lineage cannot tell:
                with a split of your own, or an estimator that `tasks.train_model` has not fitted.

        Returns:
            The report, with all checks; `conclude` promotes only where it passed. Signs of leakage are warnings.

        Raises:
            ConfigError: a check of one's own raised an error, or answered with something else than a check.
        """
        self._judge_by, self._against, self._set_apart = by or self._judge_by, against, set_apart
        return self._judge()

    def check(self, check: OwnCheck) -> Report:
        """Let a check of one's own have a say beside the gates.

        Args:
            check: ``f(run) -> Check | Report``; a failed check of severity ``error`` refuses the challenger.

        Returns:
            The report of the gates with it.

        Raises:
            ConfigError: the check raised an error, or answered with something else.
        """
        gate = self.gate
        self._checks.append(check)
        return self._show(_with(gate, self._asked(check)))

    def register(self, *, tags: dict[str, str] | None = None) -> None:
        """Log the challenger to MLflow, with its evidence, and make it a version in the registry.

        Most of this waits for a server, so it is submitted: `version` waits for it.

        Args:
            tags: more tags of the MLflow run.
        """
        if self.dry_run:
            return
        if self._trained is not None:
            made = self._trained.version
            logged = LoggedRun(run_id=made.run_id, experiment=self.spec.experiment, model_uri=made.model_uri)
            self._registering = logged, made
            return
        rows = self.split.X_test
        run = log_run.submit(
            self.challenger,
            self.scores,
            experiment=self.spec.experiment,
            example=rows.head(),
            smoke_test_rows=rows.head(MAX_ROWS),
            reports=tuple(self.summary.reports),
            tags={**self._facts(), **(tags or {})},
        )
        self._registering = run, register_model.submit(run, self.spec.name)

    def smoke_test(self) -> None:
        """Begin to try the version in a clean process, where it has passed so far; `conclude` waits for the answer."""
        gate = self.gate
        if gate.passed and self._smoke_test is None and not self.dry_run:
            _, version = self._there(self._registering, "version", "register")
            self._smoke_test = smoke_test_model.submit(version, self.spec.limits)

    def conclude(self) -> Decision:
        """Promote the challenger, request approval or refuse it; write its card, record why, emit the events.

        Where another version became champion meanwhile, the challenger is judged again, against that one.

        Returns:
            The decision. With ``dry_run`` and ``trial`` what it would have been: nothing of it is written.

        Raises:
            ConflictError: the run held the lock for too long and another run took it. Nothing was decided.
            BackendError: MLflow or storage failed.
        """
        if self.decision is not None:
            return self.decision
        gate = self.gate
        if not self._decides:
            self.decision = self._undecided(gate)
            return self.decision
        lock, measured = self._there(self.lock, "training lock", "load"), None
        while True:
            self.smoke_test()
            measured = measured or self._measure()  # while the smoke test runs
            self._finish_smoke_test(measured)
            self._write_card(measured)
            try:
                decision = self._carry_out(lock)
                break
            except ConflictError as lost:  # a rollback, an approval or a manual change came first; the lock is ours
                if not _still_held(lock):
                    raise
                self.summary.say(f"Judged again: {lost}.")
                self._judge()
        done = self._record(decision)
        self.decision = self._refit(done, measured) if self._refits(done) else done
        return self.decision

    # Before there are rows.

    def _history(self) -> list[Entry]:
        """Read the history, and free the lock where the run that holds it has ended."""
        entries = read_history(self.spec.name)
        held = held_lock(entries)
        if held is None or held.flow_run == flow_run_id():
            return entries
        freed = free_training_lock(self.spec.name)
        if freed is None:
            return entries
        self.summary.say(freed_sentence(freed))
        return read_history(self.spec.name)

    def _held_back(self, entries: Sequence[Entry]) -> bool:
        """Check, before anything is read, whether an automatic run has data and no guard holds it back."""
        spec, now = self.spec, datetime.now(timezone.utc)
        guard = find_guard(entries, spec.retrain, now, automatic=True, flow_run=flow_run_id())
        if guard is not None:
            self.decision = describe_guard(self.summary, spec.name, guard)
        elif not (self.data or is_address(spec.dataset)) and open_table(table_uri("datasets", spec.dataset)) is None:
            self.decision = describe_no_data(self.summary, spec.name, spec.dataset)
        return self.decision is not None

    def _lock(self, known: RunFingerprint | None, entries: Sequence[Entry]) -> bool:
        """Take the training lock, unless the same recipe was decided on the same rows."""
        spec, rows, own = self.spec, self._data.digest, self._own
        self._recipe = digest_of(spec.decision_digest, rows, own=own)
        training = digest_of(spec.training_digest, rows, own=own)
        recipe = "" if self.force else self._recipe
        decided, because = find_decision(spec.name, recipe) if recipe else None, DECIDED
        if decided is None and recipe and spec.decision_digest != spec.digest:
            decided = decision_of(decided_by_older_release(entries, digest_of(spec.digest, rows, own=own)))
        if decided is None and recipe and (version := trained_before(entries, training)):
            decided, because = self._reuse(version, entries), IS_CHAMPION
        if decided is not None:
            return self._decided_before(decided, entries, because)
        details = noted(known if known and covers_loaded_code() else None, recipe=self._recipe, training=training)
        taken = take_training_lock(spec.name, spec.retrain, automatic=self.automatic, recipe=recipe, details=details)
        if taken.guard is not None:
            self.decision = describe_guard(self.summary, spec.name, taken.guard)
            return False
        if taken.decided is not None:
            return self._decided_before(taken.decided, read_history(spec.name))
        self.lock = taken.lock
        return True

    def _reuse(self, version: int, entries: Sequence[Entry]) -> Decision | None:
        """Load the version that this training would give again; where that is the champion, return its decision."""
        champion = champion_entry(entries)
        made = [one for one in map(decision_of, entries) if one and champion and one.version == champion.version]
        if champion is not None and version in (champion.version, made[-1].refit_of if made else None):
            return made[-1] if made else None
        try:
            self._trained = load_model(self.spec.name, version=version)
        except ConfigError as error:  # it was deleted, or may not be loaded
            self.summary.say(f"v{version} was trained before like this, and is trained again: {error}.")
        return None

    def _decided_before(self, decision: Decision, entries: Sequence[Entry], because: str = DECIDED) -> Literal[False]:
        """Say what was decided before, and by which run.

        A person who starts the flow has seen the refusals, so the circuit breaker is closed.
        """
        name = self.spec.name
        if not self.automatic and breaker(entries, self.spec.retrain):
            note_entry(name, "closed", reason="a person started train, and what it decided was known")
        same = (one for one in reversed(entries) if one.kind == decision.decision and one.version == decision.version)
        first = next(same, None)
        if first and first.flow_run and (page := url_for("flow-run", first.flow_run)):
            self.summary.links.append(("The run that decided it", page))
        self.summary.say(f"{because}; nothing was done. Start with force to train and decide again.")
        again = decision.model_copy(update={"again": True})
        self.decision = describe_decision(self.summary, again, champion_entry(entries))
        return False

    # The challenger.

    def _search(self) -> Tuned:
        """Search on the training rows; in time order where the spec has one, for folds that look into the past only.

        Rows of one key stay in one fold, as those of a group do.
        """
        spec, X, y = self.spec, self.split.X_train, self.split.y_train
        assert spec.tune is not None  # noqa: S101 - asked by the caller
        rows = self.table.iloc[: len(X)]
        if spec.order_by:
            order = rows[spec.order_by].argsort(kind="stable")
            X, y = X.iloc[order], y.iloc[order]
        return tune_model(
            spec.estimator,
            X,
            y,
            tune=spec.tune,
            metric=spec.tune.metric or spec.gates[0].scorer,
            experiment=spec.experiment,
            seed=spec.seed,
            ordered=spec.order_by is not None,
            groups=rows[spec.group_by] if spec.group_by and not spec.order_by else None,
            positive=spec.positive,
        )

    def _judge(self) -> Report:
        if not isinstance(self._against, str):
            self.champion = self._against
        elif self._found is not None:  # where another one came since, the promotion loses and this is asked again
            (self.champion,), self._found = self._found, None
        else:
            self.champion = find_model(self.spec.name)
        gate = self._judge_by(self)
        answers = [*map(self._asked, self._checks), self._leakage_report()]
        return self._show(_with(gate, *answers, *([self._smoke_tested] if self._smoke_tested else [])))

    def _leakage_report(self) -> Report:
        """Look for target leakage in the training rows; once, as another judge does not change them."""
        if self._leakage is None:
            spec, split, rows = self.spec, self.split, self.training_rows
            order, groups = (None if name is None else rows.get(name) for name in (spec.order_by, spec.group_by))
            self._leakage = check_leakage(split.X_train, split.y_train, order=order, groups=groups, seed=spec.seed)
        return self._leakage

    def _asked(self, check: OwnCheck) -> Report:
        """Ask a check of one's own."""
        name = f"{self.spec.name}: the check {getattr(check, '__name__', repr(check))!r}"
        try:
            answer: object = check(self)
        except MLOpsError:
            raise
        except Exception as error:
            seen = f"{type(error).__name__}: {one_line(error)}"
            raise ConfigError(f"{name} cannot be computed: {seen}. PREFECT_MLOPS_DEBUG=1 shows where") from error
        if isinstance(answer, Report):
            return answer
        if isinstance(answer, Check):
            return Report(kind="gate", subject=self.spec.name, checks=(answer,))
        raise ConfigError(f"{name} answered with {type(answer).__name__}: return a Check or a Report")

    def _show(self, gate: Report) -> Report:
        """Keep the report of the gates, in place of the one before."""
        self.summary.reports[:] = [*(one for one in self.summary.reports if one is not self._gate), gate]
        self._gate = gate
        return gate

    def _facts(self) -> dict[str, str]:
        facts = {mlflow_tags.SPEC_DIGEST: self.spec.digest}
        if self._spec_name:
            facts[mlflow_tags.SPEC] = self._spec_name
        if self._own:
            facts[mlflow_tags.OWN_FLOW] = self.summary.kind
        if self._tuned:
            facts[mlflow_tags.TUNED] = json.dumps(self._tuned.params)
            facts[mlflow_tags.TUNED_RUN] = self._tuned.run_id
        return facts

    # The decision.

    def _measure(self) -> Measurements:
        """Measure what the challenger's card shows, and what its training profile weighs columns by."""
        return measure_model(self.challenger, spec=self.spec, split=self.split)

    def _finish_smoke_test(self, measured: Measurements) -> None:
        """Keep what the challenger was trained on, for drift, and let the smoke test count beside the gates."""
        if self._smoke_test is None or self._smoke_tested:
            return
        save_training_profile(
            self.challenger,
            spec=self.spec,
            split=self.split,
            table=self.table,
            run=self._registered[0],
            importances=measured.importances,
        )
        self._smoke_tested = self._smoke_test.result().model_copy(update={"notes": ()})  # costs that have no limit
        self._show(_with(self.gate, self._smoke_tested))

    def _write_card(self, measured: Measurements) -> None:
        """Write the challenger's card; its page comes after the summary and the evidence."""
        run, version = self._registered
        card = write_card(
            self.challenger,
            measured=measured,
            spec=self.spec,
            split=self.split,
            scores=self.scores,
            reports=self.summary.reports,
            run=run,
            version=version,
            publish=False,
        )
        self.summary.cards.append(card)

    def _decision(self, gate: Report) -> Decision:
        failed = [check for check in gate.failures if check.severity == "error"]
        learned, scores = lineage_of(self.challenger), self.scores
        return Decision(
            model=self.spec.name,
            decision="promoted" if gate.passed else "refused",
            reason=reason_of([check for check in gate.checks if check.passed] if gate.passed else failed),
            metrics=scores.metrics,
            rows=learned.rows if learned else 0,
            data_digest=learned.digest if learned else None,
            replaced=self.champion.version.version if self.champion else None,
        )

    def _undecided(self, gate: Report) -> Decision:
        decision = self._decision(gate)
        if self.dry_run:
            return describe_decision(self.summary, decision.model_copy(update={"dry_run": True}))
        version = self.version if self._registering else None
        return decision.model_copy(update={"version": version.version, "url": version.url} if version else {})

    def _carry_out(self, lock: Entry) -> Decision:
        """Promote, request approval, or refuse; the lock is freed by each of them."""
        spec, gate = self.spec, self.gate
        decision, version, recipe = self._decision(gate), self.version, self._recipe
        if not gate.passed:
            refuse_model(version, decision, recipe=recipe, lease=lock)
        elif spec.approval == "none":
            promote_model(version, decision=decision, recipe=recipe, lease=lock)
        else:
            decision = decision.model_copy(update={"decision": "requested"})
            expires, who = spec.approval_expires, spec.approvers
            request_approval(version, decision, expires=expires, approvers=who, recipe=recipe, lease=lock)
        return decision

    def _refits(self, decision: Decision) -> bool:
        return self.spec.refit == "all" and decision.decision == "promoted"

    def _refit(self, judged: Decision, measured: Measurements) -> Decision:
        """Train the promoted recipe on all rows, and say which version is the champion then.

        Where that fails, the judged version is the champion as it would be without a refit.
        """
        try:
            refitted = refit_champion(self, judged, measured, recipe=self._recipe, tags=self._facts())
        except MLOpsError as error:
            self.summary.lines.insert(1, f"Training it again on all rows did not finish: {error}.")
            self.summary.lines.insert(2, "The status names the champion; start with force to decide and refit again.")
            return judged
        if refitted.decision == "promoted":
            self.summary.title = f"v{refitted.version} promoted"
            again = refitted.reason.partition(", which")[0]
            self.summary.lines[0] = (
                f"v{refitted.version} is the champion: {again}. What follows is of v{judged.version}, which was judged."
            )
            return refitted
        self.summary.cards.pop()
        self.summary.lines.insert(1, f"v{refitted.version} was refused: {refitted.reason}.")
        return judged

    def _record(self, decision: Decision) -> Decision:
        """Note the decision on the version, emit the events, and open the breaker after too many refusals."""
        name, gate = self.spec.name, self.gate
        done = record_decision(self.version, decision, recipe=self._recipe, reports=self.summary.reports)
        emit_event(gate, about=name)
        if done.decision == "refused" and (opened := open_breaker(name, self.spec.retrain)):
            self.summary.say(f"Automatic training of {name} is stopped: {opened.reason}.", opened.advice)
            emit_stop_event(name, opened.reason)
        return describe_decision(self.summary, done)


def judge_by_gates(run: TrainingRun) -> Report:
    """Judge a challenger by the gates of its spec, on rows that neither model, or neither copy, was trained on."""
    held_back = run.spec.evaluation == "holdout" and split_alike(run.challenger, run.champion)
    rows = run.test_rows if held_back else run.table
    known, set_apart = run.training_rows, run.set_apart
    return judge_on(run.spec, rows, run.challenger, run.champion, training_rows=known, set_apart=set_apart)


_Coming: TypeAlias = "PrefectFuture[T] | T"


def _come(part: _Coming[T]) -> T:
    return part.result() if isinstance(part, PrefectFuture) else part


def _with(gate: Report, *answers: Report) -> Report:
    """Let more checks count than the gates."""
    checks = tuple(check for report in (gate, *answers) for check in report.checks)
    notes = tuple(note for report in (gate, *answers) for note in report.notes)
    return gate.model_copy(update={"checks": checks, "notes": notes})


def _still_held(lock: Entry) -> bool:
    held = held_lock(read_history(lock.model))
    return held is not None and held.sequence == lock.sequence
