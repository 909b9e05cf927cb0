-- When a table has been counted, or vacuumed, each statement that names it is planned anew, on each connection: up to
-- 8 ms for the longest, in which no step completes. Under load that was done to table after table, whenever
-- autovacuum came by.
--
-- Hot statements find rows by key, whatever was counted. So the tables that move are counted again, and vacuumed for
-- what was inserted, when they have about doubled, and dead rows are cleared away by fifty thousands. Leases, which
-- are read whole, and queues are vacuumed as before.
--
-- A vacuum, too, notes how many rows there are, and the share is of these. So it may not be more than the changes that
-- a row has on its way between two vacuums: else the next count is never due.
DO $$
DECLARE
    relation regclass;
    share    integer;
BEGIN
    FOR relation, share IN VALUES
        ('task_details'::regclass, 1), ('task_identities', 1), ('task_search', 1), ('limited_tasks', 1),
        ('step_results', 1), ('step_checkpoints', 1), ('tasks', 2), ('steps', 2)
    LOOP
        EXECUTE format(
            'ALTER TABLE %s SET (
                autovacuum_analyze_threshold = 200000, autovacuum_analyze_scale_factor = %s,
                autovacuum_vacuum_insert_threshold = 200000, autovacuum_vacuum_insert_scale_factor = 1
            )',
            relation, share
        );
    END LOOP;
END
$$;

-- Lists of tasks are planned by what it holds: it is counted first as early as before.
ALTER TABLE task_search SET (autovacuum_analyze_threshold = 20000);

ALTER TABLE tasks SET (autovacuum_vacuum_threshold = 50000);
ALTER TABLE steps SET (autovacuum_vacuum_threshold = 50000);
ALTER TABLE task_search SET (autovacuum_vacuum_threshold = 50000);
