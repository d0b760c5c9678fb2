"""Indexing: Chroma is brought to what Postgres holds, one collection per tenant and model, one writer per collection.

Every write reads the present row, so repeating, overlapping or reordering runs ends in the same index. See
docs/decisions/index-entries.md for the order of writes and for what happens when a collection is lost.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Literal
from uuid import UUID

import msgspec

from memory_pipeline.model.errors import MemoryPipelineError, StoreUnavailableError
from memory_pipeline.model.window import DayWindow, Progress, Selection, no_progress
from memory_pipeline.stages.indexer import Indexer
from memory_pipeline.stages.vector_writer import RecoveryUnfinishedError, TenantIndexReport
from memory_pipeline.stores.chroma.connection import ChromaFailingError
from memory_pipeline.stores.chroma.store import ChromaStore
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.due import MemoryKey, keys_of, named_and_facts
from memory_pipeline.stores.postgres.index import Scope, tenants_of_named, tenants_to_index
from memory_pipeline.stores.postgres.planner import inform_planner
from memory_pipeline.stores.postgres.writer_lock import WriterBusyError

Documents = Literal["full", "none"]

BATCH_ROWS = 2_000
"""Vectors per request; 500 or 5,000 were slower."""


class IndexReport(msgspec.Struct):
    """What one indexing did."""

    tenants: dict[UUID, TenantIndexReport] = msgspec.field(default_factory=dict)
    """Every tenant that has an index, also where there was nothing to do."""
    held: list[UUID] = msgspec.field(default_factory=list)
    """Tenants left for later, where memories were named: another run writes their index, or it is built again."""
    seconds: float = 0.0

    @property
    def added(self) -> int:
        return sum(tenant.added for tenant in self.tenants.values())

    @property
    def updated(self) -> int:
        return sum(tenant.updated for tenant in self.tenants.values())

    @property
    def removed(self) -> int:
        return sum(tenant.removed for tenant in self.tenants.values())

    @property
    def rebuilt(self) -> list[UUID]:
        """Tenants whose collection was lost and built anew."""
        return [tenant_id for tenant_id, tenant in self.tenants.items() if tenant.rebuilt]

    @property
    def refused(self) -> dict[MemoryKey, MemoryPipelineError]:
        """Memories that could not be written because of what is in them."""
        return {
            (tenant_id, memory_id): error
            for tenant_id, tenant in self.tenants.items()
            for memory_id, error in tenant.refused.items()
        }


class IndexFailedError(MemoryPipelineError):
    """The indexes of some tenants could not be written, or some memories of a tenant; the others were."""

    def __init__(self, report: IndexReport, failures: dict[UUID, MemoryPipelineError]) -> None:
        tenants = [f"tenant {tenant_id}: {error}" for tenant_id, error in failures.items()]
        memories = [f"memory {key[1]} of tenant {key[0]}: {error}" for key, error in report.refused.items()]
        super().__init__("; ".join(tenants + memories))
        self.report = report
        self.failures = failures
        """By tenant; what single memories made fail is in `report.refused`."""


def index_memories(
    database: Database,
    chroma: ChromaStore,
    model: str,
    dimension: int,
    selection: Selection,
    *,
    documents: Documents = "full",
    tenants: Collection[UUID] | None = None,
    progress: Progress = no_progress,
    batch_rows: int = BATCH_ROWS,
) -> IndexReport:
    """Write what is new or changed of the selection to every tenant's collection, and remove what was deleted.

    Of named memories: each of them, and every fact found in them, and nothing else. With a window, a memory of
    another day that changed since it was indexed is brought up to date too, because what is said today may end a fact
    of last year; and so are the summaries of the weeks around the window.

    `database` is connected as memory_pipeline; `tenants` narrows the run to some of them. A tenant whose live
    collection is lost (or of another dimension) gets a new one with all days. `progress` is told of vectors written. A
    tenant that fails does not keep the others from being indexed, nor does a memory that Chroma refuses;
    IndexFailedError tells of them at the end. Raises StoreUnavailableError at once where a server is away; one that
    answers that it can't may do so for a single collection, and counts as a failure of that tenant.
    """
    report = IndexReport()
    started = time.monotonic()
    indexer = Indexer(database, chroma, model, dimension, documents == "full", progress, batch_rows)
    failures: dict[UUID, MemoryPipelineError] = {}
    for tenant_id, scope in _scopes(database, model, selection).items():
        if tenants is not None and tenant_id not in tenants:
            continue
        try:
            report.tenants[tenant_id] = indexer.index_tenant(tenant_id, scope)
        except (WriterBusyError, RecoveryUnfinishedError):
            if isinstance(selection, DayWindow):
                raise
            report.held.append(tenant_id)
        except ChromaFailingError as error:
            failures[tenant_id] = error
        except StoreUnavailableError:
            raise
        except MemoryPipelineError as error:
            failures[tenant_id] = error
    report.seconds = time.monotonic() - started
    if failures or report.refused:
        raise IndexFailedError(report, failures)
    return report


def _scopes(database: Database, model: str, selection: Selection) -> dict[UUID, Scope]:
    """What there is to look at, by tenant."""
    if isinstance(selection, DayWindow):
        inform_planner(database)
        with database.transaction() as connection:
            return dict.fromkeys(tenants_to_index(connection, model, selection), selection)
    with database.transaction() as connection:
        # Those that are gone were named too: what the index has of them must leave it.
        keys = sorted({*keys_of(selection), *named_and_facts(connection, selection)})
        tenants = tenants_of_named(connection, model, keys)
    return {tenant_id: [memory_id for owner, memory_id in keys if owner == tenant_id] for tenant_id in tenants}


def rebuild_index(
    database: Database,
    chroma: ChromaStore,
    model: str,
    dimension: int,
    tenant_id: UUID,
    *,
    documents: Documents = "full",
    progress: Progress = no_progress,
    batch_rows: int = BATCH_ROWS,
) -> TenantIndexReport:
    """Build a tenant's collection anew from Postgres, verify it, switch to it, and delete the one it replaces.

    The old collection is served and indexed until the switch. An unfinished rebuild of before is thrown away. Raises
    MemoryPipelineError, and leaves the old collection live, where the new one does not hold what it should.
    """
    return Indexer(database, chroma, model, dimension, documents == "full", progress, batch_rows).rebuild(tenant_id)
