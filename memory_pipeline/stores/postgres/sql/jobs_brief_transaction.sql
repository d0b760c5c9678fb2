-- What holds for the rest of a transaction that claims or publishes, and does nothing else:
-- * Jobs are reached by their indexes, in order. The share of open jobs changes faster than any statistics; without this
--   the planner takes twenty thousand of them for eighty, and reads and sorts them all to claim one.
-- * The commit does not wait for the disk. If Postgres crashes and loses it, a claim was never made (its finish is
--   discarded, the job is done again) and a job is published once more.
-- * A client that is suspended in the middle is thrown out, and its locks are gone.
SELECT set_config(setting, value, true)
FROM (VALUES ('enable_seqscan', 'off'),
             ('enable_bitmapscan', 'off'),
             ('enable_sort', 'off'),
             ('enable_hashjoin', 'off'),
             ('enable_mergejoin', 'off'),
             ('synchronous_commit', 'off'),
             ('idle_in_transaction_session_timeout', '60s')) AS brief (setting, value)
