-- Sends durable events to the queues of their namespaces, in the transaction that takes the results.
WITH batch AS (
    -- An array a namespace: that is how PGMQ takes a batch.
    SELECT namespace, array_agg(message ORDER BY position) AS messages,
        array_agg(trace_headers(traceparent) ORDER BY position) AS headers
    FROM unnest($1::text[], $2::jsonb[], $3::text[]) WITH ORDINALITY
        AS event (namespace, message, traceparent, position)
    GROUP BY namespace
)
SELECT count(message_id) AS "sent!"
FROM batch
CROSS JOIN LATERAL pgmq.send_batch(namespace || '_domain_events', messages, headers) AS message_id
