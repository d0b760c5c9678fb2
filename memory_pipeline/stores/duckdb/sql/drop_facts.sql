DELETE FROM facts WHERE list_contains($days, day)
