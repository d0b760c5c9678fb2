DELETE FROM mart_recall_use WHERE list_contains($days, day)
