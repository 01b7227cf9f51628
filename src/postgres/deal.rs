//! Before the first session, where there are several partitions: which node has which, dealt out where there are none yet,
//! and refused where a start would make a second judge of uniqueness. All nodes are locked against other starts meanwhile.

use futures_util::future::try_join_all;

use super::layout::{Partition, Partitions};
use super::meet::{Preparation, ServerFacts, has_sessions, in_time, meet, takes_every_character};
use super::placement::{CLOSED_MARK, Engine, Placement};
use super::reach::Reached;
use super::source::Source;
use super::sql::schema::{self, There};
use crate::limits::STATEMENT_TIME_MAX;

/// What is at a node.
pub(super) struct Found {
    pub(super) address: String,
    pub(super) there: There,
}

/// Makes what is missing at the nodes, and asks what each is.
pub(super) async fn prepare(nodes: &[Source]) -> Result<Vec<ServerFacts>, Preparation> {
    let sessions = try_join_all(nodes.iter().map(async |node| {
        let session = of_node(node, meet(node).await)?;
        of_node(node, has_sessions(node, &session).await)?;
        Ok::<_, Preparation>(session)
    }))
    .await?;
    are_distinct(nodes, &sessions)?;
    in_time(STATEMENT_TIME_MAX, lay_out(nodes, &sessions)).await
}

async fn lay_out(nodes: &[Source], sessions: &[Reached]) -> Result<Vec<ServerFacts>, Preparation> {
    // In an order that does not depend on how they are named: two starts must not wait for each other.
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    order.sort_by_key(|&node| sessions[node].identity.system);
    for node in order {
        // The connections are closed in the end, and the transactions with them, whatever happens.
        of_node(&nodes[node], schema::lock(&sessions[node].client).await.map_err(Preparation::from))?;
    }
    let mut found = Vec::new();
    let mut facts = Vec::new();
    for (node, session) in nodes.iter().zip(sessions) {
        let said = of_node(node, schema::facts(&session.client).await.map_err(Preparation::from))?;
        of_node(node, takes_every_character(&said.encoding))?;
        let durable = said.fsync && said.full_page_writes;
        of_node(node, is_durable(durable))?;
        facts.push(ServerFacts { version: said.version, durable });
        let there = of_node(node, schema::there(&session.client).await.map_err(Preparation::from))?;
        found.push(Found { address: node.seen().address, there });
    }
    let dealt = deal(&found, nodes[0].partitions()).map_err(Preparation::Unusable)?;
    for ((node, session), (found, partitions)) in nodes.iter().zip(sessions).zip(found.iter().zip(dealt)) {
        for partition in partitions {
            let made = schema::make_partition(&session.client, partition, found.is_new(partition)).await;
            of_node(node, made.map_err(Preparation::from))?;
        }
    }
    for (node, session) in nodes.iter().zip(sessions) {
        of_node(node, schema::commit(&session.client).await.map_err(Preparation::from))?;
    }
    Ok(facts)
}

/// What a start would find or make at one node.
pub struct Dealt {
    /// The partitions that are there.
    pub there: Vec<Partition>,
    /// Those that would be made.
    pub new: Vec<Partition>,
}

/// What [`prepare`] would do, of each node. What is not there is made in a transaction that is undone; of what is there
/// nothing is touched.
pub(super) async fn try_out(nodes: &[Source]) -> Result<Vec<Dealt>, Preparation> {
    let sessions = try_join_all(nodes.iter().map(async |node| of_node(node, meet(node).await))).await?;
    are_distinct(nodes, &sessions)?;
    in_time(STATEMENT_TIME_MAX, async {
        let mut found = Vec::new();
        for (node, session) in nodes.iter().zip(&sessions) {
            let there = of_node(node, schema::there(&session.client).await.map_err(Preparation::from))?;
            found.push(Found { address: node.seen().address, there });
        }
        let dealt = deal(&found, nodes[0].partitions()).map_err(Preparation::Unusable)?;
        let mut tried = Vec::new();
        for ((node, session), (found, partitions)) in nodes.iter().zip(&sessions).zip(found.iter().zip(dealt))
        {
            let (new, there): (Vec<_>, Vec<_>) =
                partitions.into_iter().partition(|partition| found.is_new(*partition));
            for partition in &there {
                let looked = schema::look_at_partition(&session.client, *partition).await;
                of_node(node, looked.map_err(Preparation::from))?;
            }
            if !new.is_empty() {
                of_node(node, schema::lock(&session.client).await.map_err(Preparation::from))?;
            }
            for partition in &new {
                let made = schema::make_partition(&session.client, *partition, true).await;
                of_node(node, made.map_err(Preparation::from))?;
            }
            // The connection is closed, and the transaction with it.
            tried.push(Dealt { there, new });
        }
        Ok(tried)
    })
    .await
}

impl Found {
    pub(super) fn is_new(&self, partition: Partition) -> bool {
        !self.there.partitions.iter().any(|name| Some(bare(name)) == partition.schema().as_deref())
    }
}

fn bare(name: &str) -> &str {
    name.strip_suffix(CLOSED_MARK).unwrap_or(name)
}

pub(super) fn is_durable(durable: bool) -> Result<(), Preparation> {
    let why = "its fsync or full_page_writes is off: a 201 would not survive a crash of its machine; expected both on";
    if durable { Ok(()) } else { Err(Preparation::Unusable(why.to_owned())) }
}

/// Says which node it is about.
pub(super) fn of_node<T>(node: &Source, result: Result<T, Preparation>) -> Result<T, Preparation> {
    result.map_err(|why| why.map(|why| format!("{}: {why}", node.seen().address)))
}

/// The partitions that each node has or is to have.
///
/// # Errors
///
/// One line: there are others than are asked for, or one is nowhere or at two nodes.
pub(super) fn deal(nodes: &[Found], partitions: Partitions) -> Result<Vec<Vec<Partition>>, String> {
    for node in nodes {
        let Found { address, there, .. } = node;
        if there.citus && nodes.len() > 1 {
            return Err(format!(
                "{address} belongs to a Citus cluster; expected its coordinator's URL, and no other (docs/scale.md)"
            ));
        }
        if there.table {
            return Err(format!(
                "{address} has a table pessoas, for all people; expected none beside {partitions} partitions \
                 (docs/scale.md says how it is split)"
            ));
        }
        let others =
            |name: &&String| Partition::of_schema(bare(name)).is_none_or(|one| one.of() != partitions);
        if let Some(other) = there.partitions.iter().find(others) {
            return Err(format!(
                "{address} has {other}; expected partitions of {partitions}, by --partitions"
            ));
        }
    }
    let at: Vec<Placement> = nodes
        .iter()
        .map(|node| {
            let names: Vec<&str> = node.there.partitions.iter().map(String::as_str).collect();
            Placement::read(&names, partitions, Engine::Postgres)
        })
        .collect();
    if at.iter().all(|placement| placement.partitions().is_empty()) {
        if let Some((node, trace)) = nodes.iter().find_map(|node| Some((node, node.there.traces.first()?))) {
            return Err(format!(
                "{} has {trace}, so its partitions have moved; expected the nodes that have them (docs/scale.md)",
                node.address
            ));
        }
        let of = |node| partitions.all().filter(move |partition| partition.number() % nodes.len() == node);
        return Ok((0..nodes.len()).map(|node| of(node).collect()).collect());
    }
    for partition in partitions.all() {
        let names = |open: bool| -> Vec<&str> {
            let has =
                |placement: &Placement| placement.find(partition).is_some_and(|placed| placed.open || !open);
            let at = nodes.iter().zip(&at).filter(|(_, placement)| has(placement));
            at.map(|(node, _)| node.address.as_str()).collect()
        };
        if names(true).len() > 1 {
            return Err(format!(
                "partition {partition} is open at {}; expected it open at one of them (docs/scale.md)",
                names(true).join(" and ")
            ));
        }
        if names(false).is_empty() {
            let all: Vec<&str> = nodes.iter().map(|node| node.address.as_str()).collect();
            return Err(format!(
                "partition {partition} is at none of {}, where others are; expected the node that has it among them \
                 (after a first start that was cut short: docs/scale.md)",
                all.join(", ")
            ));
        }
    }
    Ok(at.iter().map(Placement::partitions).collect())
}

/// Whether all nodes are clusters of their own: of one that is named twice the second session would wait for the first.
pub(super) fn are_distinct(nodes: &[Source], sessions: &[Reached]) -> Result<(), Preparation> {
    for (number, session) in sessions.iter().enumerate() {
        let twin = sessions[..number].iter().position(|twin| twin.identity.system == session.identity.system);
        if let Some(twin) = twin {
            let (one, other) = (nodes[twin].seen().address, nodes[number].seen().address);
            return Err(Preparation::Unusable(format!(
                "{one} and {other} are one cluster; expected each node once"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dealt(nodes: &[(bool, &[&str])], partitions: &str) -> Result<Vec<Vec<usize>>, String> {
        let found = |(number, (table, names)): (usize, &(bool, &[&str]))| Found {
            address: format!("db{number}:5432"),
            there: there(*table, names),
        };
        let nodes: Vec<Found> = nodes.iter().enumerate().map(found).collect();
        let dealt = deal(&nodes, partitions.parse().unwrap())?;
        Ok(dealt.iter().map(|part| part.iter().map(|partition| partition.number()).collect()).collect())
    }

    fn there(table: bool, names: &[&str]) -> There {
        let (traces, partitions) =
            names.iter().map(|&name| name.to_owned()).partition(|name| name.starts_with("left"));
        There { table, partitions, traces, citus: false }
    }

    #[test]
    fn what_is_new_is_dealt_out_and_what_is_there_stays() {
        assert_eq!(dealt(&[(false, &[])], "4"), Ok(vec![vec![0, 1, 2, 3]]));
        assert_eq!(
            dealt(&[(false, &[]), (false, &[]), (false, &[])], "4"),
            Ok(vec![vec![0, 3], vec![1], vec![2]])
        );
        let moved: [(bool, &[&str]); 3] =
            [(false, &[]), (false, &["partition_1_of_2", "partition_0_of_2"]), (false, &[])];
        assert_eq!(dealt(&moved, "2"), Ok(vec![vec![], vec![0, 1], vec![]]));
        let moves: [(bool, &[&str]); 2] =
            [(false, &["partition_0_of_2", "partition_1_of_2 closed"]), (false, &["partition_1_of_2"])];
        assert_eq!(dealt(&moves, "2"), Ok(vec![vec![0, 1], vec![1]]));
    }

    #[test]
    fn what_would_make_a_second_judge_is_refused() {
        for (nodes, expected) in [
            (&[(true, &[][..])][..], "db0:5432 has a table pessoas"),
            (
                &[(false, &[]), (false, &["left_0_of_2_ab"])],
                "db1:5432 has left_0_of_2_ab, so its partitions have moved",
            ),
            (&[(false, &["partition_0_of_4"])], "db0:5432 has partition_0_of_4; expected partitions of 2"),
            (
                &[(false, &["partition_0_of_2"]), (false, &[])],
                "partition 1 of 2 is at none of db0:5432, db1:5432",
            ),
            (
                &[(false, &["partition_0_of_2", "partition_1_of_2"]), (false, &["partition_1_of_2"])],
                "partition 1 of 2 is open at db0:5432 and db1:5432",
            ),
        ] {
            let error = dealt(nodes, "2").unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }
}
