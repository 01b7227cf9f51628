//! What is large, on a connection of its own: the rows of large transactions, such as a restore or an import by hand, and
//! all of a partition that has come. The feed asks for fresh rows meanwhile, and both reach the cores in turns.

use std::rc::Rc;

use super::connector::Connector;
use super::failure::Failure;
use super::fanout::{Fanout, Owners};
use super::history::Identity;
use super::layout::Partition;
use super::session::Session;
use super::sql::{self, Xid8};
use crate::metrics::Count;
use crate::pessoa::Record;

/// Sends the rows of these transactions to the cores, which are `serving` or not. Tries until it succeeds; whoever drops
/// this ends it, and its connection.
pub(super) async fn send<O: Fn(&Record) -> Owners>(
    connector: Rc<Connector<sql::Bulk>>,
    cores: Rc<Fanout<O>>,
    of: Identity,
    transactions: Vec<Xid8>,
    serving: bool,
) -> Vec<Xid8> {
    let each = async |record| {
        cores.row(record, serving).await;
        connector.counters().rows_fed.add(1);
    };
    until_read(&connector, &cores, async |session| session.rows(of, &transactions, &each).await).await;
    transactions
}

/// Sends all rows of these partitions to the cores, which are serving. Tries until it succeeds; whoever drops this ends it.
pub(super) async fn load<O: Fn(&Record) -> Owners>(
    connector: Rc<Connector<sql::Bulk>>,
    cores: Rc<Fanout<O>>,
    of: Identity,
    partitions: Vec<Partition>,
) -> Vec<Partition> {
    let each = async |record| {
        cores.row(record, true).await;
        connector.counters().rows_fed.add(1);
    };
    until_read(&connector, &cores, async |session| session.load(of, &partitions, &each).await).await;
    partitions
}

async fn until_read<O: Fn(&Record) -> Owners>(
    connector: &Connector<sql::Bulk>,
    cores: &Fanout<O>,
    read: impl AsyncFn(&Session<sql::Bulk>) -> Result<(), Failure>,
) {
    loop {
        let session = connector.connect().await;
        let done = read(&session).await;
        cores.wake_all();
        match done {
            Ok(()) => return connector.worked(),
            Err(why) => connector.lost(&why.to_string()),
        }
    }
}
