from __future__ import annotations

import pandas as pd
import pytest

from prefect_mlops.tasks.splitting import split_table


def test_run_names_say_table_and_way() -> None:
    parameters = {"table": pd.DataFrame(), "order_by": None, "group_by": None, "key": ()}
    assert split_table.task_run_name(parameters) == "split-table-by-features"
    assert split_table.task_run_name(parameters | {"key": ["shop", "day"]}) == "split-table-by-shop, day"
    assert split_table.task_run_name(parameters | {"order_by": "hour"}) == "split-table-by-hour"


@pytest.mark.usefixtures("prefect_api")
def test_split_runs_as_a_task() -> None:
    rides = pd.DataFrame({"hour": range(100), "km": range(100), "late": [True, False] * 50})
    result = split_table(rides, "late", order_by="hour")
    assert len(result.y_train) == 80
