//! The lies: what a file of the server has exactly once, and what stands there instead. The build script makes the changes;
//! the torture chamber tells them one after another.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "the build script reads the changes, and the chamber the names"
)]

/// One lie.
pub struct Lie {
    pub name: &'static str,
    /// What it comes to.
    pub what: &'static str,
    pub file: &'static str,
    pub from: &'static str,
    pub to: &'static str,
}

/// All of them.
pub const LIES: &[Lie] = &[
    Lie {
        name: "early",
        what: "201 before the commit",
        file: "postgres/settle.rs",
        from: "let insert = self.counters.time(Operation::Insert, self.session.insert(&rows));",
        to: r#"
        if crate::lie::told("early") {
            for row in &rows {
                if let Some(ticket) = row.ticket.take() {
                    let record = row.asked.clone();
                    self.queue.outbox().push(Report::Committed { ticket: Some(ticket), record });
                }
            }
            self.queue.outbox().wake();
        }
        let insert = self.counters.time(Operation::Insert, self.session.insert(&rows));"#,
    },
    Lie {
        name: "no-index",
        what: "no unique index of apelido",
        file: "postgres/sql/schema.rs",
        from: "// One transaction: the lock ends with it,",
        to: r#"let text = if crate::lie::told("no-index") {
        SCHEMA.replace("NOT NULL UNIQUE", "NOT NULL")
    } else {
        SCHEMA.to_owned()
    };
    // One transaction: the lock ends with it,"#,
    },
    Lie {
        name: "no-index",
        what: "no unique index of apelido",
        file: "postgres/sql/schema.rs",
        from: "{SCHEMA}; {end}",
        to: "{text}; {end}",
    },
    Lie {
        name: "no-index",
        what: "no unique index of apelido",
        file: "postgres/sql/schema.rs",
        from: "if !unique.iter().any(|found| found == column) {",
        to: r#"if !crate::lie::told("no-index") && !unique.iter().any(|found| found == column) {"#,
    },
    Lie {
        name: "nudge-only",
        what: "a feed that asks only when it is notified",
        file: "postgres/feed.rs",
        from: "let (quiet, here) = self.ask(session, &server, same_session).await?;",
        to: r#"
                    let (quiet, here) = if same_session && !heard && crate::lie::told("nudge-only") {
                        (true, session.here().clone())
                    } else {
                        heard = false;
                        self.ask(session, &server, same_session).await?
                    };"#,
    },
    Lie {
        name: "nudge-only",
        what: "a feed that asks only when it is notified",
        file: "postgres/feed.rs",
        from: "() = incoming.by_others(own_pid) => ask_at = ask_at.min(asked + FEED_GAP),",
        to: "() = incoming.by_others(own_pid) => { heard = true; ask_at = ask_at.min(asked + FEED_GAP) }",
    },
    Lie {
        name: "nudge-only",
        what: "a feed that asks only when it is notified",
        file: "postgres/feed.rs",
        from: "let mut sending: Option<Sending> = None;",
        to: "let mut sending: Option<Sending> = None; let mut heard = false;",
    },
    Lie {
        name: "no-fall-through",
        what: "404 for what memory has not",
        file: "people/share.rs",
        from: "Ok(database.fetch(id).await?)",
        to: r#"if crate::lie::told("no-fall-through") { return Ok(None); } Ok(database.fetch(id).await?)"#,
    },
    Lie {
        name: "lost-wake",
        what: "one wake in five of the ring is lost",
        file: "postgres/outbox.rs",
        from: "self.reports.borrow().wake();",
        to: r#"if !crate::lie::told_once_in(5, "lost-wake") { self.reports.borrow().wake(); }"#,
    },
    Lie {
        name: "drop-last",
        what: "a batch that drops its last row",
        file: "postgres/settle.rs",
        from: "// Bytewise, as the unique index compares.",
        to: r#"
        if rows.len() > 1
            && crate::lie::told("drop-last")
            && let Some(row) = rows.pop()
        {
            self.queue.outbox().push(Report::Committed { ticket: row.ticket.take(), record: row.asked });
            self.queue.outbox().wake();
        }
        // Bytewise, as the unique index compares."#,
    },
    Lie {
        name: "guess",
        what: "an outcome that is not known is told as 422",
        file: "people/share.rs",
        from: "Err(why) => return Creation::Unavailable(why.into()),",
        to: r#"Err(_) if crate::lie::told("guess") => return Creation::Duplicate,
                Err(why) => return Creation::Unavailable(why.into()),"#,
    },
];
