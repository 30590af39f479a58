"""Run expectations with the engine of Great Expectations only: no data context, no analytics, no hashing.

A data context would hash every cell for a batch id (most of a suite's time), set itself as the global one and make
threads share state. The pandas engine and the validator work without one, so each call builds its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError, unknown_name
from prefect_mlops.core.text import one_line

if TYPE_CHECKING:
    import pandas as pd

View = Callable[["pd.DataFrame", Sequence[Any]], "pd.DataFrame"]

EXACT_FLOAT = 2**53  # floats represent every integer up to here exactly
TYPE_EXPECTATIONS = frozenset({"expect_column_values_to_be_of_type", "expect_column_values_to_be_in_type_list"})
MOMENT_EXPECTATIONS = frozenset(
    f"expect_column_{figure}"
    for figure in ("mean_to_be_between", "sum_to_be_between", "stdev_to_be_between", "value_z_scores_to_be_less_than")
)
NO_COLUMN = "the table has no column"
_COLUMN_OPTIONS = ("column", "column_A", "column_B", "column_list")
_RESULT_FORMAT = {"return_unexpected_index_query": False, "partial_unexpected_count": 20}


@dataclass(frozen=True)
class Outcome:
    """The outcome of one expectation.

    Attributes:
        configuration: the expectation, as Great Expectations describes it.
        success: whether it passed.
        result: its numbers; ``unexpected_index_list`` holds row positions where rows were requested.
        problem: why it could not be computed; empty otherwise.
        extent: smallest and largest value of the column, for an expectation about its range; None for others.
    """

    configuration: Any
    success: bool
    result: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    extent: tuple[Any, Any] | None = None


def configurations_of(suite: Any) -> list[Any]:
    """Return the expectations of a suite, or of a list of them, as separate configurations.

    Raises:
        ConfigError: no suite, or one without expectations.
    """
    import great_expectations as gx
    from great_expectations.expectations.expectation import Expectation

    expectations = suite.expectations if isinstance(suite, gx.ExpectationSuite) else suite
    if not isinstance(expectations, Sequence) or isinstance(expectations, str):
        raise ConfigError(f"a suite is a gx.ExpectationSuite or a list of expectations, got {type(suite).__name__}")
    for expectation in expectations:
        if not isinstance(expectation, Expectation):
            raise ConfigError(f"a suite holds expectations of great_expectations, got {type(expectation).__name__}")
    if not expectations:
        raise ConfigError("the suite has no expectations: a table cannot pass or fail it")
    configurations = [expectation.configuration for expectation in expectations]
    parameters = getattr(suite, "suite_parameters", None)
    for configuration in configurations:
        configuration.process_suite_parameters(parameters, interactive_evaluation=True, data_context=None)
    return configurations


def columns_of(configuration: Any) -> list[str]:
    """Return the columns an expectation names, in its order; none for one about the whole table."""
    named: list[str] = []
    if configuration.type.startswith("expect_table"):  # its list of columns is what it expects
        return named
    for option in _COLUMN_OPTIONS:
        value = configuration.kwargs.get(option)
        named += [value] if isinstance(value, str) else list(value or ())
    return named


def outcomes(frame: pd.DataFrame, configurations: Sequence[Any], *, rows: bool = False) -> list[Outcome]:
    """Evaluate expectations, in their order.

    Args:
        frame: (rows, columns); neither changed nor hashed.
        configurations: from `configurations_of`.
        rows: whether to find the position of every failing row.

    Returns:
        One outcome for each configuration.

    Source: `great_expectations.validator.validator.Validator.graph_validate` on a `PandasExecutionEngine`.
    """
    found: dict[int, Outcome] = {}
    for place, configuration in enumerate(configurations):
        if missing := missing_column(frame.columns, configuration):
            found[place] = Outcome(configuration, success=False, problem=missing)
    result_format = _RESULT_FORMAT | {"result_format": "COMPLETE" if rows else "BASIC"}
    left = [(place, configuration) for place, configuration in enumerate(configurations) if place not in found]
    for view, items in _by_view(left).items():
        found |= _evaluated(view(frame, [configuration for _, configuration in items]), items, result_format)
    ordered = [found[place] for place in range(len(configurations))]
    return ordered if rows else [replace(outcome, extent=_extent(outcome, frame)) for outcome in ordered]


def _by_view(items: Iterable[tuple[int, Any]]) -> dict[View, list[tuple[int, Any]]]:
    """Group expectations by the view of the table that they need."""
    grouped: dict[View, list[tuple[int, Any]]] = {}
    for item in items:
        kind = item[1].type
        view = _typed_view if kind in TYPE_EXPECTATIONS else _float_view if kind in MOMENT_EXPECTATIONS else _plain_view
        grouped.setdefault(view, []).append(item)
    return grouped


def _extent(outcome: Outcome, frame: pd.DataFrame) -> tuple[Any, Any] | None:
    """Return the smallest and largest value of the column, which shows how far a range was missed."""
    configuration = outcome.configuration
    if configuration.type != "expect_column_values_to_be_between" or configuration.kwargs.get("row_condition"):
        return None
    if outcome.problem:
        return None
    values = frame[configuration.kwargs["column"]].dropna()
    try:
        return (values.min(), values.max()) if len(values) else None
    except TypeError:
        return None


def missing_column(columns: Iterable[Any], configuration: Any) -> str:
    """Describe the first missing column of an expectation; empty where none is missing."""
    if configuration.type == "expect_column_to_exist":
        return ""
    names = list(columns)
    for column in columns_of(configuration):
        if column not in names:
            return no_column(column, names)
    return ""


def no_column(column: str, columns: Iterable[Any]) -> str:
    """Describe a missing column, with similar names of existing ones."""
    nearest = str(unknown_name("column", column, map(str, columns))).partition(": ")[2]
    return f"{NO_COLUMN} {column!r}; {nearest}"


def _with_time_bounds(configuration: Any, values: pd.Series) -> None:
    """Convert bounds so that they compare with times: Great Expectations reads ``"2013-02-01"`` as a date."""
    import datetime as dt

    import pandas as pd

    dtype: Any = values.dtype
    if not pd.api.types.is_datetime64_any_dtype(dtype):
        return
    for option in ("min_value", "max_value"):
        bound = configuration.kwargs.get(option)
        if isinstance(bound, (str, dt.date)):
            moment = pd.Timestamp(bound)
            zone = getattr(dtype, "tz", None)
            configuration.kwargs[option] = moment.tz_localize(zone) if zone and moment.tzinfo is None else moment


def _evaluated(frame: pd.DataFrame, items: list[tuple[int, Any]], result_format: dict[str, Any]) -> dict[int, Outcome]:
    from great_expectations.execution_engine import PandasExecutionEngine
    from great_expectations.validator.validator import Validator

    engine = PandasExecutionEngine()
    engine.load_batch_data("table", frame)
    validator = Validator(execution_engine=engine)
    validator.metrics_calculator.show_progress_bars = False
    for place, configuration in items:
        configuration.id = str(place)  # results come back in an order of their own
        if configuration.kwargs.get("column") in frame.columns:
            _with_time_bounds(configuration, frame[configuration.kwargs["column"]])
    results = validator.graph_validate(
        [configuration for _, configuration in items],
        runtime_configuration={"result_format": result_format, "catch_exceptions": True},
    )
    by_place = {int(result.expectation_config.id): result for result in results}
    return {
        place: Outcome(
            configuration,
            success=bool(by_place[place].success),
            result=dict(by_place[place].result or {}),
            problem=_problem(by_place[place].exception_info),
        )
        for place, configuration in items
    }


def _problem(info: Any) -> str:
    """Return why an expectation could not be computed; the shape differs between one failing metric and several.

    Of several, the first in alphabetical order: theirs depends on the other expectations.
    """
    if not isinstance(info, dict):
        return ""
    entries = [info] if "exception_message" in info else list(info.values())
    messages = [
        getattr(entry, "exception_message", None) or (isinstance(entry, dict) and entry["exception_message"])
        for entry in entries
    ]
    return one_line(min((one_line(message, None) for message in messages if message), default=""))


def _view(frame: pd.DataFrame, configurations: Sequence[Any]) -> pd.DataFrame:
    """Return the columns that are needed, with row positions as the index.

    Repeated index values would make Great Expectations select wrong rows.
    """
    import pandas as pd

    named = {column for configuration in configurations for column in columns_of(configuration)}
    all_columns = any(needs_all_columns(configuration) for configuration in configurations)
    columns = [column for column in frame.columns if all_columns or column in named]
    view = frame[columns].copy(deep=False)
    view.index = pd.RangeIndex(len(frame))
    view.attrs = {}
    return view


def needs_all_columns(configuration: Any) -> bool:
    """Check whether an expectation may use columns that it does not name."""
    about_rows = configuration.type.startswith("expect_table_row_count")
    return not (columns_of(configuration) or about_rows) or bool(configuration.kwargs.get("row_condition"))


def _typed_view(frame: pd.DataFrame, configurations: Sequence[Any]) -> pd.DataFrame:
    """Keep types, but make text Python strings: no type name of Great Expectations matches pandas 3's ``str``."""
    import pandas as pd

    view = _view(frame, configurations)
    return _replaced(
        view, {name: view[name].astype(object) for name in view if isinstance(view[name].dtype, pd.StringDtype)}
    )


def _plain_view(frame: pd.DataFrame, configurations: Sequence[Any]) -> pd.DataFrame:
    """Convert every column to a NumPy type: with others the engine is wrong, or slow as it loops over values."""
    view = _view(frame, configurations)
    plain = {name: _plain_column(view[name]) for name in view}
    return _replaced(view, {name: values for name, values in plain.items() if values is not None})


def _float_view(frame: pd.DataFrame, configurations: Sequence[Any]) -> pd.DataFrame:
    """Convert decimals to floats, too.

    Great Expectations converts them itself for these aggregates, but walks over the call stack for each value, fails
    on a missing one, and accepts no decimals for z-scores.
    """
    from pandas.api import types

    view = _plain_view(frame, configurations)
    decimals = [name for name in view if types.infer_dtype(view[name], skipna=True) == "decimal"]
    try:
        return _replaced(view, {name: view[name].astype("float64") for name in decimals})
    except ValueError:  # a signalling NaN: Great Expectations reports it, with its column
        return view


def _replaced(view: pd.DataFrame, columns: dict[Any, pd.Series]) -> pd.DataFrame:
    return view.assign(**columns) if all(isinstance(name, str) for name in columns) else view


def _plain_column(values: pd.Series) -> pd.Series | None:
    """Return the values in the NumPy type the engine computes with; None where they have it already."""
    import pandas as pd
    from pandas.api import types

    dtype: Any = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        members = dtype.categories.dtype
        # Integers and booleans of NumPy have no missing values.
        no_room = members.kind in "biu" and bool(values.isna().any())
        inner = values.astype(object if no_room or not len(dtype.categories) else members)
        plain = _plain_column(inner)
        return inner if plain is None else plain
    if types.is_bool_dtype(dtype):
        return None if str(dtype) == "bool" else _as_objects(values)
    if types.is_integer_dtype(dtype):
        return _plain_integers(values)
    if types.is_float_dtype(dtype):
        return None if dtype == "float64" else values.astype("float64")
    if types.is_datetime64_any_dtype(dtype) and getattr(dtype, "unit", "") != "ns":
        return _in_nanoseconds(values)
    return None


def _plain_integers(values: pd.Series) -> pd.Series | None:
    if str(values.dtype) == "int64":
        return None
    if not values.isna().any():
        return values.astype("int64") if values.max() < 2**63 else values.astype(object)
    exact = not values.count() or bool(values.abs().max() <= EXACT_FLOAT)
    return values.astype("float64") if exact else _as_objects(values)


def _as_objects(values: pd.Series) -> pd.Series:
    plain = values.astype(object)
    plain[values.isna()] = None
    return plain


def _in_nanoseconds(values: pd.Series) -> pd.Series | None:
    """Return times in nanoseconds, which the engine compares vectorised; None for years out of their range."""
    import pandas as pd

    try:
        return pd.Series(values.dt.as_unit("ns"), copy=False)
    except (pd.errors.OutOfBoundsDatetime, AttributeError, OverflowError):
        return None
