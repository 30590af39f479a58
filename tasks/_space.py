"""What a search may try: a declared space made into Optuna's distributions, with every mistake named."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prefect_mlops.core.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from prefect_mlops.tracking.trials import Scalar

MAX_LISTED = 10_000  # combinations distinguished one by one; in a larger space chance hardly ever repeats one
_HOW = "give a list of choices, a (low, high) pair of whole numbers or of floats, or an Optuna distribution"


def distributions_of(space: Mapping[str, Any], estimator: Any) -> dict[str, BaseDistribution]:
    """Make a declared space into distributions, in the order of their names.

    Args:
        space: what to try, by parameter name.
        estimator: whose parameters they are.

    Returns:
        Optuna distribution by parameter name.

    Raises:
        ConfigError: a name the estimator does not have, or a value that is no choice, range or distribution.
    """
    known = estimator.get_params(deep=True)
    for name in space:
        if name not in known:
            owner = type(estimator).__name__
            raise ConfigError(f"space: {unknown_name(f'parameter of {owner}', str(name), known)}")
    return {name: _distribution(f"space[{name!r}]", space[name]) for name in sorted(space)}


def identity(params: Mapping[str, Scalar]) -> str:
    """Spell out a combination, equal for equal ones."""
    return json.dumps(dict(params), sort_keys=True)


def combinations(space: Mapping[str, BaseDistribution]) -> int | None:
    """Count the combinations there are; None for more than can be listed."""
    count = 1
    for distribution in space.values():
        values = _values(distribution)
        if values is None:
            return None
        count *= len(values)
    return count if count <= MAX_LISTED else None


def listed(space: Mapping[str, BaseDistribution]) -> Iterator[dict[str, Scalar]]:
    """List every combination of a space that `combinations` could count."""
    columns = [_values(distribution) or [] for distribution in space.values()]
    for row in itertools.product(*columns):
        yield dict(zip(space, row, strict=True))


def _values(distribution: BaseDistribution) -> list[Any] | range | None:
    """List the values of a distribution; None where they cannot be listed."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return range(distribution.low, distribution.high + 1, distribution.step)
    return None


def _distribution(where: str, given: Any) -> BaseDistribution:
    from optuna.distributions import BaseDistribution, CategoricalDistribution

    if isinstance(given, CategoricalDistribution):
        return _choices(where, list(given.choices))
    if isinstance(given, BaseDistribution):
        return given
    if isinstance(given, range) or hasattr(given, "tolist"):  # an array, as numpy.logspace makes them
        given = list(given) if isinstance(given, range) else given.tolist()
    if isinstance(given, list):
        return _choices(where, given)
    if isinstance(given, tuple):
        return _range(where, given)
    raise ConfigError(f"{where}: {_HOW}, got {given!r:.80}")


def _choices(where: str, given: list[Any]) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution

    choices = [_plain(choice) for choice in given]
    if not choices:
        raise ConfigError(f"{where}: there is nothing to choose from")
    for place, choice in enumerate(choices):
        if not isinstance(choice, (bool, int, float, str, type(None))) or not _finite(choice):
            raise ConfigError(f"{where}: a choice is text, a finite number, True, False or None, got {choice!r:.80}")
        if choice in choices[:place]:
            twin = choices[choices.index(choice)]
            raise ConfigError(f"{where}: the choices {twin!r} and {choice!r} are equal: leave one out")
    return CategoricalDistribution(choices)


def _range(where: str, given: tuple[Any, ...]) -> BaseDistribution:
    from optuna.distributions import FloatDistribution, IntDistribution

    ends = tuple(_plain(end) for end in given)
    kinds = {type(end) for end in ends}
    if len(ends) != 2 or kinds not in ({int}, {float}):  # noqa: PLR2004 - low and high
        mixed = len(ends) == 2 and kinds == {int, float}  # noqa: PLR2004 - low and high
        hint = f": write ({float(ends[0])}, {float(ends[1])})" if mixed else f": {_HOW}"
        raise ConfigError(f"{where}: {given!r:.80} is no pair of whole numbers or of floats{hint}")
    low, high = ends
    if not (_finite(low) and _finite(high)) or low > high:
        raise ConfigError(f"{where}: a range goes from a finite low to a finite high that is not below it, got {given}")
    return IntDistribution(low, high) if kinds == {int} else FloatDistribution(low, high)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") and hasattr(value, "dtype") else value


def _finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
