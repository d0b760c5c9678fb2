DROP VIEW temp.main.messages;
DROP VIEW temp.main.facts;
DROP VIEW temp.main.jobs;
DROP VIEW temp.main.job_days;
DROP VIEW temp.main.memory_access;
DROP VIEW temp.main.llm_usage;
