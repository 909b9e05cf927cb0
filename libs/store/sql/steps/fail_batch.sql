-- Fails the workers of batches that have not begun, since one has failed for good: Fail. Runs in the
-- transaction that takes that failure, before it is taken. The caller has locked the tasks. Returns those that
-- may publish it.
WITH found AS MATERIALIZED (
    SELECT steps.task_id, steps.ordinal, steps.state, unmet_dependencies, batch.traceparent,
        -- It was reset since a worker last answered for it.
        accepted_delivery_id IS NOT NULL AS again
    FROM unnest($1::uuid[], $2::integer[], $3::integer[], $5::text[])
        AS batch (task_id, declared, first, traceparent)
    JOIN steps ON steps.task_id = batch.task_id
        AND steps.ordinal >= batch.first AND steps.declared = batch.declared
    -- What has yielded waits with no attempt used up, as if it had not begun; but it has, and goes on.
    WHERE attempt = 0
      AND (steps.state = 'pending' OR (steps.state = 'enqueued' AND accepted_delivery_id IS NULL))
    ORDER BY steps.task_id, steps.ordinal FOR NO KEY UPDATE OF steps
), failed AS (
    -- It waits for no place any more: whoever repairs it has it begin.
    UPDATE steps SET state = step_state_after(steps.state, 'Fail'), unmet_dependencies = 0
    FROM found
    WHERE (steps.task_id, steps.ordinal) = (found.task_id, found.ordinal)
    RETURNING steps.task_id, steps.ordinal, steps.declared, steps.name, steps.state, steps.attempt, steps.plain,
        found.traceparent, 'BATCH_FAILED_FAST' AS error_type,
        'another worker of the batch has failed before this one began'
            || CASE WHEN found.again THEN ' again' ELSE '' END AS error_message,
        found.state = 'enqueued' AS was_in_flight,
        found.state = 'pending' AND found.unmet_dependencies = 0 AS was_ready
), let_go AS (
    DELETE FROM held_steps USING failed
    WHERE held_steps.task_id = ANY($1)
      AND (held_steps.task_id, held_steps.ordinal) = (failed.task_id, failed.ordinal)
    RETURNING held_steps.task_id, failed.was_ready
), recorded AS (
    INSERT INTO step_results (task_id, ordinal, attempt, error_type, error_message, retryable)
    SELECT task_id, ordinal, attempt, error_type, error_message, false FROM failed
    ON CONFLICT (task_id, ordinal) DO UPDATE
    SET attempt = EXCLUDED.attempt, content_type = NULL, data = NULL, metadata = NULL,
        error_type = EXCLUDED.error_type, error_message = EXCLUDED.error_message,
        retryable = EXCLUDED.retryable, recorded_at = EXCLUDED.recorded_at
), counted AS (
    UPDATE tasks
    SET ready = tasks.ready - change.ready, in_flight = tasks.in_flight - change.in_flight,
        failed = failed + change.steps,
        held = greatest(tasks.held - (
            SELECT count(*)::integer FROM let_go WHERE was_ready AND let_go.task_id = tasks.task_id
        ), 0)
    FROM (
        SELECT task_id, count(*)::integer AS steps, sum(was_ready::integer)::integer AS ready,
            sum(was_in_flight::integer)::integer AS in_flight
        FROM failed GROUP BY task_id
    ) AS change
    WHERE tasks.task_id = change.task_id
), history AS (
    INSERT INTO step_transitions (task_id, ordinal, events, to_state, attempt, actor, reason)
    SELECT task_id, ordinal, '{Fail}', state, attempt, $4, error_type FROM failed
)
SELECT failed.task_id, ordinal, declared AS "declared!", failed.name, attempt, template_id, correlation_id,
    failed.traceparent AS "traceparent!", error_type AS "error_type!", error_message AS "error_message!"
FROM failed JOIN tasks USING (task_id) JOIN task_details USING (task_id)
WHERE NOT plain
ORDER BY failed.task_id, ordinal
