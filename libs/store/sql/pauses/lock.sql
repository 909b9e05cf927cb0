-- Lets no statement begin steps until the transaction ends, and waits for those that do: a pause or resume of
-- a template then holds for every step that begins after its commit. Before tasks.
SELECT pg_advisory_xact_lock(hashtextextended('tasker.pauses', 0)) IS NOT NULL AS "locked!"
