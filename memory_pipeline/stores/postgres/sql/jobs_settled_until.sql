-- Nothing that was finished before this moment can become visible any more: a job is finished after its transaction began
-- to write, so what is not committed yet is later than the beginning of the oldest transaction that writes. (Not the clock:
-- who begins to write after this looked around and commits before it reads the clock would be left out.)
SELECT least(now(), min(xact_start))
FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND backend_xid IS NOT NULL
