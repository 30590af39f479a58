"""Target leakage: features that know the answer, or that tell rows apart instead of describing them.

What a model may know at the time of a prediction cannot be read off its training rows, so nothing here refuses: a
column that looks like leakage is named, with the numbers that speak against it. Three signs are looked for:

- One column alone, or the difference of two columns that nearly coincide, predicts the target perfectly, or so well
  that all other columns together leave at least twice the error (`SINGLE_FEATURE`, `DIFFERENCE`).
- Times in a column lie after the time the row belongs to (`NEWER`).
- A column has another value in almost every row, and not by chance: a counter, a key, a token (`ROW_ID`).

Everything but the count of different values is computed on a sample of `MAX_ROWS` rows.

Source:
    Kaufman, Rosset, Perlich and Stitelman 2012, "Leakage in data mining: formulation, detection, and avoidance".
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from prefect_mlops.core.errors import ConfigError
from prefect_mlops.core.evaluation.importance import one_thread
from prefect_mlops.core.reports import Check, Report
from prefect_mlops.core.tables.columns import read_column
from prefect_mlops.core.text import plain

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    _Signal: TypeAlias = "tuple[tuple[_Feature, ...], float]"  # columns, and the score from them alone

SINGLE_FEATURE, DIFFERENCE = "leakage-single-feature", "leakage-difference"
NEWER, ROW_ID, NO_LEAKAGE = "leakage-newer-than-order", "leakage-row-id", "leakage"

MAX_ROWS = 10_000  # a sample tells an AUC within about 0.01
MIN_ROWS = 100  # with fewer, a column that predicts well is no evidence
MIN_CLASS_ROWS = 30  # likewise of a class; rarer classes are taken together
MIN_AUC, MIN_R2 = 0.85, 0.75  # of one column alone; docs/gates.md has the measurements
PERFECT_AUC, PERFECT_R2 = 0.999, 0.99  # from here on a column is named whatever the others reach
MOST_ERROR = 0.5  # of the error that all other columns together leave
LEAST_APART = (0.05, 0.1)  # of the two scores, ROC AUC and R²; near 1 half the error is next to nothing
MOST_SUSPECTS = 5
MAX_OTHERS = 50  # the strongest other columns stand for all of a wide table
NEARLY_EQUAL = 0.8  # rank correlation of two columns whose difference is looked at
MAX_PAIRS = 20
TRIFLING = 0.01  # share of rows: late corrections and clocks that differ
UNIQUE = 0.99  # share of rows with a value of their own
MIN_ID_ROWS = 50
MIN_COLLISIONS = 10.0  # equal pairs that as many values would have by chance
_KEY_DIGITS, _MAX_KEY = 8, 64
_FOLDS, _BINS, _CATEGORIES, _CLASSES = 3, 64, 100, 10
_ROWS_A_BIN = 20
_DAY_S = 86_400.0
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]|$)")


@dataclass(frozen=True, eq=False)
class _Feature:
    """A column of the sample as numbers.

    Attributes:
        name: of the column.
        place: its place among the features.
        kind: a number, a time, or a word: everything else.
        numbers: (rows,), NaN where missing; seconds for times, the number of the category for words.
        zoned: times with a time zone.
    """

    name: str
    place: int
    kind: Literal["number", "time", "word"]
    numbers: NDArray[Any]
    zoned: bool = False

    @functools.cached_property
    def bins(self) -> NDArray[Any]:
        """Number of each row's bin, (rows,): its category, or numbers of about the same size; the last is missing."""
        import numpy as np

        there = ~np.isnan(self.numbers)
        if self.kind == "word":
            return np.where(there, self.numbers, _CATEGORIES + 1).astype("int64")
        if not there.any():
            return np.zeros(len(self.numbers), dtype="int64")
        shares = np.arange(1, _bins(len(self.numbers))) / _bins(len(self.numbers))
        cuts, often = np.unique(np.quantile(self.numbers[there], shares, method="inverted_cdf"), return_counts=True)
        cuts = np.union1d(cuts, np.nextafter(cuts[often > 1], np.inf))  # a frequent value is a bin of its own
        return np.where(there, np.searchsorted(cuts, self.numbers, side="right"), len(cuts) + 1)


def _bins(rows: int) -> int:
    return min(_BINS, max(4, rows // _ROWS_A_BIN))


@dataclass(frozen=True)
class _Target:
    """The target of the sample.

    Attributes:
        values: (rows, classes), 1 for the row's class; (rows, 1) for numbers, without the outermost ones.
        folds: fold of each row, (rows,).
        classes: the target is a class.
    """

    values: NDArray[Any]
    folds: NDArray[Any]
    classes: bool

    @property
    def measure(self) -> str:
        """What the scores are called."""
        return "ROC AUC" if self.classes else "R²"

    @property
    def chance(self) -> float:
        """The score without any knowledge."""
        return 0.5 if self.classes else 0.0

    @property
    def least(self) -> float:
        """The score from which on a column is looked at."""
        return MIN_AUC if self.classes else MIN_R2

    @property
    def perfect(self) -> float:
        """The score from which on a column is the target by another name."""
        return PERFECT_AUC if self.classes else PERFECT_R2

    def apart(self, score: float, other: float) -> bool:
        """Tell whether one score is better than another by more than noise."""
        return score - other >= (LEAST_APART[0] if self.classes else LEAST_APART[1])


def check_leakage(
    X: pd.DataFrame,
    y: pd.Series,
    *,
    order: pd.Series | None = None,
    groups: pd.Series | None = None,
    seed: int = 0,
) -> Report:
    """Look for target leakage in training rows.

    It warns and never refuses: whether a value is known at the time of a prediction only its owner can say.

    Args:
        X: features, (rows, columns).
        y: target, (rows,), in the order of ``X``.
        order: time of each row, (rows,), such as the spec's ``order_by``.
        groups: group of each row, (rows,); a column is then tried on other groups than it was learned from.
        seed: of the sample.

    Returns:
        A ``leakage`` report: a check of severity ``warning`` for each suspect column, or one check that says how many
        columns were looked at.

    Raises:
        ConfigError: the rows do not match.

    Source: scores by `sklearn.ensemble.HistGradientBoostingClassifier` and ``...Regressor``, cross-validated.
    """
    for name, given in (("y", y), ("order", order), ("groups", groups)):
        if given is not None and len(given) != len(X):
            raise ConfigError(f"check_leakage: X has {len(X):,} rows and {name} has {len(given):,}: they have to match")
    places = _sample(y, seed)
    features = [_read(plain(name), place, X.iloc[places, place]) for place, name in enumerate(X.columns)]
    times = None if order is None else _order(order.iloc[places])
    target = _target(y.iloc[places], times, None if groups is None else groups.iloc[places], seed)
    found = [*(_newer(features, times) if times else ()), *_row_ids(X, places, features, times)]
    if target is not None:
        named = {check.subject for check in found}
        found += _telling([feature for feature in features if feature.name not in named], target)
    if not found:
        found.append(_nothing_found(features, len(places), tried=target is not None, timed=times is not None))
    return Report(kind="leakage", subject=f"{X.shape[1]:,} features", checks=tuple(found), rows=len(X))


def _nothing_found(features: Sequence[_Feature], rows: int, *, tried: bool, timed: bool) -> Check:
    seen = ["none gives the target away" if tried else f"{rows:,} rows are too few to tell what one column predicts"]
    seen += ["none is newer than its row"] if timed else []
    return Check(
        id=NO_LEAKAGE,
        name="no sign of target leakage",
        passed=True,
        observed=f"{len(features):,} columns: {', '.join([*seen, 'none numbers the rows'])}",
    )


# Columns and target as numbers.


def _sample(y: pd.Series, seed: int) -> NDArray[Any]:
    """Choose rows with a target, in their order."""
    import numpy as np

    known = np.flatnonzero(y.notna().to_numpy(dtype=bool))
    if len(known) <= MAX_ROWS:
        return known
    return np.sort(np.random.default_rng(seed).choice(known, MAX_ROWS, replace=False))


def _read(name: str, place: int, cells: pd.Series) -> _Feature:
    """Turn a column into numbers, whatever it holds."""
    import numpy as np
    import pandas as pd

    column = read_column(cells)
    if column.kind == "string" and _DATE.match(str(column.values.iloc[0])):
        moments = pd.to_datetime(cells.astype(object), format="ISO8601", utc=True, errors="coerce")
        if moments.notna().sum() == len(column.values):
            column = replace(read_column(moments), kind="datetime")
    numbers, there = np.full(len(cells), np.nan), cells.notna().to_numpy(dtype=bool)
    if len(column.values) != int(there.sum()):  # NaN among nullable numbers, or dates beyond those of pandas
        return _Feature(name, place, "number", cells.isna().to_numpy(dtype="float64"))
    if column.kind in ("numeric", "datetime", "datetime with time zone") and not column.nominal:
        numbers[there] = column.values.to_numpy(dtype="float64")
        kind: Literal["number", "time"] = "number" if column.kind == "numeric" else "time"
        return _Feature(name, place, kind, numbers, zoned=column.kind == "datetime with time zone")
    codes, names = pd.factorize(column.values.astype(str))
    rank = np.argsort(np.argsort(-np.bincount(codes, minlength=len(names)), kind="stable"))
    numbers[there] = np.minimum(rank[codes], _CATEGORIES)
    return _Feature(name, place, "word", numbers)


def _order(order: pd.Series) -> _Feature:
    """Turn the times of the rows into numbers; text that is no date by its place in the order."""
    import pandas as pd

    times = _read(plain(order.name), -1, order)
    if times.kind != "word":
        return times
    return replace(times, numbers=pd.factorize(order.astype(str), sort=True)[0].astype("float64"))


def _target(y: pd.Series, times: _Feature | None, groups: pd.Series | None, seed: int) -> _Target | None:
    """Prepare the target; None where the rows are too few."""
    import numpy as np
    import pandas as pd

    if len(y) < MIN_ROWS:
        return None
    column = read_column(y)
    if len(column.values) != len(y):
        return None
    if column.kind == "numeric" and not column.nominal and column.values.nunique() > _CLASSES:
        numbers = column.values.to_numpy()
        values = np.clip(numbers, *np.quantile(numbers, [0.01, 0.99]))[:, None]
        return _Target(values, _folds(np.zeros(len(y)), times, groups, seed), classes=False)
    codes, names = pd.factorize(column.values.astype(str))
    counts = np.bincount(codes, minlength=len(names))
    often = [code for code in np.argsort(-counts, kind="stable")[:_CLASSES] if counts[code] >= MIN_CLASS_ROWS]
    if not often or counts.max() > len(y) - MIN_CLASS_ROWS:
        return None
    values = (codes[:, None] == np.array(often)).astype("float64")
    return _Target(values, _folds(codes, times, groups, seed), classes=True)


def _folds(strata: NDArray[Any], times: _Feature | None, groups: pd.Series | None, seed: int) -> NDArray[Any]:
    """Number the fold of each row: groups whole, else blocks in time, else by chance with the target's shares."""
    import numpy as np
    import pandas as pd

    chance, rows = np.random.default_rng(seed), len(strata)
    if groups is not None:
        codes, names = pd.factorize(groups, use_na_sentinel=False)
        return chance.permutation(len(names))[codes] % _FOLDS
    order = chance.permutation(rows)
    order = order[np.argsort(strata[order], kind="stable")]
    if times is None:
        return np.argsort(order) % _FOLDS
    return np.argsort(np.argsort(times.numbers, kind="stable")) * _FOLDS // rows


# What a column tells of the target.


def _telling(features: Sequence[_Feature], target: _Target) -> Iterator[Check]:
    """Name columns that predict the target by themselves so well that all others together leave twice the error."""
    alone = {feature.place: _alone(feature.bins, target) for feature in features}
    ranked = sorted(features, key=lambda feature: -alone[feature.place])
    signals: list[_Signal] = [
        ((feature,), alone[feature.place]) for feature in ranked if alone[feature.place] >= target.least
    ]
    signals += _differences(ranked, alone, target)
    signals.sort(key=lambda signal: -signal[1])
    suspects, rest = _suspects(signals, ranked, target)
    for named, score in suspects:
        others = [feature.name for besides, _ in suspects for feature in besides if feature not in named]
        yield _too_good(named, score, rest, target, others)


def _differences(ranked: Sequence[_Feature], alone: dict[int, float], target: _Target) -> list[_Signal]:
    """Return pairs of nearly equal columns whose difference predicts the target, such as a plan and what came of it."""
    found: list[_Signal] = []
    for one, two in _nearly_equal(ranked):
        score = _alone(replace(one, numbers=one.numbers - two.numbers).bins, target)
        if score >= target.least and target.apart(score, max(alone[one.place], alone[two.place])):
            found.append(((one, two), score))
    used: set[int] = set()
    strongest: list[_Signal] = []
    for pair, score in sorted(found, key=lambda signal: -signal[1]):
        places = {feature.place for feature in pair}
        if not places & used:
            strongest.append((pair, score))
            used |= places
    return strongest


def _suspects(
    signals: Sequence[_Signal], ranked: Sequence[_Feature], target: _Target
) -> tuple[Sequence[_Signal], float]:
    """Return the strongest signals, and the score of all other columns: perfect, or at most half the error of these.

    Copies of a leak cover for each other, so the columns of the strongest signals are left out one after the other; not
    many, as then too few are left to compare with.
    """
    found: tuple[Sequence[_Signal], float] = ((), 0.0)
    for count in range(1, min(MOST_SUSPECTS, len(signals), max(1, len(ranked) // 4)) + 1):
        left_out = {feature.place for named, _ in signals[:count] for feature in named}
        score, rest = signals[count - 1][1], _together([one for one in ranked if one.place not in left_out], target)
        if score >= target.perfect or (1 - score <= MOST_ERROR * (1 - rest) and target.apart(score, rest)):
            found = signals[:count], rest
    return found


def _too_good(named: Sequence[_Feature], score: float, rest: float, target: _Target, others: Sequence[str]) -> Check:
    both = len(named) > 1
    besides = f" (without {', '.join(others)})" if others else ""
    return Check(
        id=DIFFERENCE if both else SINGLE_FEATURE,
        name="the target is not given away by two columns" if both else "the target is not given away by one column",
        passed=False,
        severity="warning",
        subject=" and ".join(feature.name for feature in named),
        observed=f"{target.measure} {score:.2f} from {'their difference' if both else 'it'} alone, {rest:.2f} from all "
        f"other columns together{besides}",
        expected="a value that is known before the target is: else leave it out of the features",
        value=score,
        threshold=target.least,
    )


def _alone(bins: NDArray[Any], target: _Target) -> float:
    """Score the mean of the target in each bin on the other folds: the mean ROC AUC of the classes, or R²."""
    import numpy as np

    count, values = int(bins.max()) + 1, target.values
    places = bins * _FOLDS + target.folds
    shape = (count, _FOLDS)

    def summed(weights: NDArray[Any] | None = None) -> NDArray[Any]:
        return np.bincount(places, weights, minlength=count * _FOLDS).reshape(shape)

    rows, scores = summed(), []
    for column in values.T:
        sums, squares = summed(column), summed(column**2)
        for fold in range(_FOLDS):
            known_rows, known = rows.sum(axis=1) - rows[:, fold], sums.sum(axis=1) - sums[:, fold]
            guess = (known + known.sum() / max(known_rows.sum(), 1)) / (known_rows + 1)
            score = _auc if target.classes else _r2
            scores.append(score(guess, rows[:, fold], sums[:, fold], squares[:, fold]))
    return _mean(scores, target)


def _auc(guess: NDArray[Any], rows: NDArray[Any], positive: NDArray[Any], _: NDArray[Any]) -> float:
    """Area under the ROC curve of bins, with rows of one bin tied; NaN with one class only."""
    import numpy as np

    order = np.argsort(guess, kind="stable")
    positive, negative = positive[order], (rows - positive)[order]
    pairs = float(positive.sum() * negative.sum())
    return float((positive * (np.cumsum(negative) - negative / 2)).sum()) / pairs if pairs else np.nan


def _r2(guess: NDArray[Any], rows: NDArray[Any], sums: NDArray[Any], squares: NDArray[Any]) -> float:
    """Coefficient of determination of bins."""
    spread = float(squares.sum() - sums.sum() ** 2 / max(rows.sum(), 1))
    left = float((squares - 2 * guess * sums + rows * guess**2).sum())
    return 1 - left / spread if spread > 0 else float("nan")


def _mean(scores: Sequence[float], target: _Target) -> float:
    import numpy as np

    finite = [score for score in scores if np.isfinite(score)]
    return float(np.mean(finite)) if finite else target.chance


def _together(features: Sequence[_Feature], target: _Target) -> float:
    """Score a small boosting on some columns, on the same folds as `_alone`."""
    import numpy as np
    import pandas as pd
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.metrics import r2_score, roc_auc_score

    chosen = features[:MAX_OTHERS]
    if not chosen:
        return target.chance
    # Ranks, with missing values as the lowest: scikit-learn fails on a column that is empty in a fold.
    X = np.column_stack([1 + pd.factorize(feature.numbers, sort=True)[0] for feature in chosen])
    options: dict[str, Any] = {
        "max_iter": 30,
        "max_leaf_nodes": 8,
        "learning_rate": 0.2,
        "early_stopping": False,
        "min_samples_leaf": min(20, len(X) // 30),
        "categorical_features": [feature.kind == "word" for feature in chosen],
        "random_state": 0,
    }
    rare = len(target.values.T)
    codes = np.where(target.values.any(axis=1), target.values.argmax(axis=1), rare)
    scores = []
    with one_thread():
        for fold in range(_FOLDS):
            test = target.folds == fold
            if not test.any() or test.all():
                continue
            if not target.classes:
                model = HistGradientBoostingRegressor(**options).fit(X[~test], target.values[~test, 0])
                scores.append(r2_score(target.values[test, 0], model.predict(X[test])))
                continue
            if len(np.unique(codes[~test])) == 1:
                continue
            model = HistGradientBoostingClassifier(**options).fit(X[~test], codes[~test])
            answers = model.predict_proba(X[test])
            for answer, code in zip(answers.T, model.classes_, strict=True):
                truth = codes[test] == code
                if code != rare and truth.any() and not truth.all():
                    scores.append(roc_auc_score(truth, answer))
    return _mean(scores, target)


def _nearly_equal(features: Sequence[_Feature]) -> list[tuple[_Feature, _Feature]]:
    """Return the pairs of columns with the highest rank correlation."""
    import numpy as np

    chosen = [one for one in features if one.kind != "word" and not np.isnan(one.numbers).all()][:MAX_OTHERS]
    if len(chosen) < 2:  # noqa: PLR2004 - a pair
        return []
    ranks = np.column_stack([np.searchsorted(np.sort(one.numbers), one.numbers) for one in chosen])
    with np.errstate(invalid="ignore", divide="ignore"):
        alike: NDArray[Any] = np.asarray(np.corrcoef(ranks, rowvar=False))
    pairs = [
        (float(alike[i, j]), chosen[i], chosen[j])
        for i in range(len(chosen))
        for j in range(i)
        if alike[i, j] >= NEARLY_EQUAL and chosen[i].kind == chosen[j].kind
    ]
    pairs.sort(key=lambda pair: -pair[0])
    return [(one, two) for _, one, two in pairs[:MAX_PAIRS]]


# Times and keys.


def _newer(features: Sequence[_Feature], times: _Feature) -> Iterator[Check]:
    """Name columns whose times lie after the row's own."""
    import numpy as np

    if times.kind != "time":
        return
    for feature in features:
        if feature.kind != "time":
            continue
        later = feature.numbers - times.numbers
        later = later[~np.isnan(later)]
        # Days have no time of day, and of times without a zone it is not known which hour they mean.
        within = times.numbers % _DAY_S
        coarse = feature.zoned != times.zoned or np.nanmax(within) == np.nanmin(within)
        late = later[later >= _DAY_S] if coarse else later[later > 0]
        if len(late) <= TRIFLING * max(len(later), 1):
            continue
        share = len(late) / len(later)
        yield Check(
            id=NEWER,
            name="no value is newer than its row",
            passed=False,
            severity="warning",
            subject=feature.name,
            observed=f"{share:.1%} of the rows hold a time after {times.name}, half of these by more than "
            f"{_span(float(np.median(late)))}",
            expected=f"times up to {times.name}, but for plans made before: else leave it out of the features",
            value=share,
            threshold=TRIFLING,
        )


def _span(seconds: float) -> str:
    for unit, name in ((_DAY_S, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.1f} seconds"


def _row_ids(
    X: pd.DataFrame, places: NDArray[Any], features: Sequence[_Feature], times: _Feature | None
) -> Iterator[Check]:
    """Name columns that tell rows apart and nothing else."""
    for feature in features:
        cells = X.iloc[:, feature.place]
        if feature.kind == "time" or not _distinct(cells.iloc[places]):
            continue
        there = cells.dropna()
        if len(there) < MIN_ID_ROWS or not (distinct := _distinct(there)):
            continue
        kind = _token(there) if feature.kind == "word" else _counter(feature, there, times)
        if kind:
            yield Check(
                id=ROW_ID,
                name="no feature numbers the rows",
                passed=False,
                severity="warning",
                subject=feature.name,
                observed=f"{kind}: {distinct:,} different values in {len(there):,} rows",
                expected="a column that other rows share values of: leave a key out of the features",
                value=distinct / len(there),
                threshold=UNIQUE,
            )


def _distinct(cells: pd.Series) -> int:
    """Count the different values; 0 where they are not different in almost every row."""
    there = cells.dropna()
    try:
        count = int(there.nunique())
    except TypeError:  # lists, and what else cannot be hashed
        return 0
    return count if count >= UNIQUE * max(len(there), 1) else 0


def _token(there: pd.Series) -> str:
    """Tell whether text is a key: one word, and not a sentence."""
    texts = there.astype(str)
    if texts.str.len().max() > _MAX_KEY or texts.str.contains(r"\s", regex=True).mean() > 1 - UNIQUE:
        return ""
    return f"a key such as {plain(texts.iloc[0])!r}"


def _counter(feature: _Feature, there: pd.Series, times: _Feature | None) -> str:
    """Tell whether whole numbers are a key: far fewer are equal than by chance, or they rise with the rows."""
    import numpy as np

    numbers = there.to_numpy(dtype="float64")
    if not np.isfinite(numbers).all() or (numbers % 1).any():
        return ""
    low, high, rows = numbers.min(), numbers.max(), len(numbers)
    span = f"whole numbers from {low:,.0f} to {high:,.0f}"
    if rows * (rows - 1) / 2 / (high - low + 1) >= MIN_COLLISIONS:
        return span
    in_time = feature.numbers if times is None else feature.numbers[np.argsort(times.numbers, kind="stable")]
    steps = [np.diff(numbers), np.diff(in_time[~np.isnan(in_time)])]
    if any((step > 0).all() or (step < 0).all() for step in steps):
        return f"{span} in the order of the rows"
    digits = {len(f"{abs(number):.0f}") for number in (low, high)}
    return f"{span}, all of {digits.pop()} digits" if len(digits) == 1 and min(digits) >= _KEY_DIGITS else ""
