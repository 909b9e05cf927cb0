-- Takes deliveries back that were never begun, and puts their steps into their queues: Release.
WITH locked AS (
    -- The task is locked though it does not move: what happened to it is numbered in the order of commits.
    SELECT task_id, ordinal, item.delivery_id, item.reason, item.session_id, tasks.watched
    FROM unnest($1::uuid[], $2::integer[], $3::uuid[], $4::text[], $6::uuid[])
        AS item (task_id, ordinal, delivery_id, reason, session_id)
    JOIN tasks USING (task_id)
    JOIN steps USING (task_id, ordinal)
    ORDER BY task_id, ordinal FOR NO KEY UPDATE OF tasks, steps
), freed AS (
    -- A worker that came back in another session keeps its lease.
    DELETE FROM leases USING locked
    WHERE leases.task_id = ANY($1)
      AND (leases.task_id, leases.ordinal) = (locked.task_id, locked.ordinal)
      AND leases.delivery_id = locked.delivery_id
      AND (locked.session_id IS NULL OR leases.session_id = locked.session_id)
    RETURNING locked.*
), moved AS (
    UPDATE steps
    SET state = step_state_after(steps.state, 'Release'), attempt = attempt - 1, delivery_id = NULL
    FROM freed
    WHERE (steps.task_id, steps.ordinal) = (freed.task_id, freed.ordinal)
      AND steps.delivery_id = freed.delivery_id
      AND step_state_after(steps.state, 'Release') IS NOT NULL
    RETURNING steps.task_id, steps.ordinal, steps.declared, steps.attempt, steps.state, freed.reason,
        freed.watched
), waiting AS (
    SELECT coalesce(queue, namespace) AS namespace,
        array_agg(waiting_step(moved.task_id, moved.ordinal, template_id, priority,
            callable, moved.declared)) AS messages,
        array_agg(trace_headers(traceparent)) AS headers
    FROM moved
    JOIN tasks USING (task_id)
    LEFT JOIN task_details USING (task_id)
    CROSS JOIN LATERAL (
        SELECT callable, queue FROM template_steps AS declaration
        WHERE (declaration.template_id, declaration.ordinal)
            = (tasks.template_id, coalesce(moved.declared, moved.ordinal))
    ) AS declaration
    GROUP BY coalesce(queue, namespace)
), queued AS MATERIALIZED (
    SELECT namespace, count(message_id) AS messages
    FROM waiting
    CROSS JOIN LATERAL pgmq.send_batch('worker_' || namespace || '_queue', messages, headers) AS message_id
    GROUP BY namespace
), history AS (
    INSERT INTO step_transitions (task_id, ordinal, events, to_state, attempt, actor, reason)
    SELECT task_id, ordinal, '{Release}', state, attempt, $5, reason FROM moved
)
SELECT namespace, NULL::uuid AS watched FROM queued
UNION ALL
SELECT NULL, task_id FROM moved WHERE watched
