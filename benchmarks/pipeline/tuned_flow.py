"""Contestant c': the best script by hand as a flow, without caching and without results, for a tuned worker."""

from __future__ import annotations

import functools
import time
from pathlib import Path

import by_hand
import recipe
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

plain = functools.partial(task, cache_policy=NO_CACHE, persist_result=False)
read = plain(by_hand.read)
validate = plain(by_hand.validate)
prepare = plain(recipe.prepare)
train = plain(by_hand.train)
evaluate = plain(by_hand.evaluate)
find_champion = plain(by_hand.find_champion)
passes = plain(by_hand.passes)
log = plain(by_hand.log)
draw_drift = plain(by_hand.draw_drift)


@plain
def promote(name: str, version: str) -> None:
    """Make a version champion."""
    by_hand.MlflowClient().set_registered_model_alias(name, "champion", version)


@flow(persist_result=False)
def pipeline(folder: str, name: str, page: str, stamp: str = "") -> None:
    """Do it all, in order."""
    if stamp:
        Path(stamp).write_text(str(time.time()))
    rows = read(folder)
    validate(rows)
    table = prepare(rows)
    train_rows, test = by_hand.split(table)
    model = train(train_rows)
    scores = evaluate(model, test)
    promoted = passes(scores, find_champion(name), test)
    version = log(model, scores, test, name)
    draw_drift(table, page)
    if promoted:
        promote(name, version)
