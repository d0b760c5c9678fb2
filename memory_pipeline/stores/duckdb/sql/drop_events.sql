DELETE FROM events WHERE list_contains($days, day)
