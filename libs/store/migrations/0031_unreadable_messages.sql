-- What is made of messages that the mesh would not write: whatever somebody has put into a queue, no look into
-- it fails, and what was parked is known by what it names.

-- What a message says of itself, if it says what can be meant.
CREATE FUNCTION uuid_in(said text) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE WHEN said ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN said::uuid END
$$;

CREATE FUNCTION ordinal_in(said text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
SELECT CASE WHEN said ~ '^[0-9]{1,9}$' THEN said::integer END
$$;

-- As in 0028, whatever the messages say.
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
                WHERE (steps.task_id, ordinal) = (uuid_in(message->>'task_id'), ordinal_in(message->>'ordinal'))
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

-- Of which queue a message was parked that nothing has come of since: its step, or without an ordinal its task,
-- has not moved, and no dead letter of the task was resolved. To send it again would only park it again.
CREATE FUNCTION parked_since_it_moved() RETURNS TABLE (queue_name text, task_id uuid, ordinal integer)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    queue text;
BEGIN
    FOR queue IN
        SELECT meta.queue_name FROM pgmq.meta
        WHERE meta.queue_name ~ '^(orchestration_(ready_steps|step_results|task_finalizations)|worker_.*_queue)_dlq$'
    LOOP
        RETURN QUERY EXECUTE format($query$
            SELECT $1, parked.task_id, parked.ordinal FROM (
                SELECT uuid_in(message->>'task_id') AS task_id, ordinal_in(message->>'ordinal') AS ordinal,
                    max(enqueued_at) AS parked_at
                FROM pgmq.%I GROUP BY 1, 2
            ) AS parked
            -- Each by its key: what was parked is kept for long, and most of it has moved on.
            WHERE (SELECT NOT is_end(state) FROM tasks WHERE tasks.task_id = parked.task_id)
              AND NOT EXISTS (
                SELECT FROM task_dead_letters AS entry
                WHERE entry.task_id = parked.task_id AND resolved_at > parked_at
              )
              AND NOT EXISTS (
                SELECT FROM step_transitions AS moved
                WHERE moved.task_id = parked.task_id AND moved.ordinal = parked.ordinal
                  AND occurred_at > parked_at
              )
              AND NOT EXISTS (
                SELECT FROM task_transitions AS moved
                WHERE moved.task_id = parked.task_id AND parked.ordinal IS NULL AND occurred_at > parked_at
              )
        $query$, 'q_' || queue) USING regexp_replace(queue, '_dlq$', '');
    END LOOP;
END
$$;
