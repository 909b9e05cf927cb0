-- Gives birth to tasks with their first steps: Start, then ReadyStepsFound if there are steps. A step that
-- waits for nothing, and for which a place at a worker is kept, begins there at once: Enqueue, Start; with all of
-- them, StepsEnqueued. The others are sent as ready, and so are those whose template is paused.
-- Returns what was started, the messages sent, and what became of each item that is no new task. The caller
-- names each identity once: a twin waits for what becomes of the first.
WITH item AS MATERIALIZED (
    SELECT item.*, namespace, name, version, step_count, root_count, CASE
        -- What came by message is born only if the message is still there, and nobody else is at it.
        WHEN message_id IS NOT NULL AND (
            SELECT true FROM pgmq.q_orchestration_task_requests
            WHERE msg_id = message_id FOR UPDATE SKIP LOCKED
        ) IS NULL THEN 'gone'
        WHEN (SELECT true FROM task_identities AS known WHERE known.identity = repetition)
            THEN 'repeated'
        -- The template was found before this statement began: what it was found by may be another's now.
        WHEN templates.template_id IS NULL OR newest AND (
            SELECT true FROM templates AS newer
            WHERE newer.namespace = templates.namespace AND newer.name = templates.name
              AND newer.precedence > templates.precedence
            LIMIT 1
        ) THEN 'outdated'
        WHEN (SELECT true FROM task_identities AS known WHERE known.identity = item.identity)
            THEN 'exists'
        ELSE 'born'
    END AS verdict
    FROM unnest(
        $1::bigint[], $2::uuid[], $3::uuid[], $4::boolean[], $5::bytea[], $6::bytea[],
        $7::smallint[], $8::text[], $9::bytea[], $10::jsonb[], $11::text[], $12::text[],
        $13::text[], $14::text[], $15::text[], $16::text[], $18::bigint[], $19::jsonb[]
    ) AS item (
        message_id, task_id, template_id, newest, repetition, identity,
        priority, content_type, context, metadata, idempotency_key, correlation_id,
        requested_by, reason, traceparent, tracestate, look_after_ms,
        -- By step: delivery, session, and how long the attempt may take, in ms.
        places
    )
    LEFT JOIN templates USING (template_id)
), taken AS (
    -- A repeat's message has had its effect before.
    DELETE FROM pgmq.q_orchestration_task_requests
    WHERE msg_id = ANY(ARRAY(SELECT message_id FROM item WHERE verdict IN ('born', 'repeated')))
), stopped AS MATERIALIZED (
    SELECT paused_now($3) AS templates WHERE EXISTS (SELECT FROM item WHERE places IS NOT NULL)
), step AS MATERIALIZED (
    SELECT task_id, ordinal, template_steps.name, dependencies, max_attempts, plain,
        namespace, template_id, priority, traceparent,
        CASE WHEN dependencies = 0 AND NOT template_id = ANY(stopped.templates)
            THEN places->ordinal::text
        END AS place
    FROM item LEFT JOIN stopped ON true JOIN template_steps USING (template_id)
    WHERE verdict = 'born' AND first
), begun AS MATERIALIZED (
    SELECT task_id, count(*)::integer AS steps FROM step WHERE place IS NOT NULL GROUP BY task_id
), birth AS MATERIALIZED (
    SELECT item.*, coalesce(begun.steps, 0) AS begun, CASE
        WHEN step_count = 0 THEN 'initializing'
        WHEN coalesce(begun.steps, 0) < root_count THEN 'enqueuing_steps'
        ELSE 'steps_in_process'
    END::task_state AS state
    FROM item LEFT JOIN begun USING (task_id)
    WHERE verdict = 'born'
), born AS (
    INSERT INTO tasks (task_id, template_id, namespace, priority, state, total, ready, in_flight)
    SELECT task_id, template_id, namespace, priority, state, step_count, root_count - begun, begun
    FROM birth
), detailed AS (
    INSERT INTO task_details (task_id, content_type, context, metadata, idempotency_key,
        correlation_id, requested_by, reason, traceparent, tracestate)
    SELECT task_id, content_type, context, metadata, idempotency_key,
        correlation_id, requested_by, reason, traceparent, tracestate
    FROM item WHERE verdict = 'born'
), identified AS (
    -- An identity that another statement takes meanwhile fails the whole batch: the next try finds it.
    INSERT INTO task_identities (identity, task_id)
    SELECT repetition, task_id FROM item WHERE verdict = 'born' AND repetition IS NOT NULL
    UNION ALL
    SELECT identity, task_id FROM item WHERE verdict = 'born' AND identity IS NOT NULL
    -- In one order, so that two batches with the same keys do not wait for each other.
    ORDER BY 1
), searchable AS (
    INSERT INTO task_search (task_id, namespace, name, version, correlation_id)
    SELECT task_id, namespace, name, version, correlation_id FROM item WHERE verdict = 'born'
), limited AS (
    INSERT INTO limited_tasks (task_id, look_at)
    SELECT task_id, now() + look_after_ms * interval '1 ms'
    FROM item WHERE verdict = 'born' AND look_after_ms IS NOT NULL
), laid_out AS (
    INSERT INTO steps (task_id, ordinal, name, unmet_dependencies, max_attempts, plain,
        state, attempt, delivery_id)
    SELECT task_id, ordinal, name, dependencies, max_attempts, plain,
        CASE WHEN place IS NULL THEN 'pending' ELSE 'in_progress' END::step_state,
        (place IS NOT NULL)::integer, (place->>0)::uuid
    FROM step
), leased AS (
    INSERT INTO leases (task_id, ordinal, delivery_id, session_id, times_out_at)
    SELECT task_id, ordinal, (place->>0)::uuid, (place->>1)::uuid,
        now() + (place->>2)::bigint * interval '1 ms'
    FROM step WHERE place IS NOT NULL
), step_history AS (
    -- Written after the task's: PostgreSQL runs what nothing refers to from the last to the first.
    INSERT INTO step_transitions (task_id, ordinal, events, to_state, attempt, actor)
    SELECT task_id, ordinal, '{Enqueue,Start}', 'in_progress', 1, $17 FROM step WHERE place IS NOT NULL
), history AS (
    INSERT INTO task_transitions (task_id, events, to_state, actor)
    SELECT task_id,
        CASE state
            WHEN 'steps_in_process' THEN '{Start,ReadyStepsFound,StepsEnqueued}'
            WHEN 'enqueuing_steps' THEN '{Start,ReadyStepsFound}'
            ELSE '{Start}'
        END::task_event[],
        state, $17
    FROM birth
), ready AS (
    INSERT INTO pgmq.q_orchestration_ready_steps (vt, message, headers)
    SELECT clock_timestamp(),
        ready_step(task_id, ordinal, namespace, template_id, priority, NULL),
        trace_headers(traceparent)
    FROM step WHERE dependencies = 0 AND place IS NULL
    RETURNING msg_id, message, headers
), finalizable AS (
    INSERT INTO pgmq.q_orchestration_task_finalizations (vt, message, headers)
    SELECT clock_timestamp(), finalization(task_id), trace_headers(traceparent)
    FROM item WHERE verdict = 'born' AND step_count = 0
    RETURNING msg_id, message, headers
)
SELECT 'ready' AS "kind!", msg_id AS message_id, message, headers,
    NULL::uuid AS task_id, NULL::uuid AS known, NULL::integer AS ordinal, NULL::uuid AS delivery_id,
    NULL::text AS name, NULL::integer AS max_attempts
FROM ready
UNION ALL
SELECT 'finalization', msg_id, message, headers, NULL, NULL, NULL, NULL, NULL, NULL FROM finalizable
UNION ALL
SELECT 'started', NULL, NULL, NULL, task_id, NULL, ordinal, (place->>0)::uuid, name, max_attempts
FROM step WHERE place IS NOT NULL
UNION ALL
SELECT verdict, NULL, NULL, NULL, task_id, (
    SELECT known.task_id FROM task_identities AS known WHERE known.identity =
        CASE verdict WHEN 'repeated' THEN repetition WHEN 'exists' THEN item.identity END
), NULL, NULL, NULL, NULL
FROM item WHERE verdict <> 'born'
