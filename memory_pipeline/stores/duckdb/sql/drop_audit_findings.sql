DELETE FROM audit_findings WHERE list_contains($days, day)
