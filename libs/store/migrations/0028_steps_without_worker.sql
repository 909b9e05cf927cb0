-- The steps that wait for a worker though no connected one has their handler, by namespace: in the worker
-- queues, and held by limits. Not those of tasks and templates that are paused, which begin at no worker; nor
-- those that have moved on, whose messages are still there.
CREATE OR REPLACE FUNCTION steps_without_worker() RETURNS TABLE (namespace text, steps bigint)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    queue text;
BEGIN
    FOR queue IN SELECT queue_name FROM pgmq.meta WHERE queue_name ~ '^worker_.*_queue$' LOOP
        -- The handlers first: where each has a worker, no step is looked up.
        RETURN QUERY EXECUTE format($query$
            SELECT $1, count(*) FROM (
                SELECT callable FROM (SELECT DISTINCT message->>'callable' AS callable FROM pgmq.%1$I) AS waiting
                WHERE workers_for($1, callable) = 0
            ) AS stranded
            JOIN pgmq.%1$I ON message->>'callable' = callable
            -- By the step's key, in whatever order, here and below: a join may read all steps.
            WHERE (
                SELECT steps.state = 'enqueued' AND NOT paused
                    AND template_id NOT IN (SELECT template_id FROM paused_templates)
                FROM steps JOIN tasks USING (task_id)
                WHERE (steps.task_id, ordinal) = ((message->>'task_id')::uuid, (message->>'ordinal')::integer)
            )
            HAVING count(*) > 0
        $query$, 'q_' || queue) USING regexp_replace(queue, '^worker_(.*)_queue$', '\1');
    END LOOP;
    RETURN QUERY
        SELECT held.namespace, count(*) FROM (
            SELECT waiting.namespace, waiting.callable FROM (
                SELECT DISTINCT held_steps.namespace, callable FROM held_steps WHERE limit_name IS NOT NULL
            ) AS waiting
            WHERE workers_for(waiting.namespace, waiting.callable) = 0
        ) AS stranded
        JOIN held_steps AS held USING (namespace, callable)
        WHERE limit_name IS NOT NULL AND (
            SELECT steps.state IN ('pending', 'enqueued') AND NOT is_end(tasks.state) AND NOT paused
                AND template_id NOT IN (SELECT template_id FROM paused_templates)
            FROM steps JOIN tasks USING (task_id)
            WHERE (steps.task_id, steps.ordinal) = (held.task_id, held.ordinal)
        )
        GROUP BY held.namespace;
END
$$;
