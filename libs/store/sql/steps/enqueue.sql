-- Puts ready steps into their worker queues: Enqueue. Those with a delivery go to a connected
-- worker at once, without a second queue: Enqueue, Start.
-- A message whose step may not be enqueued any more is taken all the same: nothing is left to do.
WITH deleted AS (
    -- By an array: a join believes that the queue is empty, and reads it whole.
    DELETE FROM pgmq.q_orchestration_ready_steps WHERE msg_id = ANY($1::bigint[]) RETURNING msg_id
), taken AS (
    SELECT item.*
    FROM unnest($1::bigint[], $2::uuid[], $3::integer[], $4::uuid[], $5::uuid[], $6::bigint[], $7::text[])
        AS item (message_id, task_id, ordinal, delivery_id, session_id, timeout_ms, traceparent)
    -- Within CASE it is looked up in a hash, and not joined.
    WHERE CASE WHEN message_id IN (SELECT msg_id FROM deleted) THEN true END
), locked AS (
    SELECT taken.*, tasks.template_id, tasks.namespace, tasks.priority
    FROM taken JOIN tasks USING (task_id)
    WHERE task_state_after(tasks.state, 'StepsEnqueued') IS NOT NULL
    ORDER BY task_id, ordinal FOR NO KEY UPDATE OF tasks
), moved AS (
    UPDATE steps
    SET state = CASE
            WHEN locked.delivery_id IS NULL THEN step_state_after(steps.state, 'Enqueue')
            ELSE step_state_after(step_state_after(steps.state, 'Enqueue'), 'Start')
        END,
        attempt = attempt + (locked.delivery_id IS NOT NULL)::integer,
        delivery_id = locked.delivery_id
    FROM locked
    WHERE (steps.task_id, steps.ordinal) = (locked.task_id, locked.ordinal)
      AND step_state_after(steps.state, 'Enqueue') IS NOT NULL AND steps.unmet_dependencies = 0
    RETURNING locked.*, steps.name, steps.attempt, steps.max_attempts, steps.state, steps.declared
), leased AS (
    INSERT INTO leases (task_id, ordinal, delivery_id, session_id, times_out_at)
    SELECT task_id, ordinal, delivery_id, session_id, now() + timeout_ms * interval '1 ms'
    FROM moved WHERE delivery_id IS NOT NULL
), waiting AS (
    -- An array a queue: that is how PGMQ takes a batch.
    SELECT coalesce(queue, namespace) AS namespace,
        array_agg(jsonb_strip_nulls(jsonb_build_object('task_id', task_id, 'ordinal', moved.ordinal,
            'template_id', moved.template_id, 'priority', moved.priority, 'callable', callable,
            'declared', moved.declared))) AS messages,
        array_agg(jsonb_build_object('traceparent', traceparent)) AS headers
    FROM moved JOIN template_steps AS declaration
        ON (declaration.template_id, declaration.ordinal)
            = (moved.template_id, coalesce(moved.declared, moved.ordinal))
    WHERE delivery_id IS NULL
    GROUP BY coalesce(queue, namespace)
), queued AS MATERIALIZED (
    SELECT namespace, count(message_id) AS messages
    FROM waiting
    CROSS JOIN LATERAL pgmq.send_batch('worker_' || namespace || '_queue', messages, headers) AS message_id
    GROUP BY namespace
), counted AS (
    UPDATE tasks
    SET ready = tasks.ready - change.steps, in_flight = in_flight + change.steps,
        state = CASE
            WHEN tasks.ready = change.steps THEN task_state_after(tasks.state, 'StepsEnqueued')
            ELSE tasks.state
        END
    FROM (SELECT task_id, count(*)::integer AS steps FROM moved GROUP BY task_id) AS change
    WHERE tasks.task_id = change.task_id
    RETURNING tasks.task_id, tasks.state, tasks.ready, tasks.watched
), task_history AS (
    INSERT INTO task_transitions (task_id, events, to_state, actor)
    SELECT task_id, '{StepsEnqueued}', state, $8 FROM counted WHERE ready = 0
), step_history AS (
    -- Written before the task's: PostgreSQL runs what nothing refers to from the last to the first.
    INSERT INTO step_transitions (task_id, ordinal, events, to_state, attempt, actor)
    SELECT task_id, ordinal,
        CASE WHEN delivery_id IS NULL THEN '{Enqueue}' ELSE '{Enqueue,Start}' END::step_event[],
        state, attempt, $8
    FROM moved
)
SELECT 'moved' AS "kind!", task_id, ordinal, delivery_id, name, attempt, max_attempts, NULL AS namespace
FROM moved
UNION ALL
SELECT 'queued', NULL, NULL, NULL, NULL, NULL, NULL, namespace FROM queued
UNION ALL
SELECT 'watched', task_id, NULL, NULL, NULL, NULL, NULL, NULL FROM counted WHERE watched
