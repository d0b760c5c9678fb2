DELETE FROM mart_cost_daily WHERE list_contains($days, day)
