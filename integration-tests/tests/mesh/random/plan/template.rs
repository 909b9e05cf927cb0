//! A plan as the template that is registered.

use serde_json::{Value, json};

use super::{Batch, Kind, LIMITS, Plan, Rate, Step, Strategy};

impl Plan {
    pub(in super::super) fn template(&self, namespace: &str) -> String {
        let steps = self.steps.iter().map(|step| self.declared(step));
        json!({
            "namespace": namespace,
            "name": self.name,
            "version": "1.0.0",
            "steps": steps.collect::<Vec<_>>(),
        })
        .to_string()
    }

    fn declared(&self, step: &Step) -> Value {
        let parents = step.parents.iter().map(|parent| &self.steps[*parent].name);
        let limits = step.limits.iter().map(|nth| {
            let limit = &LIMITS[*nth];
            let mut declared = json!({"name": limit.name});
            if let Some(key) = limit.key {
                declared["key"] = json!(key);
            }
            if let Some(most) = limit.most {
                declared["max_concurrent"] = json!(most);
            }
            if let Some(Rate { count, seconds }) = limit.rate {
                declared["rate"] = json!({"count": count, "per_seconds": seconds});
            }
            declared
        });
        let mut declared = json!({
            "name": step.name,
            "type": of_type(&step.kind),
            "handler": {"callable": "follow"},
            "dependencies": parents.collect::<Vec<_>>(),
            "limits": limits.collect::<Vec<_>>(),
            "retry": {
                "max_attempts": step.max_attempts,
                "retryable": step.retryable,
                "backoff": step.back_off,
                "backoff_base_ms": 10,
                "max_backoff_ms": 30,
            },
        });
        if let Kind::Batchable(Batch { parallelism, strategy, .. }) = step.kind {
            let failure_strategy = match strategy {
                Strategy::ContinueOnFailure => "continue_on_failure",
                Strategy::FailFast => "fail_fast",
                Strategy::Isolate => "isolate",
            };
            declared["batch_config"] =
                json!({"parallelism": parallelism, "failure_strategy": failure_strategy});
        }
        if step.has_schema {
            let attempt = json!({"type": "integer", "minimum": 1});
            declared["result_schema"] =
                json!({"type": "object", "properties": {"attempt": attempt}});
        }
        declared
    }
}

fn of_type(kind: &Kind) -> &'static str {
    match kind {
        Kind::Standard => "standard",
        Kind::Decision { .. } => "decision",
        Kind::Convergence => "deferred_convergence",
        Kind::Batchable(_) => "batchable",
        Kind::BatchWorker(_) => "batch_worker",
    }
}
