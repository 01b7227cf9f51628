//! One line of the table for each fault and form: what it cost.

use std::fmt;
use std::time::Duration;

use crate::history::{Asked, Entry, Told, longest_gap};

/// A plain writer that committed nothing for so long could not.
const ENGINE_PAUSE_MAX: Duration = Duration::from_millis(500);

/// What a fault cost the clients of one form.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) fault: String,
    pub(crate) form: &'static str,
    /// Rows that were acknowledged and are gone, of all instances.
    pub(crate) lost: usize,
    /// Other lies, of all instances.
    pub(crate) wrong: usize,
    /// The longest time without a 201 of an instance.
    pub(crate) gap: Duration,
    /// The longest time in which no plain writer committed anything on any node.
    pub(crate) engine: Duration,
    /// The same through a balancer, for a form that has one.
    pub(crate) way: Duration,
    /// The longest time within an instance's longest gap in which the writers on this form's way went on committing.
    pub(crate) behind: Duration,
    /// Reads of what memory has.
    pub(crate) reads: usize,
    /// Those of them that were not answered with the pessoa.
    pub(crate) reads_failed: usize,
    /// The longest time from one of these answers to the next.
    pub(crate) reads_gap: Duration,
}

impl Line {
    /// Counts what happened between `from` and `to` at these instances. The writers' commits are those at all nodes, and
    /// those that went this form's way.
    pub(crate) fn of(
        (fault, form, instances): (&str, &'static str, &[usize]),
        history: &[Entry],
        (engine, way): (&[Duration], &[Duration]),
        (from, to): (Duration, Duration),
    ) -> Line {
        let mut line = Line {
            fault: fault.to_owned(),
            form,
            lost: 0,
            wrong: 0,
            gap: Duration::ZERO,
            engine: length(longest_gap(engine.iter().copied(), from, to)),
            way: length(longest_gap(way.iter().copied(), from, to)),
            behind: Duration::ZERO,
            reads: 0,
            reads_failed: 0,
            reads_gap: Duration::ZERO,
        };
        for instance in instances {
            let own = || history.iter().filter(|entry| entry.instance == *instance);
            let created =
                own().filter(|entry| matches!(entry.told, Told::Created { .. })).map(|entry| entry.ended);
            let gap = longest_gap(created, from, to);
            line.gap = line.gap.max(length(gap));
            line.behind = line.behind.max(length(longest_run(way, gap)));
            let reads = || {
                own().filter(|entry| {
                    matches!(entry.asked, Asked::Get { known: true, .. })
                        && entry.ended > from
                        && entry.began < to
                })
            };
            let answered =
                reads().filter(|entry| matches!(entry.told, Told::Found(_))).map(|entry| entry.ended);
            let silence = longest_gap(answered, from, to);
            line.reads += reads().count();
            line.reads_failed += reads().filter(|entry| !matches!(entry.told, Told::Found(_))).count();
            line.reads_gap = line.reads_gap.max(length(silence));
        }
        line
    }

    /// The head of the table.
    pub(crate) fn head() -> String {
        "| fault | form | rows lost | wrong answers | gap without a 201, ms | of it the engine's | the balancer's | that the engine did not miss |  reads, failed, longest gap ms |\n\
         |---|---|---|---|---|---|---|---|---|"
            .to_owned()
    }
}

/// The times without a commit that are longer than a pause of a writer.
pub(crate) fn silences(commits: &[Duration], (from, to): (Duration, Duration)) -> Vec<(Duration, Duration)> {
    let mut commits: Vec<Duration> = commits.iter().copied().filter(|at| *at > from && *at < to).collect();
    commits.sort();
    let begins = [from].into_iter().chain(commits.iter().copied());
    let ends = commits.iter().copied().chain([to]);
    begins.zip(ends).filter(|silence| length(*silence) > ENGINE_PAUSE_MAX).collect()
}

/// The longest time between two silences. There may be several of them: a standby that was just made the primary commits
/// for a moment, and then waits until another node follows it.
fn longest_run(commits: &[Duration], (from, to): (Duration, Duration)) -> (Duration, Duration) {
    let silences = silences(commits, (from, to));
    let begins = [from].into_iter().chain(silences.iter().map(|silence| silence.1));
    let ends = silences.iter().map(|silence| silence.0).chain([to]);
    begins.zip(ends).max_by_key(|run| length(*run)).unwrap_or((from, to))
}

fn length((from, to): (Duration, Duration)) -> Duration {
    to - from
}

impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {}, {}, {} |",
            self.fault,
            self.form,
            self.lost,
            self.wrong,
            self.gap.as_millis(),
            self.engine.as_millis(),
            self.way.as_millis(),
            self.behind.as_millis(),
            self.reads,
            self.reads_failed,
            self.reads_gap.as_millis()
        )
    }
}
