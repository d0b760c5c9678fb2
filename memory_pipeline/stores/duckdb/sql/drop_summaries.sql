DELETE FROM summaries WHERE list_contains($days, day)
