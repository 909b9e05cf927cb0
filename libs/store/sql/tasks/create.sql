-- Gives birth to tasks with their first steps: Start, then ReadyStepsFound if there are steps.
-- Returns the messages sent, and what became of each item that is no new task. The caller names each
-- identity once: a twin waits for what becomes of the first.
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
        $13::text[], $14::text[], $15::text[], $16::text[], $18::bigint[]
    ) AS item (
        message_id, task_id, template_id, newest, repetition, identity,
        priority, content_type, context, metadata, idempotency_key, correlation_id,
        requested_by, reason, traceparent, tracestate, look_after_ms
    )
    LEFT JOIN templates USING (template_id)
), taken AS (
    -- A repeat's message has had its effect before.
    DELETE FROM pgmq.q_orchestration_task_requests
    WHERE msg_id = ANY(ARRAY(SELECT message_id FROM item WHERE verdict IN ('born', 'repeated')))
), born AS (
    INSERT INTO tasks (task_id, template_id, namespace, priority, state, total, ready)
    SELECT task_id, template_id, namespace, priority,
        CASE WHEN step_count > 0 THEN 'enqueuing_steps' ELSE 'initializing' END::task_state,
        step_count, root_count
    FROM item WHERE verdict = 'born'
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
), step AS MATERIALIZED (
    SELECT task_id, ordinal, template_steps.name, dependencies, max_attempts, plain,
        namespace, template_id, priority, traceparent
    FROM item JOIN template_steps USING (template_id)
    WHERE verdict = 'born' AND first
), laid_out AS (
    INSERT INTO steps (task_id, ordinal, name, unmet_dependencies, max_attempts, plain)
    SELECT task_id, ordinal, name, dependencies, max_attempts, plain FROM step
), history AS (
    INSERT INTO task_transitions (task_id, events, to_state, actor)
    SELECT task_id,
        CASE WHEN step_count > 0 THEN '{Start,ReadyStepsFound}' ELSE '{Start}' END::task_event[],
        CASE WHEN step_count > 0 THEN 'enqueuing_steps' ELSE 'initializing' END::task_state, $17
    FROM item WHERE verdict = 'born'
), ready AS (
    INSERT INTO pgmq.q_orchestration_ready_steps (vt, message, headers)
    SELECT clock_timestamp(),
        ready_step(task_id, ordinal, namespace, template_id, priority, NULL),
        trace_headers(traceparent)
    FROM step WHERE dependencies = 0
    RETURNING msg_id, message, headers
), finalizable AS (
    INSERT INTO pgmq.q_orchestration_task_finalizations (vt, message, headers)
    SELECT clock_timestamp(), finalization(task_id), trace_headers(traceparent)
    FROM item WHERE verdict = 'born' AND step_count = 0
    RETURNING msg_id, message, headers
)
SELECT 'ready' AS "kind!", msg_id AS message_id, message, headers,
    NULL::uuid AS task_id, NULL::uuid AS known
FROM ready
UNION ALL
SELECT 'finalization', msg_id, message, headers, NULL, NULL FROM finalizable
UNION ALL
SELECT verdict, NULL, NULL, NULL, task_id, (
    SELECT known.task_id FROM task_identities AS known WHERE known.identity =
        CASE verdict WHEN 'repeated' THEN repetition WHEN 'exists' THEN item.identity END
)
FROM item WHERE verdict <> 'born'
