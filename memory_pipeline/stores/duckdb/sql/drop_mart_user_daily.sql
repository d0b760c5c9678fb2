DELETE FROM mart_user_daily WHERE list_contains($days, day)
