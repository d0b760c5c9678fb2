-- How fast is the pipeline, and how often does it fail?
--
-- A percentile can't be averaged over days; the worst day is what can be said of several. For a percentile over all
-- days ask `jobs` together with `job_days`, which counts the completed jobs that have left the ledger.
SELECT job_type,
       sum(jobs)::BIGINT AS jobs,
       round(sum(failed) / sum(jobs), 4) AS failure_rate,
       sum(open)::BIGINT AS open,
       round(sum(attempts) / sum(jobs), 2) AS attempts_per_job,
       round(max(lag_p50_seconds), 3) AS worst_day_p50_seconds,
       round(max(lag_p95_seconds), 3) AS worst_day_p95_seconds
FROM mart_pipeline_response
GROUP BY job_type
ORDER BY jobs DESC, job_type
