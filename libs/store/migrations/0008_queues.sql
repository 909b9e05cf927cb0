-- The queues between the stages. Statements name their tables: one round trip, no dynamic SQL.
SELECT pgmq.create('orchestration_task_requests');
SELECT pgmq.create('orchestration_ready_steps');
SELECT pgmq.create('orchestration_step_results');
SELECT pgmq.create('orchestration_task_finalizations');

-- Where messages are parked that cannot be worked off, with the reason.
SELECT pgmq.create('orchestration_task_requests_dlq');
SELECT pgmq.create('orchestration_ready_steps_dlq');
SELECT pgmq.create('orchestration_step_results_dlq');
SELECT pgmq.create('orchestration_task_finalizations_dlq');

-- The steps that the worker queues hold, as the calling statement's snapshot sees them: as text, since
-- anybody may have written there.
CREATE FUNCTION steps_in_worker_queues() RETURNS TABLE (task_id text, ordinal text)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    queue text;
BEGIN
    FOR queue IN SELECT queue_name FROM pgmq.meta WHERE queue_name ~ '^worker_.*_queue$' LOOP
        RETURN QUERY EXECUTE format(
            'SELECT message->>''task_id'', message->>''ordinal'' FROM pgmq.%I',
            'q_' || queue
        );
    END LOOP;
END
$$;
