-- Sends again what a queue has lost. A step or task and its message change in one commit, so whatever
-- one snapshot shows without its message has been forgotten: by another broker, or by somebody's hand.
-- What is held needs no message. Tasks of which something is held for no reason any more, or not counted, are
-- returned: they are for recount.sql, which has to hold them first.
-- What was parked is not forgotten, and would be parked again: it is sent again once an operator has resolved
-- the dead letter that tells of it, or has moved the step.
WITH open AS MATERIALIZED (
    SELECT tasks.* FROM task_search JOIN tasks USING (task_id) WHERE rests_in IS NULL
), parked AS MATERIALIZED (
    SELECT queue_name, task_id, ordinal FROM parked_since_it_moved()
), held AS MATERIALIZED (
    SELECT held_steps.task_id, held_steps.ordinal,
        steps.state = 'pending' AND unmet_dependencies = 0 AS counts, waits,
        waits AND (
            limit_name IS NOT NULL OR tasks.paused OR tasks.template_id IN (SELECT template_id FROM paused_templates)
        ) AS rightly
    FROM held_steps JOIN tasks USING (task_id) JOIN steps USING (task_id, ordinal)
    CROSS JOIN LATERAL (
        SELECT steps.state IN ('pending', 'enqueued') AND NOT is_end(tasks.state) AS waits
    ) AS of_step
), misheld AS (
    SELECT task_id FROM held WHERE NOT rightly
    UNION
    SELECT task_id FROM open
    LEFT JOIN (SELECT task_id, count(*) FILTER (WHERE counts) AS steps FROM held GROUP BY task_id) AS counted
        USING (task_id)
    WHERE open.held <> coalesce(counted.steps, 0)
), open_steps AS MATERIALIZED (
    SELECT steps.*, namespace, template_id, priority
    FROM open JOIN steps USING (task_id)
    WHERE ((steps.state = 'pending' AND unmet_dependencies = 0 AND open.state = 'enqueuing_steps')
        OR steps.state IN ('enqueued', 'enqueued_for_orchestration', 'enqueued_as_error_for_orchestration'))
      AND NOT EXISTS (
        SELECT FROM held
        WHERE waits AND (held.task_id, held.ordinal) = (steps.task_id, steps.ordinal)
      )
      AND NOT EXISTS (
        SELECT FROM parked
        WHERE (parked.task_id, parked.ordinal) = (steps.task_id, steps.ordinal) AND CASE steps.state
            WHEN 'pending' THEN queue_name = 'orchestration_ready_steps'
            WHEN 'enqueued' THEN queue_name ~ '^worker_'
            ELSE queue_name = 'orchestration_step_results'
        END
      )
), forgotten AS (
    INSERT INTO pgmq.q_orchestration_ready_steps (vt, message, headers)
    SELECT clock_timestamp(),
        ready_step(task_id, ordinal, namespace, template_id, priority, declared),
        trace_headers(traceparent)
    FROM open_steps LEFT JOIN task_details USING (task_id)
    WHERE state = 'pending' AND NOT EXISTS (
        SELECT FROM pgmq.q_orchestration_ready_steps
        WHERE (message->>'task_id', message->>'ordinal') = (task_id::text, ordinal::text)
    )
    RETURNING msg_id
), unqueued AS (
    SELECT coalesce(queue, namespace) AS namespace,
        array_agg(waiting_step(task_id, open_steps.ordinal, open_steps.template_id, priority,
            callable, declared)) AS messages,
        array_agg(trace_headers(traceparent)) AS headers
    FROM open_steps LEFT JOIN task_details USING (task_id) JOIN template_steps AS declaration
        ON (declaration.template_id, declaration.ordinal)
            = (open_steps.template_id, coalesce(declared, open_steps.ordinal))
    WHERE state = 'enqueued'
      AND NOT EXISTS (
        SELECT FROM steps_in_worker_queues() AS waiting
        WHERE (waiting.task_id, waiting.ordinal) = (open_steps.task_id::text, open_steps.ordinal::text)
      )
    GROUP BY coalesce(queue, namespace)
), queued AS MATERIALIZED (
    SELECT message_id
    FROM unqueued
    CROSS JOIN LATERAL pgmq.send_batch('worker_' || namespace || '_queue', messages, headers) AS message_id
), unjudged AS (
    INSERT INTO pgmq.q_orchestration_step_results (vt, message, headers)
    SELECT clock_timestamp(),
        queued_result(task_id, ordinal, accepted_delivery_id, attempt,
            failed => state = 'enqueued_as_error_for_orchestration',
            error_type => coalesce(error_type, ''), retryable => coalesce(retryable, false),
            -- The history knows who gave it; how long they asked to wait is kept nowhere.
            worker_id => coalesce((
                SELECT actor FROM step_transitions AS given
                WHERE (given.task_id, given.ordinal) = (open_steps.task_id, open_steps.ordinal)
                ORDER BY transition_id DESC LIMIT 1
            ), ''), retry_after_ms => NULL,
            at_once => coalesce(error_type IN ('LEASE_EXPIRED', 'STEP_TIMED_OUT'), false),
            says => EXISTS (
                SELECT FROM step_expansions AS said
                WHERE (said.task_id, said.ordinal) = (open_steps.task_id, open_steps.ordinal) AND NOT taken
            )),
        trace_headers(traceparent)
    FROM open_steps LEFT JOIN task_details USING (task_id) JOIN step_results USING (task_id, ordinal, attempt)
    WHERE state IN ('enqueued_for_orchestration', 'enqueued_as_error_for_orchestration')
      AND NOT EXISTS (
        SELECT FROM pgmq.q_orchestration_step_results
        WHERE (message->>'task_id', message->>'ordinal') = (task_id::text, ordinal::text)
    )
    RETURNING msg_id
), unfinished AS (
    INSERT INTO pgmq.q_orchestration_task_finalizations (vt, message, headers)
    SELECT clock_timestamp(), finalization(task_id), trace_headers(traceparent)
    FROM open LEFT JOIN task_details USING (task_id)
    WHERE (state = 'evaluating_results' OR (state = 'initializing' AND total = 0))
      AND NOT EXISTS (
        SELECT FROM pgmq.q_orchestration_task_finalizations WHERE message->>'task_id' = task_id::text
      )
      AND NOT EXISTS (
        SELECT FROM parked
        WHERE parked.task_id = open.task_id AND queue_name = 'orchestration_task_finalizations'
      )
    RETURNING msg_id
)
SELECT (SELECT count(*) FROM forgotten) AS "forgotten_steps!",
    (SELECT count(*) FROM queued) AS "unqueued_steps!",
    (SELECT count(*) FROM unjudged) AS "unjudged_results!",
    (SELECT count(*) FROM unfinished) AS "unfinished_tasks!",
    ARRAY(SELECT task_id FROM misheld ORDER BY task_id) AS "misheld_tasks!"
