DELETE FROM memory_relationships WHERE list_contains($days, day)
