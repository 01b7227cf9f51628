//! Which partitions a server has, as it says itself. A partition that is closed takes no rows any more: it moves to another
//! server, and what it holds stays as it is (docs/scale.md). An only partition is always there.

use super::layout::{Partition, Partitions, rows_of};

/// How the name of a check begins that closes a partition. Behind it stands who closed it, and where it goes.
pub(super) const CLOSED: &str = "pessoas_have_moved";

/// The check that keeps out rows of other homes.
pub(super) const AT_HOME: &str = "pessoas_are_at_home";

/// A partition that is at a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) partition: Partition,
    /// It takes rows.
    pub(super) open: bool,
}

/// The partitions at a server, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Of how many they are some.
    of: Partitions,
    placed: Vec<Placed>,
}

impl Placement {
    /// The only partition.
    pub(super) fn only() -> Placement {
        let all = Partitions::ONE.all();
        let placed = all.map(|partition| Placed { partition, open: true }).collect();
        Placement { of: Partitions::ONE, placed }
    }

    /// What [`question`] was answered with, of `partitions`: the names of schemas, with a mark behind those that are closed.
    pub(super) fn read(names: &[&str], partitions: Partitions) -> Placement {
        if partitions == Partitions::ONE {
            return Placement::only();
        }
        let placed = |name: &&str| {
            let closed = name.strip_suffix(CLOSED_MARK);
            let partition = Partition::of_schema(closed.unwrap_or(name))?;
            (partition.of() == partitions).then_some(Placed { partition, open: closed.is_none() })
        };
        let mut placed: Vec<Placed> = names.iter().filter_map(placed).collect();
        placed.sort_unstable_by_key(|placed| placed.partition);
        Placement { of: partitions, placed }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Placed> {
        self.placed.iter().copied()
    }

    /// All of them, also those that are closed.
    pub(super) fn partitions(&self) -> Vec<Partition> {
        self.iter().map(|placed| placed.partition).collect()
    }

    /// Whether this partition is here; `None`: it is not, else whether it takes rows.
    pub(super) fn find(&self, partition: Partition) -> Option<Placed> {
        self.iter().find(|placed| placed.partition == partition)
    }

    /// The expression that asks for it again.
    pub(super) fn question(&self) -> String {
        question(self.of)
    }

    /// Whether what servers with these placements said is about every row, and about each once: a partition that moves is at
    /// the server that it leaves for as long as it is open at no other one.
    pub fn cover_all(placements: &[Placement]) -> bool {
        let Some(Placement { of, .. }) = placements.first() else { return false };
        of.all().all(|partition| {
            let mut at = placements.iter().filter_map(|here| here.find(partition));
            at.next().is_some() && at.next().is_none()
        })
    }

    /// What statements read from that want all rows here.
    pub(super) fn rows(&self) -> String {
        rows_of(&self.partitions())
    }
}

/// Behind the name of a schema whose partition is closed.
pub(super) const CLOSED_MARK: &str = " closed";

/// An expression for the partitions that are here, as `text[]`; an only one is not asked for.
pub(super) fn question(partitions: Partitions) -> String {
    if partitions == Partitions::ONE {
        return "'{}'::text[]".to_owned();
    }
    format!("ARRAY ({} WHERE nspname ~ '^partition_[0-9]+_of_{partitions}$')::text[]", all())
}

/// A query for the partitions that are here, of any number, without its condition.
pub(super) fn all() -> String {
    format!(
        "SELECT nspname || CASE WHEN EXISTS (SELECT FROM pg_constraint \
                                       WHERE conrelid = pg_class.oid AND starts_with(conname, '{CLOSED}')) \
                                  THEN '{CLOSED_MARK}' ELSE '' END \
                FROM pg_namespace JOIN pg_class ON relnamespace = pg_namespace.oid AND relname = 'pessoas'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_names_what_it_has() {
        let four: Partitions = "4".parse().unwrap();
        let placement =
            Placement::read(&["partition_3_of_4 closed", "partition_0_of_4", "partition_1_of_8", "x"], four);
        let seen: Vec<(usize, bool)> =
            placement.iter().map(|placed| (placed.partition.number(), placed.open)).collect();
        assert_eq!(seen, [(0, true), (3, false)]);
        assert_eq!(placement.find(four.of_home(1)), None);
        assert!(placement.rows().contains("partition_0_of_4"));
        assert_eq!(Placement::read(&[], Partitions::ONE).rows(), "pessoas");
    }

    #[test]
    fn an_answer_is_about_every_row_once() {
        let two: Partitions = "2".parse().unwrap();
        let cover = |nodes: &[&[&str]]| {
            Placement::cover_all(&nodes.iter().map(|names| Placement::read(names, two)).collect::<Vec<_>>())
        };
        assert!(cover(&[&["partition_0_of_2", "partition_1_of_2"]]));
        assert!(cover(&[&["partition_0_of_2"], &["partition_1_of_2"]]));
        assert!(cover(&[&["partition_0_of_2"], &["partition_1_of_2 closed"]]));
        assert!(!cover(&[&["partition_0_of_2"], &[]]), "one is nowhere");
        assert!(!cover(&[&["partition_0_of_2", "partition_1_of_2 closed"], &["partition_1_of_2"]]));
        assert!(Placement::cover_all(&[Placement::only()]) && !Placement::cover_all(&[]));
    }
}
