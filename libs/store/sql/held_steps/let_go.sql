-- Sends the steps of tasks again that no pause holds any more, and no limit: those that are ready to the
-- ready steps, those that wait for a worker to their queue. Steps that have moved on meanwhile are forgotten.
WITH locked AS (
    SELECT task_id, namespace AS of_task FROM tasks WHERE task_id = ANY($1::uuid[]) AND NOT paused
    ORDER BY task_id FOR NO KEY UPDATE
), freed AS (
    DELETE FROM held_steps USING locked
    WHERE held_steps.task_id = locked.task_id AND limit_name IS NULL
      AND (SELECT true FROM paused_templates_by_id AS paused
        WHERE paused.template_id = held_steps.template_id) IS NULL
    RETURNING held_steps.*, locked.of_task
), ready AS (
    INSERT INTO pgmq.q_orchestration_ready_steps (vt, message, headers)
    SELECT clock_timestamp(),
        ready_step(task_id, ordinal, of_task, template_id, priority, declared),
        trace_headers(traceparent)
    FROM freed JOIN steps USING (task_id, ordinal)
    WHERE steps.state = 'pending' AND unmet_dependencies = 0
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
)
SELECT 'ready' AS "kind!", msg_id AS message_id, message, headers, NULL AS namespace FROM ready
UNION ALL
SELECT 'queued', NULL, NULL, NULL, namespace FROM queued
