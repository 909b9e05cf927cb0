-- Lets nobody else begin steps under these limits until the transaction ends. In one order; before tasks.
SELECT pg_advisory_xact_lock(key) FROM (
    SELECT DISTINCT hashtextextended(concat_ws(chr(31), 'tasker.limit', $1::text, name, value), 0) AS key
    FROM unnest($2::text[], $3::text[]) AS asked (name, value)
    ORDER BY key
) AS asked
