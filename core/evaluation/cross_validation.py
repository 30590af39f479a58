"""A comparison of two recipes by cross-validation, where rows are too few to hold some of them back for a decision.

Both estimators are copied unfitted and trained anew on the same folds, so each row judges models that have not learned
from it, whatever the challenger and the champion themselves were trained on. What is compared is the recipe, estimator
and features, and not the two fitted models.

Scores of folds are not independent: their training rows overlap. Taken as independent, an equal recipe passes for
better in about 30 % of cases instead of 5 % (docs/gates.md). So the variance of their mean is corrected by the share of
the rows that judge. Folds in time have no row in common and are later than their training rows; there it is enough to
count the correlation of neighbours.

Source:
    Nadeau and Bengio 2003, "Inference for the generalization error": the corrected resampled t test. Bouckaert and
    Frank 2004, "Evaluating the replicability of significance tests for comparing learning algorithms": ten times ten
    folds. Newey and West 1987, with one lag, for folds in time.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError, DataCheckError
from prefect_mlops.core.evaluation.gates import check_conditions, require_gates
from prefect_mlops.core.evaluation.importance import one_thread
from prefect_mlops.core.evaluation.intervals import MIN_UNITS as MIN_UNITS_OF_INTERVAL
from prefect_mlops.core.evaluation.intervals import SHOWN, Estimate
from prefect_mlops.core.evaluation.models import comparison_title, estimator_of, known_columns, require_rows
from prefect_mlops.core.evaluation.scoring import score_model
from prefect_mlops.core.evaluation.unseen_rows import CHECK_ID, EXPECTED, NAME
from prefect_mlops.core.lineage.training_data import lineage_of
from prefect_mlops.core.metrics import metric_name
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.specs.fingerprints import described
from prefect_mlops.core.specs.model import MAX_SEED
from prefect_mlops.core.text import one_line, show
from prefect_mlops.core.training.fit import fit_copy
from prefect_mlops.core.training.folds import cut_rows

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    from numpy.typing import NDArray

    from prefect_mlops.core.metrics import Metric
    from prefect_mlops.core.values import Gate

    Places = npt.NDArray[np.intp]

FOLDS, REPEATS = 10, 10
FOLDS_IN_TIME = 15  # the last `FOLDS` judge: recipes trained on the first third of the rows say little of the whole
MOST_ROWS_FITTED = 20_000  # rows times repeats: up to 2,000 rows are cut ten times, 20,000 and more once
MIN_UNITS = 15  # independent rows or groups; with ten groups, up to 9 % of equal recipes passed for better
MIN_CLASS_ROWS = 5  # of each class, so that five folds have one of each
_ROUNDING = 1e-9  # errors below this share of the value are rounding errors


@dataclass(frozen=True)
class Folds:
    """How rows were cut.

    Attributes:
        cuts: places of the rows to train on and to score on, for each fold.
        rows: number of rows that judge.
        units: number of independent rows or groups.
        in_time: each fold is later than the rows it was trained on, and no row is in two folds.
    """

    cuts: Sequence[tuple[Places, Places]]
    rows: int
    units: int
    in_time: bool = False

    @property
    def share(self) -> float:
        """Rows that judge, for each row that is trained on."""
        return sum(len(test) / len(train) for train, test in self.cuts) / len(self.cuts)


@dataclass(frozen=True)
class _Recipe:
    """An unfitted estimator, and the columns it is trained on."""

    role: str
    estimator: Any
    X: pd.DataFrame

    def is_same(self, other: _Recipe) -> bool:
        """Tell whether another recipe gives the same model on the same rows."""
        columns, others = list(self.X.columns), list(other.X.columns)
        return columns == others and described(self.estimator) == described(other.estimator)


@dataclass(frozen=True)
class _Scores:
    """Scores by metric, one for each fold; NaN where it is undefined, with the reason."""

    values: dict[str, NDArray[Any]]
    why: dict[str, str]


def judge_recipes(  # noqa: PLR0913 - the options of the judge, one by one
    challenger: Any,
    champion: Any | None,
    X: pd.DataFrame,
    y: pd.Series,
    *,
    gates: Sequence[Gate],
    order_by: str | None = None,
    group_by: str | None = None,
    seed: int = 0,
    positive: object = None,
) -> Report:
    """Compare the recipes of a challenger and the champion by cross-validation, where rows are few.

    Copies of both are trained anew on the same folds and scored on the rows left out, ten times on ten folds; with
    ``order_by`` on ten blocks in time, each on what came before it. The difference is judged by the corrected
    resampled t test. The same recipe again is no different, so it passes ``may_lose`` and never ``must_gain``.

    Args:
        challenger: fitted estimator that wants to be promoted.
        champion: `LoadedModel` or fitted estimator that is live now; None where there is none.
        X: all rows, (rows, columns), those that either was trained on as well: the features of both, and the columns
            of the options. Rows of one key, by the rule of the challenger's lineage, stay in one fold.
        y: truth, (rows,), in the order of ``X``.
        gates: conditions; all have to hold. Without slices and gaps: groups have too few rows for them.
        order_by: column of time.
        group_by: column whose groups stay in one fold, where there is no ``order_by``.
        seed: of the folds, and of what is random in an estimator and has no seed.
        positive: the positive one of two classes, for metrics given by name; None leaves classes as they are.

    Returns:
        A ``gate`` report with the checks of `judge_model`: ``unseen-rows``, then one for each condition. Where rows are
        too few for it as well, one failed check.

    Raises:
        ConfigError: no gates, slices, unknown metric or column, or a recipe that cannot be trained on these rows.

    Source: Nadeau and Bengio 2003; Bouckaert and Frank 2004; `core.training.folds` for the folds.
    """
    metrics = require_gates(gates)
    if sliced := [gate.metric for gate in gates if gate.slices]:
        raise ConfigError(f"gate on {sliced[0]!r}: slices are judged on a holdout, not by cross-validation")
    require_rows(X, y)
    if order_by:
        order = X[order_by].argsort(kind="stable").to_numpy()
        X, y = X.iloc[order], y.iloc[order]
    subject, folds = comparison_title(challenger, champion), _cut(challenger, X, y, order_by, group_by, seed)
    if isinstance(folds, Check):
        return Report(kind="gate", subject=subject, checks=(folds,), rows=len(X))
    given = {"challenger": challenger, "champion": champion}
    recipes = [_recipe(role, one, X, (order_by, group_by)) for role, one in given.items() if one is not None]
    with one_thread():
        score = functools.partial(_score, y=y, folds=folds, metrics=metrics, positive=positive, seed=seed)
        ours = score(recipes[0])
        theirs = None if len(recipes) == 1 else ours if recipes[1].is_same(recipes[0]) else score(recipes[1])
    checks = [_unseen(folds, both=theirs is not None)]
    for gate in gates:
        checks += _conditions(gate, ours, theirs, folds)
    return Report(kind="gate", subject=subject, checks=tuple(checks), rows=len(X))


def mean_over_folds(scores: NDArray[Any], folds: Folds, *, why: str = "", paired: bool = False) -> Estimate:
    """Estimate the mean of scores, or of the differences of two recipes, with its standard error.

    Args:
        scores: one for each fold, (folds,); NaN where undefined.
        folds: how the rows were cut.
        why: why a score is undefined.
        paired: they are differences, where no spread at all is no evidence.

    Returns:
        The estimate; with a ``problem`` where less than half of the scores, or of five, are defined.

    Source: Nadeau and Bengio 2003, section 4.2; Newey and West 1987 for folds in time.
    """
    import numpy as np

    known = scores[np.isfinite(scores)]
    count, lost = len(known), len(scores) - len(known)
    value = float(known.mean()) if count else math.nan
    method = "Student's t, folds in time" if folds.in_time else "corrected resampled t"
    exact = Estimate(value, 0.0, max(min(count, folds.units) - 1, 1), folds.rows, count, method, pieces="folds")
    if count < max(MIN_UNITS_OF_INTERVAL, len(scores) / 2):
        problem = f"the metric is undefined on {lost} of {len(scores)} folds: {why}"
        return replace(exact, error=math.inf, problem=problem)
    if lost:
        exact = replace(exact, method=f"{method}, undefined on {lost} of {len(scores)} folds")
    apart = known - value
    variance = float(apart @ apart) / (count - 1)
    if folds.in_time:
        variance = (variance + 2 * max(0.0, float(apart[1:] @ apart[:-1]) / (count - 1))) / count
    else:
        variance *= 1 / count + folds.share
    error = math.sqrt(variance)
    if error > _ROUNDING * abs(value):
        return replace(exact, error=error)
    if paired and value:
        return replace(exact, error=math.inf, problem="all folds agree, so chance cannot be estimated")
    return exact


# Folds.


def _cut(
    challenger: Any,
    X: pd.DataFrame,
    y: pd.Series,
    order_by: str | None,
    group_by: str | None,
    seed: int,
) -> Folds | Check:
    """Cut the rows again and again; a failed check where they are too few."""
    from sklearn.base import is_classifier

    estimator = estimator_of(challenger)
    together = None if order_by else _together(estimator, X, group_by)
    units = int(X[order_by].nunique()) if order_by else len(X) if together is None else int(together.nunique())
    what = f"values of {order_by}" if order_by else "rows" if together is None else group_by or "different rows"
    least = 2 * FOLDS_IN_TIME if order_by else MIN_UNITS
    if units < least:
        return _too_few(f"{units:,} {what}", f"at least {least}")
    count = FOLDS_IN_TIME if order_by else min(FOLDS, units // 2)
    if is_classifier(estimator) and not order_by:
        counts = y.value_counts()
        if len(counts) < 2 or counts.iloc[1] < MIN_CLASS_ROWS:  # noqa: PLR2004 - two classes
            seen = ", ".join(f"{rows:,} rows of {show(name)!r}" for name, rows in counts.items())
            return _too_few(seen, f"at least {MIN_CLASS_ROWS} rows of each of two classes")
        count = min(count, max(MIN_CLASS_ROWS, int(counts.iloc[-1])))
    plain = X.copy(deep=False)
    plain.attrs = {}  # what the split left there is asked above
    cut = functools.partial(
        cut_rows, estimator, plain, y, folds=count, ordered=bool(order_by), groups=together, warn=_ignore
    )
    if order_by:
        last = cut(seed=seed)[2][-FOLDS:]
        return Folds(last, sum(len(test) for _, test in last), units, in_time=True)
    cuts: list[tuple[Places, Places]] = []
    seen_before: set[frozenset[bytes]] = set()
    for repeat in range(max(1, min(REPEATS, MOST_ROWS_FITTED // len(X)))):
        more = cut(seed=(seed + repeat) % (MAX_SEED + 1))[2]
        same = frozenset(test.tobytes() for _, test in more)
        if same in seen_before:  # groups of a regression are not shuffled
            break
        seen_before.add(same)
        cuts += more
    return Folds(cuts, len(X), units)


def _together(estimator: Any, X: pd.DataFrame, group_by: str | None) -> pd.Series | None:
    """Return what rows have to share to stay in one fold: their group, key or features; None where all differ."""
    if group_by:
        return X[group_by]
    learned = lineage_of(estimator)
    return learned.rule.identities(X) if learned and learned.rule else None


def _too_few(seen: str, wanted: str) -> Check:
    return Check(
        id="enough-rows",
        name="rows are enough to compare recipes",
        passed=False,
        observed=seen,
        expected=f"{wanted}: wait for more, or decide yourself with promote",
    )


def _unseen(folds: Folds, *, both: bool) -> Check:
    """Say why no row has judged a model that had learned from it."""
    who = "both recipes were" if both else "the recipe was"
    return Check(
        id=CHECK_ID,
        name=NAME,
        passed=True,
        observed=f"{folds.rows:,} rows in {len(folds.cuts)} folds{' in time' if folds.in_time else ''}: {who} trained "
        "anew for each, without the rows that judge",
        expected=EXPECTED,
        value=float(folds.rows),
    )


def _ignore(_: str) -> None:
    """Say nothing: what trainings and folds warn of, the training of the challenger has said."""


# Recipes.


def _recipe(role: str, given: Any, X: pd.DataFrame, besides: tuple[str | None, ...]) -> _Recipe:
    from sklearn.base import clone

    columns = known_columns(given, X, role=role, besides=besides).copy(deep=False)
    columns.attrs = {}  # a fold has rows of both sides of the split
    return _Recipe(role, clone(estimator_of(given)), columns)


def _score(
    recipe: _Recipe,
    *,
    y: pd.Series,
    folds: Folds,
    metrics: Sequence[Metric],
    positive: object,
    seed: int,
) -> _Scores:
    """Train a recipe on each fold and score it on the rows left out.

    Raises:
        ConfigError: it cannot be trained, or a metric fits on no fold.
        DataCheckError: a metric is defined on no fold.
    """
    import numpy as np

    names = [metric_name(metric) for metric in metrics]
    values = {name: np.full(len(folds.cuts), np.nan) for name in names}
    errors: dict[str, ConfigError | DataCheckError] = {}
    for fold, (train, test) in enumerate(folds.cuts):
        try:
            fitted = fit_copy(recipe.estimator, recipe.X.iloc[train], y.iloc[train], seed=seed, warn=_ignore)
        except DataCheckError as error:  # one class only
            errors |= dict.fromkeys(names, error)
            continue
        except ConfigError as error:
            raise ConfigError(f"the {recipe.role}'s recipe cannot be trained on a part of the rows: {error}") from error
        for metric, name in zip(metrics, names, strict=True):
            try:
                values[name][fold] = _score_fold(metric, fitted, recipe, test, y, positive)
            except (ConfigError, DataCheckError) as error:  # a class is missing among few rows
                errors[name] = error
    for name, why in errors.items():
        if not np.isfinite(values[name]).any():
            raise why
    return _Scores(values, {name: one_line(why) for name, why in errors.items()})


def _score_fold(metric: Metric, fitted: Any, recipe: _Recipe, test: Places, y: pd.Series, positive: object) -> float:
    scores = score_model(fitted, recipe.X.iloc[test], y.iloc[test], metrics=[metric], positive=positive)
    return scores[metric_name(metric)]


def _conditions(gate: Gate, ours: _Scores, theirs: _Scores | None, folds: Folds) -> list[Check]:
    """Check a gate on the folds where the scores of both are defined."""
    import numpy as np

    name = gate.metric
    scores, why = ours.values[name], ours.why.get(name, "")
    if theirs is not None:
        other, why = theirs.values[name], why or theirs.why.get(name, "")
        scores = np.where(np.isfinite(other), scores, np.nan)
    own = mean_over_folds(scores, folds, why=why)
    interval = None
    if not own.problem and own.error:
        best = math.inf if callable(gate.scorer) else 0.0 if name.startswith("neg_") else 1.0
        interval = own.lower((1 + SHOWN) / 2), min(own.upper((1 + SHOWN) / 2), best)
    if theirs is None:
        return check_conditions(gate, own, interval)
    apart = mean_over_folds(scores - other, folds, why=why, paired=True)
    return check_conditions(gate, own, interval, champion=own.value - apart.value, apart=apart)
