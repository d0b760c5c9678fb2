DELETE FROM profiles WHERE list_contains($days, day)
