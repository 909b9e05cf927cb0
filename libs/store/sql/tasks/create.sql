-- Gives birth to tasks with all their steps: Start, then ReadyStepsFound if there are steps.
-- What came by message is born only if the message was still there. Returns the messages sent.
WITH item AS MATERIALIZED (
    SELECT * FROM unnest(
        $1::bigint[], $2::uuid[], $3::uuid[], $4::smallint[], $5::text[], $6::bytea[], $7::jsonb[],
        $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[]
    ) AS item (
        message_id, task_id, template_id, priority, content_type, context, metadata,
        idempotency_key, correlation_id, requested_by, reason, traceparent, tracestate
    )
), taken AS (
    DELETE FROM pgmq.q_orchestration_task_requests AS message
    USING item WHERE message.msg_id = item.message_id
    RETURNING message.msg_id
), wanted AS MATERIALIZED (
    SELECT item.*, namespace, name, version, step_count, root_count
    FROM item JOIN templates USING (template_id)
    WHERE message_id IS NULL OR message_id IN (SELECT msg_id FROM taken)
), born AS (
    INSERT INTO tasks (task_id, template_id, namespace, priority, state, total, ready)
    SELECT task_id, template_id, namespace, priority,
        CASE WHEN step_count > 0 THEN 'enqueuing_steps' ELSE 'initializing' END::task_state,
        step_count, root_count
    FROM wanted
), detailed AS (
    INSERT INTO task_details (task_id, content_type, context, metadata, idempotency_key,
        correlation_id, requested_by, reason, traceparent, tracestate)
    SELECT task_id, content_type, context, metadata, idempotency_key,
        correlation_id, requested_by, reason, traceparent, tracestate
    FROM wanted
), identified AS (
    -- A key that another has taken fails the whole batch: the caller has looked before.
    INSERT INTO task_identities (identity, task_id)
    SELECT identity, task_id FROM unnest($14::bytea[], $15::uuid[]) AS key (identity, task_id)
    WHERE task_id IN (SELECT task_id FROM wanted)
    -- In one order, so that two batches with the same keys do not wait for each other.
    ORDER BY identity
), searchable AS (
    INSERT INTO task_search (task_id, namespace, name, version, correlation_id)
    SELECT task_id, namespace, name, version, correlation_id FROM wanted
), laid_out AS (
    INSERT INTO steps (task_id, ordinal, name, unmet_dependencies, max_attempts)
    SELECT task_id, ordinal, template_steps.name, dependencies, max_attempts
    FROM wanted JOIN template_steps USING (template_id)
), history AS (
    INSERT INTO task_transitions (task_id, events, to_state, actor)
    SELECT task_id,
        CASE WHEN step_count > 0 THEN '{Start,ReadyStepsFound}' ELSE '{Start}' END::task_event[],
        CASE WHEN step_count > 0 THEN 'enqueuing_steps' ELSE 'initializing' END::task_state, $16
    FROM wanted
), ready AS (
    INSERT INTO pgmq.q_orchestration_ready_steps (vt, message, headers)
    SELECT clock_timestamp(),
        jsonb_build_object('task_id', task_id, 'ordinal', ordinal, 'namespace', namespace,
            'template_id', template_id, 'priority', priority),
        jsonb_build_object('traceparent', traceparent)
    FROM wanted JOIN template_steps USING (template_id)
    WHERE dependencies = 0
    RETURNING msg_id, message, headers
), finalizable AS (
    INSERT INTO pgmq.q_orchestration_task_finalizations (vt, message, headers)
    SELECT clock_timestamp(), jsonb_build_object('task_id', task_id),
        jsonb_build_object('traceparent', traceparent)
    FROM wanted WHERE step_count = 0
    RETURNING msg_id, message, headers
)
SELECT 'ready' AS "kind!", msg_id AS "message_id!", message AS "message!", headers FROM ready
UNION ALL
SELECT 'finalization', msg_id, message, headers FROM finalizable
