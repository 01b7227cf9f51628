//! What a statement without a result means for the rows that it was about. It knows codes, not rows.

use tokio_postgres::error::SqlState;

use super::failure::Failure;
use super::placement::{AT_HOME, CLOSED};

/// What a refused or lost statement means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The statement was undone, and one of its rows is at fault: the others will pass without it. The SQLSTATE.
    Row(Box<str>),
    /// The statement was undone by a deadlock or a serialization failure: the same rows may pass at once.
    Conflict,
    /// The statement was undone because somebody holds a lock: on the table, or on an apelido in an open transaction.
    Locked,
    /// The statement was undone: the partition of its rows is at another server, or on its way there.
    Elsewhere(String),
    /// What became of the rows is unknown, or the server takes none at the moment: they go again on another session.
    Session(String),
}

impl Fault {
    /// The fault of an insert. It is a transaction of its own, so an error has undone it, whatever the code says.
    pub(super) fn of(failure: &Failure) -> Fault {
        let Some(code) = failure.undone() else { return Fault::Session(failure.to_string()) };
        if [&SqlState::T_R_DEADLOCK_DETECTED, &SqlState::T_R_SERIALIZATION_FAILURE]
            .iter()
            .any(|state| state.code() == code)
        {
            return Fault::Conflict;
        }
        if code == SqlState::LOCK_NOT_AVAILABLE.code() {
            return Fault::Locked;
        }
        let moved =
            failure.constraint().is_some_and(|name| name.starts_with(AT_HOME) || name.starts_with(CLOSED));
        if moved
            || [&SqlState::UNDEFINED_TABLE, &SqlState::INVALID_SCHEMA_NAME]
                .iter()
                .any(|state| state.code() == code)
        {
            return Fault::Elsewhere(failure.to_string());
        }
        match code.get(..2) {
            // The connection, what the server can, a read-only transaction, a prepared statement that is not there, no
            // resources, an operator, the system, a bug: all rows would meet it.
            Some("08" | "0A" | "25" | "26" | "53" | "57" | "58" | "XX") | None => {
                Fault::Session(failure.to_string())
            }
            Some(_) => Fault::Row(code.into()),
        }
    }

    /// The fault of a lookup. No row can be at fault in it, so another session may do better.
    pub(super) fn of_lookup(failure: &Failure) -> Fault {
        match Fault::of(failure) {
            Fault::Row(_) | Fault::Elsewhere(_) => Fault::Session(format!("the lookup failed: {failure}")),
            fault => fault,
        }
    }
}

/// Whether a code that a lone row met says that this row cannot be stored, as a check or a trigger of the table would. Else
/// it says that the table cannot be written to: rights, columns, limits.
pub(super) fn is_about_the_row(code: &str) -> bool {
    !matches!(code.get(..2), Some("0L" | "0P" | "21" | "28" | "3D" | "3F" | "42" | "54" | "55" | "F0" | "HV"))
}

#[cfg(test)]
mod tests {
    use tokio_postgres::error::Severity;

    use super::*;

    fn refused(code: &str, severity: Option<Severity>) -> Failure {
        Failure::Refused {
            sqlstate: SqlState::from_code(code),
            severity,
            constraint: None,
            message: "no".into(),
        }
    }

    #[test]
    fn a_fault_is_told_by_code_and_severity() {
        let row = |code: &str| Fault::Row(code.into());
        let session = |code: &str| Fault::Session(format!("no (SQLSTATE {code})"));
        for (code, expected) in [
            ("40001", Fault::Conflict),
            ("40P01", Fault::Conflict),
            ("55P03", Fault::Locked),
            ("22P05", row("22P05")),
            ("23514", row("23514")),
            // A trigger, with a code of the language's or of its own; a policy of the table.
            ("P0001", row("P0001")),
            ("RIN01", row("RIN01")),
            ("42501", row("42501")),
            ("54000", row("54000")),
            ("0A000", session("0A000")),
            ("25006", session("25006")),
            ("26000", session("26000")),
            ("53100", session("53100")),
            ("57014", session("57014")),
            ("58030", session("58030")),
            ("XX001", session("XX001")),
        ] {
            for severity in [None, Some(Severity::Error)] {
                assert_eq!(Fault::of(&refused(code, severity)), expected);
            }
            // The session is over: a standby says 40001 when it ends one.
            for severity in [Severity::Fatal, Severity::Panic] {
                assert_eq!(Fault::of(&refused(code, Some(severity))), session(code));
            }
        }
        assert_eq!(Fault::of(&Failure::Lost("gone".into())), Fault::Session("gone".into()));
    }

    #[test]
    fn a_row_that_belongs_elsewhere_is_not_at_fault() {
        let elsewhere = |code: &str| Fault::Elsewhere(format!("no (SQLSTATE {code})"));
        for code in ["42P01", "3F000"] {
            assert_eq!(Fault::of(&refused(code, Some(Severity::Error))), elsewhere(code));
        }
        for (constraint, expected) in [
            (CLOSED, elsewhere("23514")),
            ("pessoas_have_moved_to_7", elsewhere("23514")),
            (AT_HOME, elsewhere("23514")),
            ("pessoas_stack_check", Fault::Row("23514".into())),
        ] {
            let Failure::Refused { sqlstate, severity, message, .. } =
                refused("23514", Some(Severity::Error))
            else {
                unreachable!("it was just made")
            };
            let constraint = Some(constraint.into());
            assert_eq!(Fault::of(&Failure::Refused { sqlstate, severity, constraint, message }), expected);
        }
    }

    #[test]
    fn a_lookup_has_no_row_at_fault() {
        let lost = Fault::of_lookup(&refused("22P05", Some(Severity::Error)));
        assert!(matches!(lost, Fault::Session(_)));
        assert_eq!(Fault::of_lookup(&refused("55P03", Some(Severity::Error))), Fault::Locked);
    }

    #[test]
    fn a_lone_row_is_refused_only_for_what_it_is() {
        for (code, about_the_row) in [
            ("23514", true),
            ("22P05", true),
            ("P0001", true),
            ("44000", true),
            ("RIN01", true),
            ("42501", false),
            ("42P01", false),
            ("54000", false),
        ] {
            assert_eq!(is_about_the_row(code), about_the_row, "{code}");
        }
    }
}
