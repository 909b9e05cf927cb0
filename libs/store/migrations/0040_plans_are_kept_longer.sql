-- When a table has been counted, or vacuumed, each statement that names it is planned anew, on each connection: 5 to
-- 8 ms for the longest, in which no step completes. Under load that was done to table after table, whenever
-- autovacuum came by.
--
-- Hot statements find rows by key, whatever was counted. So the tables that move are counted again, and their pages
-- without dead rows visited, when about as much has come as they had, and dead rows are cleared away by fifty
-- thousands. Leases, which are read whole, are vacuumed as before.
DO $$
DECLARE
    relation regclass;
BEGIN
    FOREACH relation IN ARRAY ARRAY[
        'tasks', 'task_details', 'task_identities', 'task_search', 'limited_tasks', 'steps', 'step_results',
        'step_checkpoints'
    ]::regclass[] LOOP
        EXECUTE format(
            'ALTER TABLE %s SET (
                autovacuum_analyze_threshold = 200000, autovacuum_analyze_scale_factor = 2,
                autovacuum_vacuum_insert_threshold = 200000, autovacuum_vacuum_insert_scale_factor = 1
            )',
            relation
        );
    END LOOP;
END
$$;

-- Lists of tasks are planned by what it holds: it is counted first as early as before.
ALTER TABLE task_search SET (autovacuum_analyze_threshold = 20000);

ALTER TABLE tasks SET (autovacuum_vacuum_threshold = 50000);
ALTER TABLE steps SET (autovacuum_vacuum_threshold = 50000);
ALTER TABLE task_search SET (autovacuum_vacuum_threshold = 50000);
