//! What is large, on a connection of its own: the rows of large transactions, such as a restore or an import by hand, and
//! all of a partition that has come. The feed asks for fresh rows meanwhile, and both reach the cores in turns.

use std::rc::Rc;

use super::connector::Connector;
use super::fanout::{Fanout, Owners};
use super::history::Identity;
use super::layout::Partition;
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
    loop {
        let session = connector.connect().await;
        let each = async |record| {
            cores.row(record, serving).await;
            connector.counters().rows_fed.add(1);
        };
        let sent = session.rows(of, &transactions, each).await;
        cores.wake_all();
        match sent {
            Ok(()) => {
                connector.worked();
                return transactions;
            }
            Err(why) => connector.lost(&why.to_string()),
        }
    }
}

/// Sends all rows of these partitions to the cores, which are serving. Tries until it succeeds; whoever drops this ends it.
pub(super) async fn load<O: Fn(&Record) -> Owners>(
    connector: Rc<Connector<sql::Bulk>>,
    cores: Rc<Fanout<O>>,
    of: Identity,
    partitions: Vec<Partition>,
) -> Vec<Partition> {
    loop {
        let session = connector.connect().await;
        let each = async |record| {
            cores.row(record, true).await;
            connector.counters().rows_fed.add(1);
        };
        let loaded = session.load(of, &partitions, each).await;
        cores.wake_all();
        match loaded {
            Ok(()) => {
                connector.worked();
                return partitions;
            }
            Err(why) => connector.lost(&why.to_string()),
        }
    }
}
