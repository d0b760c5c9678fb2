DELETE FROM memories WHERE list_contains($days, day)
