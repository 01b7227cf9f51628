//! What a node's Patroni says of the cluster, and what it can be told, over its REST interface.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;

use crate::Result;
use crate::http::{self, Question};

/// Limit of each step of one question.
const ASK_TIME_MAX: Duration = Duration::from_secs(2);
/// A switchover is answered when it is done.
const SWITCHOVER_TIME_MAX: Duration = Duration::from_secs(60);
const PORT: u16 = 8008;

/// A member of the cluster as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The node's name.
    pub name: String,
    /// `leader`, `sync_standby`, `replica`.
    pub role: String,
    /// `running`, `streaming`, ..
    pub state: String,
    /// The timeline of its Postgres.
    pub timeline: Option<u64>,
}

/// The members as the Patroni of this address sees them.
pub fn members(address: Ipv4Addr) -> Result<Vec<Member>> {
    let (status, answer) = ask(address, "GET", "/cluster")?;
    if status != 200 {
        return Err(format!("expected 200 of {address}, got {status}: {answer}").into());
    }
    let answer: Value = serde_json::from_str(&answer)?;
    let text = |member: &Value, name: &str| member[name].as_str().unwrap_or_default().to_owned();
    let members = answer["members"].as_array().ok_or("expected members")?;
    Ok(members
        .iter()
        .map(|member| Member {
            name: text(member, "name"),
            role: text(member, "role"),
            state: text(member, "state"),
            timeline: member["timeline"].as_u64(),
        })
        .collect())
}

/// Whether the node of this address holds the lock and serves as the primary.
pub fn is_primary(address: Ipv4Addr) -> bool {
    ask(address, "OPTIONS", "/primary").is_ok_and(|(status, _)| status == 200)
}

/// Moves the primary from one node to another; returns when that is done.
pub fn switch_over(address: Ipv4Addr, from: &str, to: &str, password: &str) -> Result<()> {
    let wish = serde_json::json!({ "leader": from, "candidate": to }).to_string();
    let question = Question {
        method: "POST",
        path: "/switchover",
        body: &wish,
        credentials: Some(("patroni", password)),
        time_max: SWITCHOVER_TIME_MAX,
    };
    let (status, answer) = http::ask((address, PORT).into(), &question)?;
    match status {
        200 => Ok(()),
        _ => Err(format!("expected a switchover from {from} to {to}, got {status}: {answer}").into()),
    }
}

/// A question without credentials.
fn ask(address: Ipv4Addr, method: &str, path: &str) -> Result<(u16, String)> {
    let question = Question { method, path, body: "", credentials: None, time_max: ASK_TIME_MAX };
    http::ask((address, PORT).into(), &question)
}
