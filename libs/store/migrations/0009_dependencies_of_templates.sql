-- Who waits for whom is the template's, which never changes: a task of it needs no copy.
DROP TABLE step_dependencies;
