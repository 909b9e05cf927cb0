-- A plan is kept for as long as the statistics it was made with. While a table has never been counted,
-- PostgreSQL takes it for middling, and looks rows up by their keys; counted when it held ten, it may be
-- read whole for each batch, until it is counted again. So the hot tables are not counted before they
-- are large.
ALTER TABLE tasks SET (autovacuum_analyze_threshold = 20000, autovacuum_vacuum_insert_threshold = 20000);
ALTER TABLE steps SET (autovacuum_analyze_threshold = 20000, autovacuum_vacuum_insert_threshold = 20000);
ALTER TABLE step_results
    SET (autovacuum_analyze_threshold = 20000, autovacuum_vacuum_insert_threshold = 20000);
ALTER TABLE task_details
    SET (autovacuum_analyze_threshold = 20000, autovacuum_vacuum_insert_threshold = 20000);
ALTER TABLE task_search
    SET (autovacuum_analyze_threshold = 20000, autovacuum_vacuum_insert_threshold = 20000);
-- What holds nothing most of the time is never counted.
ALTER TABLE leases SET (autovacuum_analyze_threshold = 2147483647);
ALTER TABLE held_steps SET (autovacuum_analyze_threshold = 2147483647);
ALTER TABLE limit_grants SET (autovacuum_analyze_threshold = 2147483647);
