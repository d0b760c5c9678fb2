"""The Dagster code location: all that workspace.yaml names."""

from memory_pipeline.defs.assembly import build_definitions

defs = build_definitions()
