//! Which node has which partition, as the nodes say themselves. It asks nobody, and knows nodes by their numbers.
//!
//! A partition is open at one node. While it moves it is closed at the one that it leaves, and then open at another one,
//! which may be heard of first. So a node is taken for a partition's only while no other says that it has it open: the
//! rows of the one would not be checked against those of the other.

use super::layout::{Partition, Partitions};
use super::placement::Placement;

/// Which node has which partition.
pub(super) struct Map {
    /// For each partition, the nodes that have it open, and those that have it closed.
    at: Vec<(Vec<usize>, Vec<usize>)>,
}

impl Map {
    pub(super) fn new(partitions: Partitions) -> Map {
        Map { at: vec![Default::default(); partitions.count()] }
    }

    /// A node has these.
    pub(super) fn hear(&mut self, node: usize, here: &Placement) {
        for (number, (open_at, closed_at)) in self.at.iter_mut().enumerate() {
            open_at.retain(|&other| other != node);
            closed_at.retain(|&other| other != node);
            match here.iter().find(|placed| placed.partition.number() == number) {
                Some(placed) if placed.open => open_at.push(node),
                Some(_) => closed_at.push(node),
                None => {}
            }
        }
    }

    /// Whether several nodes have this partition open.
    pub(super) fn is_disputed(&self, partition: Partition) -> bool {
        self.at[partition.number()].0.len() > 1
    }

    /// The node that has this partition open, or else closed, if it is one.
    pub(super) fn home(&self, partition: Partition) -> Option<usize> {
        match &self.at[partition.number()] {
            (open_at, closed_at) if open_at.is_empty() => only(closed_at),
            (open_at, _) => only(open_at),
        }
    }
}

fn only(nodes: &[usize]) -> Option<usize> {
    if let [node] = nodes { Some(*node) } else { None }
}

#[cfg(test)]
mod tests {
    use super::super::placement::Engine;
    use super::*;

    #[test]
    fn a_partition_has_one_home_or_none() {
        let two: Partitions = "2".parse().unwrap();
        let (zero, one) = (two.of_home(0), two.of_home(1));
        let mut map = Map::new(two);
        let placement = |names: &[&str]| Placement::read(names, two, Engine::Postgres);
        map.hear(0, &placement(&["partition_0_of_2", "partition_1_of_2"]));
        assert_eq!((map.home(zero), map.home(one)), (Some(0), Some(0)));
        // It moves, and who takes it is heard of first.
        map.hear(1, &placement(&["partition_1_of_2"]));
        assert_eq!((map.home(zero), map.home(one)), (Some(0), None));
        assert!(map.is_disputed(one) && !map.is_disputed(zero));
        map.hear(0, &placement(&["partition_0_of_2", "partition_1_of_2 closed"]));
        assert_eq!((map.home(zero), map.home(one)), (Some(0), Some(1)));
        map.hear(1, &placement(&[]));
        assert_eq!(map.home(one), Some(0), "nobody else took it");
        map.hear(0, &placement(&["partition_0_of_2"]));
        assert_eq!(map.home(one), None);
    }
}
