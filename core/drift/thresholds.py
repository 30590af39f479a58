"""Every threshold and level of significance of drift, with its unit and its reason; the table is in docs/drift.md.

The limits a model's spec may set have their defaults in `core.specs.policies`, which stands below this package; the
default of `min_change` is taken from there. That of `max_drifted_share` is read by `core.drift.detection` only.
"""

from __future__ import annotations

from prefect_mlops.core.specs.policies import Drift

# Levels of significance: chances of a false alarm while nothing changes.
REPORT_ALPHA = 0.01  # of any drifted column in a report without alpha spending: daily reports err 3 times a year
MONITORING_ALPHA = 0.05  # of any false alarm over all monitoring runs of a champion, for each kind of run
EMPTY_COLUMN_P = 0.001  # of a column without a value, were values as often missing as before: below, it is broken

# Effect sizes.
MIN_CHANGE = Drift().min_change  # distance, 0 to 1: models rarely notice fewer than a tenth of the rows elsewhere
SHARE_FACTOR = 0.5  # times `min_change`, for shares of rows that are missing, unseen or out of range: they are lost

# Smallest samples: below these a question is not asked.
MIN_ROWS = 30  # values a side; with fewer even a distance of 0.5 could be chance once corrected
MIN_EXPECTED = 5.0  # rows expected in a cell of chi-squared (Cochran's rule); rarer cells are pooled
HOUR_DAYS = 7  # days a side spans before hours are compared: shorter spans hold some weekdays only
WEEKDAY_DAYS = 28  # days a side spans before weekdays are compared: in fewer, one more of a weekday is a change

# The block baseline: which blocks of the training rows are compared with all of them.
SMALLEST_BLOCK = 250  # rows; the sizes of smaller blocks are mostly chance, which the tests cover
LARGEST_BLOCK = 64_000  # rows; beyond, the size shrinks with the root of the rows and need not be measured
BLOCK_GROWTH = 2  # factor from one length of blocks to the next
MAX_BLOCKS = 25  # of each length; a block like them exceeds the largest of 25 in one of 26 cases
MIN_BLOCKS = 4  # that fit into the rows; longer blocks are most of the table and say little about another time
