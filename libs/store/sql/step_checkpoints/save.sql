-- Saves how far steps have come, for the workers that still hold them. Names each step once: a twin waits
-- for the next batch. Returns a verdict each.
WITH judged AS (
    SELECT item.*, steps.attempt, CASE
        WHEN steps.delivery_id = item.delivery_id THEN 'committed'
        ELSE 'lease_lost'
    END AS verdict
    FROM unnest($1::uuid[], $2::integer[], $3::uuid[], $4::bytea[]) WITH ORDINALITY
        AS item (task_id, ordinal, delivery_id, checkpoint, position)
    JOIN tasks USING (task_id)
    JOIN steps USING (task_id, ordinal)
    ORDER BY task_id, ordinal FOR NO KEY UPDATE OF tasks, steps
), saved AS (
    INSERT INTO step_checkpoints (task_id, ordinal, attempt, checkpoint)
    SELECT task_id, ordinal, attempt, checkpoint FROM judged WHERE verdict = 'committed'
    ON CONFLICT (task_id, ordinal) DO UPDATE
    SET attempt = EXCLUDED.attempt, checkpoint = EXCLUDED.checkpoint, saved_at = EXCLUDED.saved_at
), marked AS (
    -- Once: what a step saves later changes only its row of step_checkpoints.
    UPDATE steps SET has_checkpoint = true
    FROM judged
    WHERE (steps.task_id, steps.ordinal) = (judged.task_id, judged.ordinal)
      AND judged.verdict = 'committed' AND NOT steps.has_checkpoint
)
SELECT position AS "position!", verdict AS "verdict!" FROM judged
