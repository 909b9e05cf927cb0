//! Where a task's time goes between the stages, by their spans.

use std::collections::{BTreeMap, HashMap};

use tasker_integration_tests::ReceivedSpan;

use crate::load::STEPS;

/// All spans of some tasks.
#[derive(Debug)]
pub struct Traces(HashMap<String, Vec<ReceivedSpan>>);

/// Spans of one kind, added up; times in ms.
#[derive(Debug, Default)]
struct Kind {
    count: usize,
    with_children: f64,
    alone: f64,
    /// How long after its parent it began.
    after: f64,
}

impl Traces {
    /// Those that hold a task from its birth to its end.
    pub fn of_tasks(spans: Vec<ReceivedSpan>) -> Self {
        let mut traces: HashMap<String, Vec<ReceivedSpan>> = HashMap::new();
        for span in spans {
            traces.entry(span.trace_id.clone()).or_default().push(span);
        }
        let count =
            |spans: &[ReceivedSpan], name| spans.iter().filter(|it| it.name == name).count();
        traces.retain(|_, spans| {
            count(spans, "task.create") == 1 && count(spans, "step.complete") == STEPS
        });
        Self(traces)
    }

    pub fn print_kinds(&self) {
        let mut kinds: BTreeMap<String, Kind> = BTreeMap::new();
        for spans in self.0.values() {
            let by_id: HashMap<&str, &ReceivedSpan> =
                spans.iter().map(|span| (span.span_id.as_str(), span)).collect();
            for span in spans {
                let kind = kinds.entry(name(span)).or_default();
                let parent = by_id.get(span.parent_id.as_str()).copied();
                kind.count += 1;
                kind.with_children += ms(span.ended - span.began);
                kind.alone += ms(alone(span, spans));
                kind.after += parent.map_or(0.0, |parent| ms(span.began - parent.began));
            }
        }
        let tasks = self.0.len().max(1) as f64;
        println!("\nSpans of {} tasks: mean times in ms", self.0.len());
        println!(
            "{:64} {:>8} {:>9} {:>9} {:>9} {:>13}",
            "", "per task", "itself", "per task", "in all", "after parent"
        );
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by(|(_, a), (_, b)| b.alone.total_cmp(&a.alone));
        for (name, kind) in kinds {
            let count = kind.count as f64;
            println!(
                "{name:64} {:>8.2} {:>9.3} {:>9.3} {:>9.3} {:>13.3}",
                count / tasks,
                kind.alone / count,
                kind.alone / tasks,
                kind.with_children / count,
                kind.after / count
            );
        }
    }

    /// When each span of a task begins and ends, from the begin of its first.
    pub fn print_way(&self) {
        let mut places: BTreeMap<(String, usize), (usize, f64, f64)> = BTreeMap::new();
        for spans in self.0.values() {
            let mut spans: Vec<_> = spans.iter().collect();
            spans.sort_by_key(|span| span.began);
            let began = spans[0].began;
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            for span in spans {
                let nth = seen.entry(name(span)).or_default();
                *nth += 1;
                let place = places.entry((name(span), *nth)).or_default();
                place.0 += 1;
                place.1 += ms(span.began - began);
                place.2 += ms(span.ended - began);
            }
        }
        // What only few tasks have is no part of the way.
        let mut places: Vec<_> = places
            .into_iter()
            .filter(|(_, (count, ..))| *count * 2 > self.0.len())
            .map(|((name, nth), (count, began, ended))| {
                (began / count as f64, ended / count as f64, name, nth)
            })
            .collect();
        places.sort_by(|a, b| a.0.total_cmp(&b.0));
        println!("\nThe way of a task: mean begin and end of its spans, in ms");
        for (began, ended, name, nth) in places {
            println!("{began:>9.3} {ended:>9.3}  {name} {nth}");
        }
    }
}

/// For example `step.complete`, or `rpc.serve tasker.v1.TaskService/CreateTask at gateway`.
fn name(span: &ReceivedSpan) -> String {
    let method = span.attributes.get("rpc.method").map(String::as_str).unwrap_or_default();
    if method.is_empty() {
        return span.name.clone();
    }
    let service = span.service.trim_start_matches("tasker-");
    format!("{} {method} at {service}", span.name)
}

/// The time of a span in which no child of it runs, in ns.
fn alone(span: &ReceivedSpan, spans: &[ReceivedSpan]) -> i64 {
    let mut children: Vec<_> = spans
        .iter()
        .filter(|child| child.parent_id == span.span_id)
        .map(|child| (child.began.max(span.began), child.ended.min(span.ended)))
        .filter(|(began, ended)| began < ended)
        .collect();
    children.sort_unstable();
    let (mut covered, mut until) = (0, span.began);
    for (began, ended) in children {
        covered += (ended - began.max(until)).max(0);
        until = until.max(ended);
    }
    span.ended - span.began - covered
}

fn ms(nanoseconds: i64) -> f64 {
    nanoseconds as f64 / 1e6
}
