"""Score a model, judge a challenger against the champion, and look for target leakage."""

from __future__ import annotations

from typing import Any

from prefect_mlops.core.evaluation import cross_validation, leakage, models
from prefect_mlops.tasks._step import step


def _evaluate_name(parameters: dict[str, Any]) -> str:
    return f"evaluate-{models.model_title(parameters['estimator'])}-on-{len(parameters['X'])}-rows"


def _judge_name(parameters: dict[str, Any]) -> str:
    return f"judge-{models.model_title(parameters['challenger'])}-on-{len(parameters['X'])}-rows"


def _leakage_name(parameters: dict[str, Any]) -> str:
    return f"check-leakage-in-{parameters['X'].shape[1]}-columns"


check_leakage = step(_leakage_name)(leakage.check_leakage)


def _judge_recipes_name(parameters: dict[str, Any]) -> str:
    return f"judge-recipe-of-{models.model_title(parameters['challenger'])}-on-{len(parameters['X'])}-rows"


judge_recipes = step(_judge_recipes_name)(cross_validation.judge_recipes)


evaluate_model = step(_evaluate_name)(models.evaluate_model)


judge_model = step(_judge_name)(models.judge_model)
