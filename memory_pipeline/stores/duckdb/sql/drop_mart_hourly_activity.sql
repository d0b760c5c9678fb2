DELETE FROM mart_hourly_activity WHERE list_contains($days, day)
