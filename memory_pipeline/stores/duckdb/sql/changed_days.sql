-- The changed days' rows of the tables that marts are made of day by day, under the tables' own names, which these hide
-- until changed_days_end. Of the variable changed_days (DATE[]); `memory` is the file under construction.
CREATE TEMP VIEW messages AS FROM memory.main.messages WHERE list_contains(getvariable('changed_days'), day);
CREATE TEMP VIEW facts AS FROM memory.main.facts WHERE list_contains(getvariable('changed_days'), day);
CREATE TEMP VIEW jobs AS FROM memory.main.jobs WHERE list_contains(getvariable('changed_days'), day);
CREATE TEMP VIEW job_days AS FROM memory.main.job_days WHERE list_contains(getvariable('changed_days'), day);
CREATE TEMP VIEW memory_access AS FROM memory.main.memory_access WHERE list_contains(getvariable('changed_days'), day);
CREATE TEMP VIEW llm_usage AS FROM memory.main.llm_usage WHERE list_contains(getvariable('changed_days'), day);
