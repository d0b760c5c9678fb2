"""For whom a consumer's file is made, and of which rows: told by digests that say nothing of anybody else's rows.

Of the lake's files a consumer learns neither names (the days on which other tenants wrote) nor digests (by which a
guess at a masked text could be confirmed). Nor is a new file made where only other tenants' rows changed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from pathlib import Path
from uuid import UUID

import msgspec

from memory_pipeline.model.errors import ExportError
from memory_pipeline.stores import lake
from memory_pipeline.stores.duckdb.build import Scope, made_of
from memory_pipeline.stores.duckdb.generations import Manifest
from memory_pipeline.stores.duckdb.marts import PACKAGE
from memory_pipeline.stores.duckdb.soundness import EXPORT_LAKE_FIRST
from memory_pipeline.stores.sqlfiles import sql

_MEMORY_LIMIT = "512MB"


def scope_digest(scope: Scope) -> str:
    """Return what differs between two scopes: the tenant, whether masked, and under which key."""
    key = b"" if scope.mask_key is None else hashlib.sha256(b"scope" + scope.mask_key).digest()
    return hashlib.sha256(f"tenant {scope.tenant}\n".encode() + key).hexdigest()


def may_see(scope: Scope, manifest: Manifest) -> bool:
    """Return whether a published file has what this scope allows; of one that an older version made, as far as it says.

    That one says nothing of the key: its consumer had the file under any key before.
    """
    if manifest.scope:
        return manifest.scope == scope_digest(scope)
    return (manifest.tenant, manifest.masked) == (scope.tenant, scope.mask_key is not None)


class LakeRows:
    """The rows of the lake by tenant, looked through once for all consumers. Use it within `lake.reading`."""

    def __init__(self, lake_root: Path, manifest: lake.LakeManifest | None, consumers: Iterable[Scope]) -> None:
        """Raises ExportError where the lake can't be read."""
        self._made_of = msgspec.json.encode(made_of(manifest), order="sorted")
        self._tenants: dict[str, UUID] = {}
        self._digests: dict[UUID, bytes] = {}
        self._knows_tenants = manifest is not None and "tenants" in manifest.tables
        slugs = {scope.tenant for scope in consumers if scope.tenant is not None}
        if slugs:
            self._read(lake_root, manifest, slugs)

    def tenant_id(self, scope: Scope) -> UUID | None:
        """Return the id of the scope's tenant, None for all.

        Raises NoTenantError where the lake has no such tenant, ExportError where it does not say who there is.
        """
        if scope.tenant is None:
            return None
        if not self._knows_tenants:
            raise ExportError(
                f"the lake has no tenants, so it is not known whose rows the file of tenant {scope.tenant!r} should "
                f"have. {EXPORT_LAKE_FIRST}"
            )
        if scope.tenant not in self._tenants:
            raise NoTenantError(
                f"there is no tenant {scope.tenant!r} in the lake, so no file was made for it, and what there was is "
                "removed; mend MEMORY_EXPORT_CONSUMERS."
            )
        return self._tenants[scope.tenant]

    def digest(self, scope: Scope) -> str:
        """Return what tells whether the rows of a scope changed; keyed where they are masked."""
        tenant = self.tenant_id(scope)
        rows = self._made_of if tenant is None else self._digests[tenant]
        if scope.mask_key is None:
            return hashlib.sha256(rows).hexdigest()
        return hmac.new(scope.mask_key, b"rows " + rows, hashlib.sha256).hexdigest()

    def _read(self, lake_root: Path, manifest: lake.LakeManifest | None, slugs: set[str]) -> None:
        import duckdb

        try:
            with duckdb.connect(config={"memory_limit": _MEMORY_LIMIT}) as connection:
                paths = {
                    table: [str(path) for path in lake.lake_files(lake_root, manifest, table)] for table in lake.TABLES
                }
                if not paths["tenants"]:
                    return
                found = connection.execute(sql(PACKAGE, "tenants_of_lake"), {"files": paths["tenants"]}).fetchall()
                self._tenants = {slug: UUID(str(id_)) for slug, id_ in found if slug in slugs}
                asked = list(self._tenants.values())
                rows: dict[UUID, list[tuple[str, int, int]]] = {tenant: [] for tenant in asked}
                for table, files in paths.items():
                    if files:
                        parameters: Mapping[str, object] = {"files": files, "tenants": asked}
                        counted = connection.execute(sql(PACKAGE, "rows_of_tenants"), parameters).fetchall()
                        for tenant, count, digest in counted:
                            rows[UUID(str(tenant))].append((table, int(count), int(digest)))
        except duckdb.Error as error:
            raise ExportError(
                f"the lake can't be read: {str(error).strip()}. The last exports of consumers are still served."
            ) from error
        self._digests = {
            tenant: "\n".join(f"{table} {count} {digest:x}" for table, count, digest in tables).encode()
            for tenant, tables in rows.items()
        }


class NoTenantError(ExportError):
    """The tenant of a consumer is not in the lake (any more)."""
