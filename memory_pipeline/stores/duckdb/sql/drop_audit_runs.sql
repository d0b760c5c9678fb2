DELETE FROM audit_runs WHERE list_contains($days, day)
