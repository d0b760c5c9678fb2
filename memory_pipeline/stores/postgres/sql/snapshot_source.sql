-- Which moment of which database a transaction sees.
SELECT installation_id,
       (SELECT system_identifier::text FROM pg_control_system()) || '/'
           || (SELECT timeline_id::text FROM pg_control_checkpoint()) || '/' || current_database() AS database,
       (SELECT max(version) FROM migration_history) AS schema_version,
       pg_current_snapshot()::text AS snapshot, clock_timestamp() AS taken_at, pg_export_snapshot() AS shared
FROM installation
