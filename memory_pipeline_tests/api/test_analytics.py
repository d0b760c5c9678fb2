"""Reports over HTTP: whose numbers they are, when they are new, and what is answered where there are none."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import duckdb
import pytest
import redis

from memory_pipeline.local.redis import RedisServer
from memory_pipeline.serving import analytics
from memory_pipeline.serving.analytics import AT_ONCE, Analytics, Asked
from memory_pipeline.settings import Settings
from memory_pipeline.stores.duckdb.generations import current_export, manifest_of
from memory_pipeline.stores.duckdb.publish import publish_duckdb
from memory_pipeline.stores.duckdb.query import QueryResult
from memory_pipeline.stores.duckdb.reports import reports, run_report
from memory_pipeline.stores.redis import keys
from memory_pipeline_tests.api.stack import ApiStack, api_stack, running
from memory_pipeline_tests.api.support import PREFIX, Json, Person, TestIssuer
from memory_pipeline_tests.local.host import Servers
from memory_pipeline_tests.local.inspect import until

pytestmark = pytest.mark.xdist_group("api_analytics")

REPORTS = f"{PREFIX}/analytics"
ACME, GLOBEX = (UUID(f"{digit * 8}-0000-4000-8000-{digit * 12}") for digit in "ab")
CANARY = "globex-canary"
"""In every text of the other tenant, down to the names of its stores and problems."""
FIRST_ROWS = {
    "daily_activity": ["2025-03-12", 3, 2, 2, 1],
    "memory_growth": ["2025-03-12", "episode", "active", 4, 9, 0.5],
    "retention": ["2025-03-10", 0, 2, 2, 1.0],
    "fact_churn": ["2025-03-12", 5, 1, 8],
    "pipeline_response": ["2025-03-12", "enrich", 4, 3, 1, 0, 0.25, 6, 3, 0.5, 2.5, 2.5],
    "data_quality": ["2025-03-12", "chroma", "missing", 7, 6, 1],
}
