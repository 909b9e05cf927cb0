-- Takes results while result-processor cannot be reached, behind the same fence:
-- EnqueueForOrchestration or EnqueueAsErrorForOrchestration. They are judged from the queue.
WITH judged AS (
    -- The task is locked though it does not move: what happened to it is numbered in the order of commits.
    SELECT item.*, CASE
        WHEN steps.delivery_id = item.delivery_id
            AND step_state_after(steps.state, 'EnqueueForOrchestration') IS NOT NULL THEN 'committed'
        WHEN steps.accepted_delivery_id = item.delivery_id THEN 'duplicate'
        ELSE 'lease_lost'
    END AS verdict
    FROM unnest(
        $1::uuid[], $2::integer[], $3::uuid[], $4::text[], $5::bytea[], $6::jsonb[],
        $7::text[], $8::text[], $9::boolean[], $10::bigint[], $11::text[], $12::text[], $13::bytea[]
    ) WITH ORDINALITY AS item (
        task_id, ordinal, delivery_id, content_type, data, metadata,
        error_type, error_message, retryable, retry_after_ms, worker_id, traceparent, said, position
    )
    JOIN tasks USING (task_id)
    JOIN steps USING (task_id, ordinal)
    ORDER BY task_id, ordinal FOR NO KEY UPDATE OF tasks, steps
), moved AS (
    UPDATE steps
    SET state = CASE
            WHEN judged.error_type IS NULL THEN step_state_after(steps.state, 'EnqueueForOrchestration')
            ELSE step_state_after(steps.state, 'EnqueueAsErrorForOrchestration')
        END,
        delivery_id = NULL, accepted_delivery_id = judged.delivery_id
    FROM judged
    WHERE (steps.task_id, steps.ordinal) = (judged.task_id, judged.ordinal)
      AND judged.verdict = 'committed'
    RETURNING judged.*, steps.attempt, steps.state
), freed AS (
    DELETE FROM leases USING moved
    WHERE leases.task_id = ANY($1) AND (leases.task_id, leases.ordinal) = (moved.task_id, moved.ordinal)
), recorded AS (
    INSERT INTO step_results (task_id, ordinal, attempt, content_type, data, metadata,
        error_type, error_message, retryable)
    SELECT task_id, ordinal, attempt, content_type, data, metadata, error_type, error_message, retryable
    FROM moved
    ON CONFLICT (task_id, ordinal) DO UPDATE
    SET attempt = EXCLUDED.attempt, content_type = EXCLUDED.content_type, data = EXCLUDED.data,
        metadata = EXCLUDED.metadata, error_type = EXCLUDED.error_type,
        error_message = EXCLUDED.error_message, retryable = EXCLUDED.retryable,
        recorded_at = EXCLUDED.recorded_at
), said AS (
    INSERT INTO step_expansions (task_id, ordinal, said, taken)
    SELECT task_id, ordinal, said, false FROM moved WHERE said IS NOT NULL
    ON CONFLICT (task_id, ordinal) DO UPDATE SET said = EXCLUDED.said, taken = false
), queued AS (
    INSERT INTO pgmq.q_orchestration_step_results (vt, message, headers)
    SELECT clock_timestamp(),
        queued_result(task_id, ordinal, delivery_id, attempt, failed => error_type IS NOT NULL,
            error_type => coalesce(error_type, ''), retryable => coalesce(retryable, false),
            worker_id => worker_id, at_once => false, says => said IS NOT NULL,
            retry_after_ms => retry_after_ms),
        trace_headers(traceparent)
    FROM moved
), history AS (
    INSERT INTO step_transitions (task_id, ordinal, events, to_state, attempt, actor)
    SELECT task_id, ordinal,
        CASE WHEN error_type IS NULL THEN '{EnqueueForOrchestration}'
            ELSE '{EnqueueAsErrorForOrchestration}' END::step_event[],
        state, attempt, worker_id
    FROM moved
)
SELECT position AS "position!", verdict AS "verdict!" FROM judged
