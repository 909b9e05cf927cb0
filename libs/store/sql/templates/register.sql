-- Registers a template with its steps.
-- Returns whether it was new.
WITH registered AS (
    INSERT INTO templates (template_id, namespace, name, version, precedence, digest, yaml,
        environment, step_count, root_count)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT (namespace, name, version) DO NOTHING
    RETURNING template_id
), steps AS (
    INSERT INTO template_steps (template_id, ordinal, name, callable, queue, max_attempts, dependencies,
        plain, first, expands)
    SELECT template_id, ordinal, name, callable, nullif(queue, $2), max_attempts, dependencies, plain,
        first, expands
    FROM registered
    CROSS JOIN unnest(
        $11::integer[], $12::text[], $13::text[], $14::text[], $15::integer[], $16::integer[], $19::boolean[],
        $20::boolean[], $21::boolean[]
    ) AS step (ordinal, name, callable, queue, max_attempts, dependencies, plain, first, expands)
), dependencies AS (
    INSERT INTO template_dependencies (template_id, parent, child)
    SELECT template_id, parent, child
    FROM registered CROSS JOIN unnest($17::integer[], $18::integer[]) AS edge (parent, child)
)
SELECT EXISTS (SELECT FROM registered) AS "registered!"
