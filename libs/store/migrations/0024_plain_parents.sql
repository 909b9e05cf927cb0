-- A step is plain only if nothing that waits for it is younger than it is (tasker_domain::expand::plain_steps).
-- Of templates that are here already it is asked, more simply, whether all of that is born with the task.
-- Else a statement that takes its result may wait for the task while another brings its dependant into
-- being: it does not see that one, and never counts it down.
UPDATE template_steps AS step SET plain = false
FROM template_dependencies AS edge
JOIN template_steps AS child ON (child.template_id, child.ordinal) = (edge.template_id, edge.child)
WHERE (edge.template_id, edge.parent) = (step.template_id, step.ordinal) AND step.plain AND NOT child.first;

UPDATE steps SET plain = false
FROM tasks JOIN template_steps AS declaration USING (template_id)
WHERE steps.task_id = tasks.task_id AND declaration.ordinal = steps.ordinal AND NOT declaration.plain
  AND steps.plain AND NOT is_settled(steps.state);
