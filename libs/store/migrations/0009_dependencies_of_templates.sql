-- Who waits for whom is the template's, which never changes: a task of it needs no copy.
DROP TABLE step_dependencies;

-- For what a delivery carries: the results of a step's parents.
CREATE INDEX template_dependencies_by_child ON template_dependencies (template_id, child);
