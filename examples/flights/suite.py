"""What a file of New York departures has to look like; the suite of the flights example."""

from __future__ import annotations

from typing import Any

ORIGINS = ["EWR", "JFK", "LGA"]
CARRIERS = ["9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"]
REQUIRED = ["scheduled_departure", "carrier", "flight", "origin", "dest", "distance", "sched_dep_time"]


def flights_suite() -> Any:
    """Build the suite: plain Great Expectations, to be read and changed by people.

    Returns:
        A `great_expectations.ExpectationSuite`.
    """
    import great_expectations as gx
    from great_expectations import expectations as gxe

    return gx.ExpectationSuite(
        name="flights",
        expectations=[
            *(gxe.ExpectColumnValuesToNotBeNull(column=column) for column in REQUIRED),
            gxe.ExpectColumnValuesToBeInSet(column="origin", value_set=ORIGINS),
            gxe.ExpectColumnValuesToBeInSet(column="carrier", value_set=CARRIERS),
            # Clock times are written hhmm: 25 o'clock and 12:75 do not exist.
            gxe.ExpectColumnValuesToBeBetween(column="sched_dep_time", min_value=1, max_value=2359),
            # The shortest hop is 17 miles (Newark to LaGuardia), the longest goes to Honolulu.
            gxe.ExpectColumnValuesToBeBetween(column="distance", min_value=10, max_value=6000),
            gxe.ExpectColumnValuesToBeBetween(column="arr_delay", min_value=-180, max_value=2880),
            gxe.ExpectColumnValuesToBeBetween(column="temp", min_value=-40, max_value=130),
            gxe.ExpectColumnValuesToBeBetween(column="humid", min_value=0, max_value=100),
            gxe.ExpectColumnValuesToBeBetween(column="wind_speed", min_value=0, max_value=150),
            gxe.ExpectColumnValuesToBeBetween(column="visib", min_value=0, max_value=10),
            # Some stations report late; a quarter of the rows without weather means the join broke.
            gxe.ExpectColumnValuesToNotBeNull(column="temp", mostly=0.75, severity="warning"),
        ],
    )
