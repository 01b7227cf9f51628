//! The connections of a Postgres thread and of the feed, by what each is for.

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Commit,
    Read,
    Count,
    Search,
    Feed,
    Bulk,
}

impl Role {
    /// All of them, in their order.
    pub(super) const ALL: [Role; 6] =
        [Role::Commit, Role::Read, Role::Count, Role::Search, Role::Feed, Role::Bulk];

    /// For the log, and for `application_name`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Role::Commit => "commit",
            Role::Read => "read",
            Role::Count => "count",
            Role::Search => "search",
            Role::Feed => "feed",
            Role::Bulk => "bulk",
        }
    }
}
