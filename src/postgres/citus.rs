//! Before the first session, where the one database that is named is the coordinator of a Citus cluster: the partitions as
//! schemas that Citus shards, each at one of the nodes, and the sessions' way to every node. The coordinator itself is asked
//! nothing afterwards.

use futures_util::future::try_join_all;

use super::deal::{Dealt, Found, are_distinct, deal, is_durable, of_node};
use super::layout::Partition;
use super::meet::{Preparation, ServerFacts, has_sessions, in_time, meet, takes_every_character};
use super::placement::Placement;
use super::reach::Reached;
use super::session;
use super::source::Source;
use super::sql::schema::{self, CitusNode};
use crate::limits::{NODES_MAX, STATEMENT_TIME_MAX};

/// The coordinator of a cluster.
pub(super) struct Coordinator {
    source: Source,
    session: Reached,
    nodes: Vec<Source>,
}

/// The coordinator, if this is one, of a cluster that has nodes for partitions; `None`: a database of its own.
///
/// # Errors
///
/// It is one of its other nodes, or none of its nodes can have partitions.
pub(super) async fn find(source: &Source) -> Result<Option<Coordinator>, Preparation> {
    let session = meet(source).await?;
    let asked =
        async { of_node(source, schema::citus_nodes(&session.client).await.map_err(Preparation::from)) };
    let Some(nodes) = in_time(STATEMENT_TIME_MAX, asked).await? else { return Ok(None) };
    let usable: Vec<&CitusNode> = nodes.iter().filter(|node| node.takes_shards).collect();
    let refused =
        |why: String| Err(Preparation::Unusable(format!("{} {why} (docs/scale.md)", source.seen().address)));
    if !nodes.iter().any(|node| node.is_this && node.is_coordinator) {
        return refused(
            "is no coordinator of its Citus cluster; expected that one, and no other node".to_owned(),
        );
    }
    if usable.is_empty() || usable.len() > NODES_MAX {
        return refused(format!(
            "has a Citus cluster with {} nodes that are primaries, have its metadata and may have shards; \
             expected 1 to {NODES_MAX}",
            usable.len()
        ));
    }
    // Its own name is often one that leads to it from itself alone.
    let node = |node: &&CitusNode| match node.is_this {
        true => source.coordinator_of_citus(),
        false => source.node_of_citus(&node.host, node.port),
    };
    let nodes = usable.iter().map(node).collect();
    Ok(Some(Coordinator { source: source.clone(), session, nodes }))
}

impl Coordinator {
    /// Makes the partitions if there are none, and asks each node what it is.
    pub(super) async fn prepare(self) -> Result<(Vec<Source>, Vec<ServerFacts>), Preparation> {
        has_sessions(&self.source, &self.session).await?;
        // Before anything is made.
        self.meet_nodes(false).await?;
        self.lay_out().await?;
        let client = &self.session.client;
        in_time(STATEMENT_TIME_MAX, async { Ok(schema::commit(client).await?) }).await?;
        let facts = self.meet_nodes(true).await?.into_iter().map(|(facts, _)| facts).collect();
        Ok((self.nodes, facts))
    }

    /// What [`prepare`](Self::prepare) would do. The partitions that are not there are made in a transaction that is undone.
    pub(super) async fn try_out(self) -> Result<(Vec<Source>, Vec<Dealt>), Preparation> {
        let new = self.lay_out().await?;
        let nodes = self.meet_nodes(new.is_empty()).await?;
        // Which node would have which of them is up to Citus.
        let mut new = Some(new);
        let dealt = |(_, here): (_, Placement)| Dealt {
            there: here.partitions(),
            new: new.take().unwrap_or_default(),
        };
        let dealt = nodes.into_iter().map(dealt);
        Ok((self.nodes, dealt.collect()))
    }

    /// Begins a transaction with the partitions that are not there yet; returns them.
    async fn lay_out(&self) -> Result<Vec<Partition>, Preparation> {
        let (client, source) = (&self.session.client, &self.source);
        let there = in_time(STATEMENT_TIME_MAX, async {
            schema::lock(client).await?;
            Ok(schema::there(client).await?)
        });
        let found = Found { address: source.seen().address, there: there.await? };
        let dealt = deal(std::slice::from_ref(&found), source.partitions()).map_err(Preparation::Unusable)?;
        let (new, there): (Vec<Partition>, Vec<Partition>) =
            dealt.into_iter().flatten().partition(|partition| found.is_new(*partition));
        for partition in new.iter().chain(&there) {
            let made = async {
                match new.contains(partition) {
                    true => schema::make_citus_partition(client, *partition).await?,
                    // `schema.sql` would compare its rows with the transactions of the coordinator.
                    false => schema::is_sharded(client, *partition).await?,
                }
                Ok(())
            };
            of_node(source, in_time(STATEMENT_TIME_MAX, made).await)?;
        }
        Ok(new)
    }

    /// Looks at each node. Returns what it is, and what it has, which is `all` together.
    async fn meet_nodes(&self, all: bool) -> Result<Vec<(ServerFacts, Placement)>, Preparation> {
        let sessions = try_join_all(self.nodes.iter().map(async |node| {
            let session = of_node(node, meet(node).await)?;
            of_node(node, has_sessions(node, &session).await)?;
            Ok::<_, Preparation>(session)
        }))
        .await?;
        are_distinct(&self.nodes, &sessions)?;
        let met = try_join_all(self.nodes.iter().zip(&sessions).map(async |(node, session)| {
            of_node(node, in_time(STATEMENT_TIME_MAX, look_at(node, session)).await)
        }))
        .await?;
        let placements: Vec<Placement> = met.iter().map(|(_, here)| here.clone()).collect();
        if placements.iter().any(Placement::is_in_doubt) {
            return Err(Preparation::Away(
                "a node has prepared a commit of Citus, and waits for its end".to_owned(),
            ));
        }
        if all && let Some(partition) = Placement::without_a_home(&placements) {
            return Err(Preparation::Unusable(format!(
                "partition {partition} is at none of the nodes that may have shards; expected it at an active one \
                 (docs/scale.md)"
            )));
        }
        Ok(met)
    }
}

async fn look_at(node: &Source, session: &Reached) -> Result<(ServerFacts, Placement), Preparation> {
    let said = schema::facts(&session.client).await?;
    takes_every_character(&said.encoding)?;
    let durable = said.fsync && said.full_page_writes;
    is_durable(durable)?;
    // A row that Citus sends on is committed by a session that nobody has told otherwise.
    let commits = schema::manners(&session.client).await?.synchronous_commit;
    if !["on", "remote_apply"].contains(&commits.as_str()) {
        return Err(Preparation::Unusable(format!(
            "its synchronous_commit is {commits} by default; expected on or remote_apply"
        )));
    }
    let here = session::placement(&session.client, node).await.map_err(schema::Unfit::from)?;
    Ok((ServerFacts { version: said.version, durable }, here))
}
