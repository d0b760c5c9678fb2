"""Runs through `launch.materialize` on a real dagster-postgres instance and real stores."""

from __future__ import annotations

import time
import pytest

from memory_pipeline.defs.launch import Observer, RunReport, materialize
from memory_pipeline.model.window import DayWindow
from memory_pipeline_tests.defs.conftest import Deployment
from memory_pipeline_tests.defs.sample import DAYS, FIRST_DAY, WINDOW, add_sample, store_state

UNWATCHED = Observer(lambda name: None, lambda total, unit: None, lambda step: None)


def run(window: DayWindow, *assets: str) -> list[RunReport]:
    return list(materialize(assets, window, UNWATCHED))


def test_a_range_twice(deployment: Deployment) -> None:
    add_sample(deployment.settings)
    t = time.time()
    reports = run(WINDOW)
    print(time.time() - t)
    for r in reports:
        print(
            r.assets,
            r.succeeded,
            r.failed_checks,
            r.warnings,
            r.seconds,
            [(s.name, s.seconds, s.error) for s in r.steps],
        )
    t = time.time()
    for r in run(WINDOW):
        print(
            r.assets,
            r.succeeded,
            r.failed_checks,
            r.warnings,
            r.seconds,
            [(s.name, s.seconds, s.error) for s in r.steps],
        )
    print(time.time() - t)
    state = store_state(deployment.settings)
    print(
        [(m[5], m[6]) for m in state["memories"] if m[4] == "fact"],
        {k: len(v) for k, v in state.items() if hasattr(v, "__len__")},
    )
    assert 0
