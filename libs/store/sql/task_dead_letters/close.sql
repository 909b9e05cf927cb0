-- Closes entries whose task has ended since: nobody has to look into it any more. By hand and for messages
-- also tasks that have ended are put here; all others were open, though the transaction that ended one may
-- have begun before its entry was made.
UPDATE task_dead_letters AS entry
SET status = CASE search.rests_in
        WHEN 'cancelled' THEN 'cancelled'
        WHEN 'error' THEN 'permanent_failure'
        ELSE 'manually_resolved'
    END::dead_letter_status,
    resolved_at = greatest(search.ended_at, entry.created_at), resolver = $1,
    notes = concat_ws(E'\n', nullif(entry.notes, ''), 'The task has ended since: ' || search.rests_in || '.')
FROM task_search AS search
WHERE entry.status = 'pending' AND search.task_id = entry.task_id AND search.ended_at IS NOT NULL
  AND (search.ended_at > entry.created_at OR entry.reason NOT IN ('manual', 'poison_message'))
