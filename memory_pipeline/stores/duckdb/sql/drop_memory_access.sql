DELETE FROM memory_access WHERE list_contains($days, day)
