-- Sends the steps of tasks again that no pause holds any more, and no limit: those that are ready to the
-- ready steps, and their tasks enqueue again: RetryReady; ReadyStepsFound, where the finalizer has not seen that
-- they wait. Those that wait for a worker go to their queue. Steps that have moved on meanwhile are forgotten.
WITH locked AS (
    SELECT task_id, namespace AS of_task, state AS task_state FROM tasks WHERE task_id = ANY($1::uuid[]) AND NOT paused
    ORDER BY task_id FOR NO KEY UPDATE
), freed AS (
    DELETE FROM held_steps USING locked
    WHERE held_steps.task_id = locked.task_id AND limit_name IS NULL
      AND (SELECT true FROM paused_templates_by_id AS paused
        WHERE paused.template_id = held_steps.template_id) IS NULL
    RETURNING held_steps.*, locked.of_task, locked.task_state
), due AS (
    SELECT freed.*, declared
    FROM freed JOIN steps USING (task_id, ordinal)
    WHERE steps.state = 'pending' AND unmet_dependencies = 0
), ready AS (
    INSERT INTO pgmq.q_orchestration_ready_steps (vt, message, headers)
    SELECT clock_timestamp(),
        ready_step(task_id, ordinal, of_task, template_id, priority, declared),
        trace_headers(traceparent)
    FROM due
    RETURNING msg_id, message, headers
), waiting AS (
    SELECT namespace,
        array_agg(waiting_step(task_id, ordinal, template_id, priority, callable, declared)) AS messages,
        array_agg(trace_headers(traceparent)) AS headers
    FROM freed JOIN steps USING (task_id, ordinal)
    WHERE steps.state = 'enqueued'
    GROUP BY namespace
), queued AS MATERIALIZED (
    SELECT namespace, count(message_id) AS messages
    FROM waiting
    CROSS JOIN LATERAL pgmq.send_batch('worker_' || namespace || '_queue', messages, headers) AS message_id
    GROUP BY namespace
), counted AS (
    UPDATE tasks
    SET held = greatest(held - change.steps, 0),
        -- A task that enqueues other steps goes on doing so.
        state = coalesce(task_state_after(state, 'RetryReady'), task_state_after(state, 'ReadyStepsFound'), state)
    FROM (
        SELECT task_id, task_state, count(*)::integer AS steps FROM due GROUP BY task_id, task_state
    ) AS change
    WHERE tasks.task_id = change.task_id
    RETURNING tasks.task_id, tasks.state, tasks.watched, change.task_state
), history AS (
    INSERT INTO task_transitions (task_id, events, to_state, actor)
    SELECT task_id,
        CASE task_state WHEN 'evaluating_results' THEN '{ReadyStepsFound}' ELSE '{RetryReady}' END::task_event[],
        state, $2
    FROM counted WHERE state <> task_state
)
SELECT 'ready' AS "kind!", msg_id AS message_id, message, headers, NULL AS namespace, NULL::uuid AS task_id
FROM ready
UNION ALL
SELECT 'queued', NULL, NULL, NULL, namespace, NULL FROM queued
UNION ALL
SELECT 'watched', NULL, NULL, NULL, NULL, task_id FROM counted WHERE watched AND state <> task_state
