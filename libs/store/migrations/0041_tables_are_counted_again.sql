-- A vacuum, too, notes how many rows a table has, and the share that makes a count due is of these. So it may not be
-- more than the changes that a row has on its way between two vacuums: else the next count is never due. By twice the
-- rows, tables that a row enters once, and task_search, would not have been counted again after the first few times.
DO $$
DECLARE
    relation regclass;
BEGIN
    FOREACH relation IN ARRAY ARRAY[
        'task_details', 'task_identities', 'task_search', 'limited_tasks', 'step_results', 'step_checkpoints'
    ]::regclass[] LOOP
        EXECUTE format('ALTER TABLE %s SET (autovacuum_analyze_scale_factor = 1)', relation);
    END LOOP;
END
$$;
