DELETE FROM llm_usage WHERE list_contains($days, day)
