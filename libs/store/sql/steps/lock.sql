-- Locks the steps that results are about to be settled for, with their tasks, and says what judging them
-- takes. Nothing moves. Names each step once. What is judged may begin others: the lock of pauses comes
-- before those of tasks.
WITH stopped AS MATERIALIZED (
    SELECT paused_templates_now($2) AS templates
)
SELECT item.position AS "position!", tasks.template_id AS "template_id!", steps.name AS "name!",
    coalesce(steps.declared, steps.ordinal) AS "declared!",
    steps.attempt AS "attempt!", steps.max_attempts AS "max_attempts!",
    correlation_id AS "correlation_id!",
    -- Whether the result will be taken: what complete.sql and fail.sql ask once more.
    task_state_after(tasks.state, 'StepCompleted') IS NOT NULL AND CASE
        WHEN message_id IS NULL THEN steps.delivery_id IS NOT DISTINCT FROM item.delivery_id
        ELSE steps.accepted_delivery_id IS NOT DISTINCT FROM item.delivery_id
            AND steps.state IN ('enqueued_for_orchestration', 'enqueued_as_error_for_orchestration')
            AND EXISTS (SELECT FROM pgmq.q_orchestration_step_results WHERE msg_id = message_id)
    END AS "held!",
    -- Of a result that was queued: it is stored already.
    result.content_type, result.data, result.metadata, result.error_type, result.error_message
FROM stopped
CROSS JOIN unnest($1::bigint[], $2::uuid[], $3::integer[], $4::uuid[]) WITH ORDINALITY
    AS item (message_id, task_id, ordinal, delivery_id, position)
JOIN tasks USING (task_id)
JOIN steps USING (task_id, ordinal)
JOIN task_details USING (task_id)
LEFT JOIN step_results AS result
    ON message_id IS NOT NULL AND (result.task_id, result.ordinal) = (item.task_id, item.ordinal)
ORDER BY item.task_id, item.ordinal FOR NO KEY UPDATE OF tasks, steps
