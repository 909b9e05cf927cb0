-- Ends leases that their workers have lost: LeaseExpired. A lost lease is a failed result like any
-- other, and goes to result-processor by queue; but not under the worker's delivery: if its own result
-- comes late, it was not taken before.
WITH locked AS (
    -- The task is locked though it does not move: what happened to it is numbered in the order of commits.
    SELECT task_id, ordinal, item.delivery_id, item.error_type, item.error_message, item.session_id,
        tasks.watched
    FROM unnest($1::uuid[], $2::integer[], $3::uuid[], $4::text[], $5::text[], $7::uuid[])
        AS item (task_id, ordinal, delivery_id, error_type, error_message, session_id)
    JOIN tasks USING (task_id)
    JOIN steps USING (task_id, ordinal)
    ORDER BY task_id, ordinal FOR NO KEY UPDATE OF tasks, steps
), freed AS (
    -- Looked at again: a worker that came back meanwhile, in this session or another, keeps its lease.
    DELETE FROM leases USING locked
    WHERE leases.task_id = ANY($1)
      AND (leases.task_id, leases.ordinal) = (locked.task_id, locked.ordinal)
      AND leases.delivery_id = locked.delivery_id
      AND (locked.session_id IS NULL OR (
        leases.session_id = locked.session_id AND NOT EXISTS (
            SELECT FROM worker_sessions AS session
            WHERE session.session_id = locked.session_id AND session.expires_at >= now()
        )
      ))
    RETURNING locked.*
), moved AS (
    UPDATE steps
    SET state = step_state_after(steps.state, 'LeaseExpired'), delivery_id = NULL,
        accepted_delivery_id = gen_random_uuid()
    FROM freed
    WHERE (steps.task_id, steps.ordinal) = (freed.task_id, freed.ordinal)
      AND steps.delivery_id = freed.delivery_id
      AND step_state_after(steps.state, 'LeaseExpired') IS NOT NULL
    RETURNING freed.*, steps.attempt, steps.state, steps.accepted_delivery_id
), recorded AS (
    INSERT INTO step_results (task_id, ordinal, attempt, error_type, error_message, retryable)
    SELECT task_id, ordinal, attempt, error_type, error_message, true FROM moved
    ON CONFLICT (task_id, ordinal) DO UPDATE
    SET attempt = EXCLUDED.attempt, content_type = NULL, data = NULL, metadata = NULL,
        error_type = EXCLUDED.error_type, error_message = EXCLUDED.error_message,
        retryable = EXCLUDED.retryable, recorded_at = EXCLUDED.recorded_at
), queued AS (
    INSERT INTO pgmq.q_orchestration_step_results (vt, message, headers)
    SELECT clock_timestamp(),
        queued_result(moved.task_id, ordinal, accepted_delivery_id, attempt, failed => true,
            error_type => error_type, retryable => true, worker_id => $6::text, at_once => true,
            says => false, retry_after_ms => NULL),
        trace_headers(traceparent)
    FROM moved LEFT JOIN task_details USING (task_id)
), history AS (
    INSERT INTO step_transitions (task_id, ordinal, events, to_state, attempt, actor, reason)
    SELECT task_id, ordinal, '{LeaseExpired}', state, attempt, $6, error_message FROM moved
)
SELECT task_id AS "task_id!", delivery_id AS "delivery_id!", watched AS "watched!" FROM moved
