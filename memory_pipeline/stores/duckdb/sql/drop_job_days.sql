DELETE FROM job_days WHERE list_contains($days, day)
