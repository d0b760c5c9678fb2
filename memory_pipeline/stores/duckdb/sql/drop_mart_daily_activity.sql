DELETE FROM mart_daily_activity WHERE list_contains($days, day)
