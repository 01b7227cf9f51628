//! What may stand in the server's place, so that a report shows the floor of all others: what the machine, the balancer
//! and the load generator take by themselves. It does not know how it is started or judged.

use serde::{Deserialize, Serialize};

/// The program of the package `tools` that answers in the server's place.
pub(crate) const PROGRAM: &str = "limit";
/// The variable by which that program inserts nothing.
pub(crate) const NO_INSERTS: &str = "NO_INSERTS";

/// What answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Floor {
    /// The same to everybody; nothing is kept.
    #[serde(rename = "baseline: a constant answer")]
    ConstantAnswer,
    /// The same, after an insert of one row for each create.
    #[serde(rename = "limit: a bare insert for each create")]
    BareInsert,
}

impl Floor {
    /// As titles and `run.json` say it, so that nobody takes it for the server.
    pub fn name(self) -> &'static str {
        match self {
            Floor::ConstantAnswer => "baseline: a constant answer",
            Floor::BareInsert => "limit: a bare insert for each create",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_down_as_it_is_called() {
        for floor in [Floor::ConstantAnswer, Floor::BareInsert] {
            let text = serde_json::to_string(&floor).expect("JSON");
            assert_eq!(text, format!("{:?}", floor.name()));
            assert_eq!(serde_json::from_str::<Floor>(&text).expect("a floor"), floor);
        }
    }
}
