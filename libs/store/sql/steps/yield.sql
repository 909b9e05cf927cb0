-- Takes steps back that their workers have yielded, with what they go on from, and puts them into their
-- queues, some for later: Release. Names each step once: a twin waits for the next batch. Returns a verdict
-- each, and which queues have got messages.
WITH judged AS (
    -- The task is locked though it does not move: what happened to it is numbered in the order of commits.
    SELECT item.*, tasks.namespace, tasks.template_id, tasks.priority, tasks.watched, CASE
        WHEN steps.delivery_id = item.delivery_id
            AND step_state_after(steps.state, 'Release') IS NOT NULL THEN 'committed'
        WHEN steps.accepted_delivery_id = item.delivery_id THEN 'duplicate'
        ELSE 'lease_lost'
    END AS verdict
    FROM unnest(
        $1::uuid[], $2::integer[], $3::uuid[], $4::bytea[], $5::bigint[], $6::text[], $7::text[]
    ) WITH ORDINALITY AS item (
        task_id, ordinal, delivery_id, checkpoint, delay_ms, worker_id, traceparent, position
    )
    JOIN tasks USING (task_id)
    JOIN steps USING (task_id, ordinal)
    ORDER BY task_id, ordinal FOR NO KEY UPDATE OF tasks, steps
), moved AS (
    UPDATE steps
    SET state = step_state_after(steps.state, 'Release'), attempt = attempt - 1,
        delivery_id = NULL, accepted_delivery_id = judged.delivery_id,
        has_checkpoint = has_checkpoint OR judged.checkpoint IS NOT NULL
    FROM judged
    WHERE (steps.task_id, steps.ordinal) = (judged.task_id, judged.ordinal)
      AND judged.verdict = 'committed'
    RETURNING judged.*, steps.declared, steps.attempt, steps.state
), freed AS (
    -- By an array, and within CASE in a hash: a join believes that there are no leases, and looks at all
    -- of them for each step.
    DELETE FROM leases
    WHERE task_id = ANY(ARRAY(SELECT task_id FROM moved))
      AND CASE WHEN (task_id, ordinal) IN (SELECT task_id, ordinal FROM moved) THEN true END
), saved AS (
    INSERT INTO step_checkpoints (task_id, ordinal, attempt, checkpoint)
    SELECT task_id, ordinal, attempt + 1, checkpoint FROM moved WHERE checkpoint IS NOT NULL
    ON CONFLICT (task_id, ordinal) DO UPDATE
    SET attempt = EXCLUDED.attempt, checkpoint = EXCLUDED.checkpoint, saved_at = EXCLUDED.saved_at
), waiting AS (
    -- An array a queue and delay: that is how PGMQ takes a batch.
    SELECT coalesce(queue, namespace) AS namespace, delay_ms,
        array_agg(waiting_step(task_id, moved.ordinal, template_id, priority,
            callable, moved.declared)) AS messages,
        array_agg(trace_headers(traceparent)) AS headers
    FROM moved
    CROSS JOIN LATERAL (
        SELECT callable, queue FROM template_steps AS declaration
        WHERE (declaration.template_id, declaration.ordinal)
            = (moved.template_id, coalesce(moved.declared, moved.ordinal))
    ) AS declaration
    GROUP BY coalesce(queue, namespace), delay_ms
), queued AS MATERIALIZED (
    SELECT namespace, delay_ms, count(message_id) AS messages
    FROM waiting
    CROSS JOIN LATERAL pgmq.send_batch('worker_' || namespace || '_queue', messages, headers,
        clock_timestamp() + delay_ms * interval '1 ms') AS message_id
    GROUP BY namespace, delay_ms
), history AS (
    INSERT INTO step_transitions (task_id, ordinal, events, to_state, attempt, actor, reason)
    SELECT task_id, ordinal, '{Release}', state, attempt, worker_id, 'yielded' FROM moved
)
SELECT 'verdict' AS "kind!", position, verdict, NULL::text AS namespace, NULL::bigint AS delay_ms,
    NULL::uuid AS task_id
FROM judged
UNION ALL
SELECT 'queued', NULL, NULL, namespace, delay_ms, NULL FROM queued
UNION ALL
SELECT 'watched', NULL, NULL, NULL, NULL, task_id FROM moved WHERE watched
