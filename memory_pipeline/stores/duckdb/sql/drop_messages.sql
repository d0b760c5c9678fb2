DELETE FROM messages WHERE list_contains($days, day)
