-- Where the end of a table is empty, as a queue's is after a peak, VACUUM gives its pages back, and locks the table
-- against everybody while it looks at them: births and results waited for 0.15 s. They are written again soon.
CREATE FUNCTION keep_pages(relation regclass) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    -- Asked first: ALTER TABLE would wait for a VACUUM to find out.
    IF EXISTS (
        SELECT FROM pg_class
        WHERE oid = relation AND NOT coalesce(reloptions @> '{vacuum_truncate=false}', false)
    ) THEN
        EXECUTE format('ALTER TABLE %s SET (vacuum_truncate = false, toast.vacuum_truncate = false)', relation);
    END IF;
END
$$;

SELECT keep_pages(name::regclass) FROM unnest(ARRAY[
    'tasks', 'task_details', 'task_identities', 'task_search', 'limited_tasks', 'steps',
    'step_results', 'step_checkpoints', 'leases', 'held_steps', 'limit_grants'
]) AS name;
SELECT keep_pages(format('pgmq.%I', 'q_' || queue_name)::regclass) FROM pgmq.meta
WHERE queue_name ~ '^(orchestration_.*|worker_.*_queue|.*_domain_events)$';
