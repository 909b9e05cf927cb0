-- Notes what has come of looking into an entry. One that is resolved takes notes, and no other status.
-- Returns the status that it had, if there is one, and whether it took the change.
WITH known AS (
    SELECT entry_id, status FROM task_dead_letters WHERE entry_id = $1 FOR NO KEY UPDATE
), changed AS (
    UPDATE task_dead_letters AS entry
    SET status = coalesce($2::text::dead_letter_status, entry.status),
        resolved_at = CASE
            WHEN coalesce($2::text, 'pending') = 'pending' THEN entry.resolved_at
            ELSE coalesce(entry.resolved_at, now())
        END,
        notes = coalesce($3::text, entry.notes), resolver = $4
    FROM known
    WHERE entry.entry_id = known.entry_id
      AND (known.status = 'pending' OR known.status::text = coalesce($2::text, known.status::text))
    RETURNING entry.entry_id
)
SELECT status::text AS "status!", EXISTS (SELECT FROM changed) AS "changed!" FROM known
