-- Makes steps ready again whose back-off is over: Retry. Returns the messages sent.
WITH due AS MATERIALIZED (
    SELECT task_id, ordinal FROM steps WHERE retry_at <= now() ORDER BY retry_at LIMIT $1
), locked AS (
    SELECT due.*, tasks.state AS task_state, tasks.namespace, tasks.template_id, tasks.priority
    FROM due JOIN tasks USING (task_id)
    WHERE NOT is_end(tasks.state)
    ORDER BY task_id, ordinal FOR NO KEY UPDATE OF tasks
), moved AS (
    UPDATE steps
    SET state = step_state_after(steps.state, 'Retry'), retry_at = NULL
    FROM locked
    WHERE (steps.task_id, steps.ordinal) = (locked.task_id, locked.ordinal)
      AND step_state_after(steps.state, 'Retry') IS NOT NULL AND steps.retry_at <= now()
    RETURNING locked.*, steps.state, steps.attempt, steps.declared
), ready AS (
    INSERT INTO pgmq.q_orchestration_ready_steps (vt, message, headers)
    SELECT clock_timestamp(),
        ready_step(task_id, ordinal, namespace, template_id, priority, declared),
        trace_headers(traceparent)
    FROM moved LEFT JOIN task_details USING (task_id)
    RETURNING msg_id, message, headers
), counted AS (
    UPDATE tasks
    SET waiting_for_retry = waiting_for_retry - change.steps, ready = ready + change.steps,
        -- A task that enqueues other steps goes on doing so.
        state = coalesce(task_state_after(tasks.state, 'RetryReady'), tasks.state)
    FROM (
        SELECT task_id, task_state, count(*)::integer AS steps FROM moved GROUP BY task_id, task_state
    ) AS change
    WHERE tasks.task_id = change.task_id
    RETURNING tasks.task_id, tasks.state, tasks.watched, change.task_state
), task_history AS (
    INSERT INTO task_transitions (task_id, events, to_state, actor)
    SELECT task_id, '{RetryReady}', state, $2
    FROM counted WHERE task_state_after(task_state, 'RetryReady') IS NOT NULL
), step_history AS (
    -- Written before the task's: PostgreSQL runs what nothing refers to from the last to the first.
    INSERT INTO step_transitions (task_id, ordinal, events, to_state, attempt, actor)
    SELECT task_id, ordinal, '{Retry}', state, attempt, $2 FROM moved
)
SELECT 'ready' AS "kind!", msg_id AS message_id, message, headers, NULL::uuid AS task_id FROM ready
UNION ALL
SELECT 'watched', NULL, NULL, NULL, task_id FROM counted WHERE watched
