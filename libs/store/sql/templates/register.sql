-- Registers a template with its steps, and makes sure that its namespace has a worker queue.
-- Returns whether it was new.
WITH registered AS (
    INSERT INTO templates (template_id, namespace, name, version, precedence, digest, yaml,
        step_count, root_count)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    ON CONFLICT (namespace, name, version) DO NOTHING
    RETURNING template_id
), steps AS (
    INSERT INTO template_steps (template_id, ordinal, name, callable, max_attempts, dependencies)
    SELECT template_id, ordinal, name, callable, max_attempts, dependencies
    FROM registered
    CROSS JOIN unnest($10::integer[], $11::text[], $12::text[], $13::integer[], $14::integer[])
        AS step (ordinal, name, callable, max_attempts, dependencies)
), dependencies AS (
    INSERT INTO template_dependencies (template_id, parent, child)
    SELECT template_id, parent, child
    FROM registered CROSS JOIN unnest($15::integer[], $16::integer[]) AS edge (parent, child)
)
SELECT EXISTS (SELECT FROM registered) AS "registered!"
