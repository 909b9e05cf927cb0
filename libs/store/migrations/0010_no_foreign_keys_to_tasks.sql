-- A task and its rows are born in one statement, and nothing deletes a task: the keys could not be
-- broken, and checking them, row by row, took almost half of the time of a birth. Each check also locked
-- the one row of the template, which all births of a template then shared.
ALTER TABLE tasks DROP CONSTRAINT tasks_template_id_fkey;
ALTER TABLE task_details DROP CONSTRAINT task_details_task_id_fkey;
ALTER TABLE task_identities DROP CONSTRAINT task_identities_task_id_fkey;
ALTER TABLE task_search DROP CONSTRAINT task_search_task_id_fkey;
ALTER TABLE steps DROP CONSTRAINT steps_task_id_fkey;
