"""The asset `consistency_audit`."""

from __future__ import annotations
