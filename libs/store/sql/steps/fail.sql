-- Judges failures. What may be tried again waits for its back-off: WaitForRetry; the rest has failed
-- for good: Fail. Before it EnqueueAsErrorForOrchestration, for workers that still hold their steps.
-- What is not plain is left alone but on the long way, where a good result may be a failure, too: Fail for
-- one that was queued as good. Names each step once: a twin waits for the next batch. Returns a verdict
-- each, and the messages sent.
WITH item AS MATERIALIZED (
    SELECT * FROM unnest(
        $1::bigint[], $2::uuid[], $3::integer[], $4::uuid[], $5::text[], $6::text[], $7::boolean[],
        $8::bigint[], $9::text[], $10::text[], $13::boolean[]
    ) WITH ORDINALITY AS item (
        message_id, task_id, ordinal, delivery_id, error_type, error_message, retryable,
        wait_ms, worker_id, traceparent,
        -- Whether the failure counts as done, if it is one for good.
        passed_over, position
    )
), taken AS (
    -- By an array: a join believes that the queue is empty, and reads it whole.
    DELETE FROM pgmq.q_orchestration_step_results
    WHERE msg_id = ANY(ARRAY(
        SELECT message_id FROM item
        WHERE message_id IS NOT NULL AND ($12 OR coalesce((
            SELECT plain FROM steps WHERE (steps.task_id, steps.ordinal) = (item.task_id, item.ordinal)
        ), true))
    ))
    RETURNING msg_id
), judged AS (
    SELECT item.*, CASE
        WHEN NOT (plain OR $12) THEN 'not_plain'
        WHEN message_id IS NULL AND steps.delivery_id = item.delivery_id
            AND step_state_after(steps.state, 'EnqueueAsErrorForOrchestration') IS NOT NULL
            AND task_state_after(tasks.state, 'StepFailed') IS NOT NULL THEN 'committed'
        WHEN message_id IN (SELECT msg_id FROM taken) AND steps.accepted_delivery_id = item.delivery_id
            AND (step_state_after(steps.state, 'WaitForRetry') IS NOT NULL
                OR $12 AND NOT item.retryable AND steps.state = 'enqueued_for_orchestration')
            AND task_state_after(tasks.state, 'StepFailed') IS NOT NULL THEN 'committed'
        WHEN steps.accepted_delivery_id = item.delivery_id THEN 'duplicate'
        ELSE 'lease_lost'
    END AS verdict,
    item.retryable AND steps.attempt < steps.max_attempts AS again,
    message_id IS NOT NULL AND steps.state <> 'enqueued_for_orchestration' AS stored
    FROM item JOIN tasks USING (task_id) JOIN steps USING (task_id, ordinal)
    ORDER BY task_id, ordinal FOR NO KEY UPDATE OF tasks, steps
), failed AS (
    UPDATE steps
    SET state = CASE
            WHEN judged.message_id IS NULL AND again THEN step_state_after(
                step_state_after(steps.state, 'EnqueueAsErrorForOrchestration'), 'WaitForRetry')
            WHEN judged.message_id IS NULL THEN step_state_after(
                step_state_after(steps.state, 'EnqueueAsErrorForOrchestration'), 'Fail')
            WHEN again THEN step_state_after(steps.state, 'WaitForRetry')
            ELSE step_state_after(steps.state, 'Fail')
        END,
        delivery_id = NULL, accepted_delivery_id = judged.delivery_id,
        retry_at = CASE WHEN again THEN now() + wait_ms * interval '1 ms' END
    FROM judged
    WHERE (steps.task_id, steps.ordinal) = (judged.task_id, judged.ordinal)
      AND judged.verdict = 'committed'
    RETURNING steps.task_id, steps.ordinal, steps.attempt, steps.state, steps.retry_at, judged.again,
        judged.stored, judged.passed_over AND NOT judged.again AS passed_over,
        judged.message_id, judged.error_type, judged.error_message, judged.retryable,
        judged.worker_id, judged.traceparent
), recorded AS (
    INSERT INTO step_results (task_id, ordinal, attempt, error_type, error_message, retryable)
    SELECT task_id, ordinal, attempt, error_type, error_message, retryable
    FROM failed WHERE NOT stored
    ON CONFLICT (task_id, ordinal) DO UPDATE
    SET attempt = EXCLUDED.attempt, content_type = NULL, data = NULL, metadata = NULL,
        error_type = EXCLUDED.error_type, error_message = EXCLUDED.error_message,
        retryable = EXCLUDED.retryable, recorded_at = EXCLUDED.recorded_at
), freed AS (
    -- By an array, and within CASE in a hash: a join believes that there are no leases, and looks at all
    -- of them for each step.
    DELETE FROM leases
    WHERE task_id = ANY(ARRAY(SELECT task_id FROM failed))
      AND CASE WHEN (task_id, ordinal) IN (SELECT task_id, ordinal FROM failed) THEN true END
), change AS (
    SELECT task_id, count(*)::integer AS steps, sum(again::integer)::integer AS again,
        sum(passed_over::integer)::integer AS passed_over,
        max(traceparent) AS traceparent
    FROM failed GROUP BY task_id
), counted AS (
    UPDATE tasks
    SET in_flight = in_flight - change.steps,
        waiting_for_retry = waiting_for_retry + change.again,
        failed = failed + change.steps - change.again - change.passed_over,
        satisfied = satisfied + change.passed_over,
        state = CASE
            WHEN ready > held
                THEN task_state_after(task_state_after(tasks.state, 'StepFailed'), 'ReadyStepsFound')
            WHEN in_flight - change.steps > 0
                THEN task_state_after(task_state_after(tasks.state, 'StepFailed'), 'StepsStillInProcess')
            WHEN waiting_for_retry + change.again > 0
                THEN task_state_after(task_state_after(tasks.state, 'StepFailed'), 'RetryPending')
            -- Nothing moves: the finalizer's turn.
            ELSE task_state_after(tasks.state, 'StepFailed')
        END
    FROM change
    WHERE tasks.task_id = change.task_id
    RETURNING tasks.task_id, tasks.state, tasks.watched, change.traceparent
), finalizable AS (
    INSERT INTO pgmq.q_orchestration_task_finalizations (vt, message, headers)
    SELECT clock_timestamp(), finalization(task_id), trace_headers(traceparent)
    FROM counted WHERE state = 'evaluating_results'
    RETURNING msg_id, message, headers
), task_history AS (
    INSERT INTO task_transitions (task_id, events, to_state, actor)
    SELECT task_id,
        CASE state
            WHEN 'enqueuing_steps' THEN '{StepFailed,ReadyStepsFound}'
            WHEN 'steps_in_process' THEN '{StepFailed,StepsStillInProcess}'
            WHEN 'waiting_for_retry' THEN '{StepFailed,RetryPending}'
            ELSE '{StepFailed}'
        END::task_event[],
        state, $11
    FROM counted
), step_history AS (
    -- Written before the task's: PostgreSQL runs what nothing refers to from the last to the first.
    INSERT INTO step_transitions (task_id, ordinal, events, to_state, attempt, actor, reason)
    SELECT task_id, ordinal,
        CASE
            WHEN message_id IS NULL AND again THEN '{EnqueueAsErrorForOrchestration,WaitForRetry}'
            WHEN message_id IS NULL THEN '{EnqueueAsErrorForOrchestration,Fail}'
            WHEN again THEN '{WaitForRetry}'
            ELSE '{Fail}'
        END::step_event[],
        state, attempt, worker_id, error_type
    FROM failed
)
SELECT 'verdict' AS "kind!", position, verdict, NULL::bigint AS message_id, NULL::jsonb AS message,
    NULL::jsonb AS headers, NULL::uuid AS task_id
FROM judged
UNION ALL
SELECT 'finalization', NULL, NULL, msg_id, message, headers, NULL FROM finalizable
UNION ALL
SELECT 'watched', NULL, NULL, NULL, NULL, NULL, task_id FROM counted WHERE watched
UNION ALL
SELECT 'retry', NULL, NULL, NULL, NULL, NULL, task_id FROM failed WHERE again
