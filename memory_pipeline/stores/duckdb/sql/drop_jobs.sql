DELETE FROM jobs WHERE list_contains($days, day)
