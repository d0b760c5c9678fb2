DELETE FROM mart_pipeline_response WHERE list_contains($days, day)
