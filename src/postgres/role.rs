//! The connections of a Postgres thread and of the feed, by what each is for.

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Commit,
    Read,
    Search,
    Feed,
    Bulk,
}

impl Role {
    /// For the log, and for `application_name`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Role::Commit => "commit",
            Role::Read => "read",
            Role::Search => "search",
            Role::Feed => "feed",
            Role::Bulk => "bulk",
        }
    }
}
