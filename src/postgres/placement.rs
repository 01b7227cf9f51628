//! Which partitions a server has, as it says itself. A partition that is closed takes no rows any more: it moves to another
//! server, and what it holds stays as it is (docs/scale.md). An only partition is always there.
//!
//! Servers of one Citus cluster know all partitions, and each has the rows of some, in tables that are named by their shards.
//! Citus moves a shard with a commit of two phases, which changes `pg_dist_placement` everywhere. A server that has prepared one
//! and does not know yet whether it is done may have lost a shard already, so it is not believed meanwhile.

use super::layout::{Partition, Partitions, rows_of};

/// How the name of a check begins that closes a partition. Behind it stands who closed it, and where it goes.
pub(super) const CLOSED: &str = "pessoas_have_moved";

/// The check that keeps out rows of other homes.
pub(super) const AT_HOME: &str = "pessoas_are_at_home";

/// Whose schemas the partitions are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Engine {
    /// Each server has its own.
    #[default]
    Postgres,
    /// Citus shards by schema.
    Citus,
}

/// What Citus keeps a partition's rows in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    /// Behind the name of its table.
    id: u64,
    /// The identifier of that table at its server: of one that left and came back it is another one.
    table: u64,
}

/// A partition that is at a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) partition: Partition,
    /// It takes rows.
    pub(super) open: bool,
    /// Where the engine is Citus.
    pub(super) shard: Option<Shard>,
}

impl Placed {
    /// The table of its rows at this server.
    pub(super) fn table(self) -> String {
        match self.shard {
            Some(shard) => format!("{}_{}", self.partition.table(), shard.id),
            None => self.partition.table(),
        }
    }

    /// Where the engine is Citus, a condition that is true while nobody may write here: Citus moves what is sharded together, by a
    /// lock of its own, or somebody holds the shard's table.
    pub(super) fn is_held(self) -> Option<String> {
        let shard = self.shard?;
        Some(format!(
            "EXISTS (SELECT FROM pg_locks WHERE granted \
                       AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                       AND (relation = {} AND mode IN ({HOLD_A_TABLE}) \
                            OR locktype = 'advisory' AND classid = 0 AND objsubid = {COLOCATED_SHARDS} \
                               AND mode = 'ExclusiveLock' \
                               AND objid = (SELECT colocationid FROM pg_dist_partition \
                                            WHERE logicalrelid = '{}'::regclass)))",
            shard.table,
            self.partition.table()
        ))
    }
}

/// Locks on a table that keep out who inserts.
const HOLD_A_TABLE: &str = "'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'";

/// What Citus marks its advisory locks with that are about where such shards are.
const COLOCATED_SHARDS: u8 = 8;

/// The partitions at a server, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Of how many they are some.
    of: Partitions,
    engine: Engine,
    placed: Vec<Placed>,
    /// Some of them may have left, or may be about to.
    in_doubt: bool,
}

impl Placement {
    /// The only partition.
    pub(super) fn only() -> Placement {
        let all = Partitions::ONE.all();
        let placed = all.map(|partition| Placed { partition, open: true, shard: None }).collect();
        Placement { of: Partitions::ONE, engine: Engine::Postgres, placed, in_doubt: false }
    }

    /// What [`question`] was answered with, of `partitions`: the names of schemas, with a mark behind those that are closed and
    /// one for the shard.
    pub(super) fn read(names: &[&str], partitions: Partitions, engine: Engine) -> Placement {
        if partitions == Partitions::ONE {
            return Placement::only();
        }
        let placed = |name: &&str| {
            let (name, shard) = match name.split_once(SHARD_MARK) {
                Some((name, shard)) => {
                    let (id, table) = shard.split_once('.')?;
                    (name, Some(Shard { id: id.parse().ok()?, table: table.parse().ok()? }))
                }
                None => (*name, None),
            };
            let closed = name.strip_suffix(CLOSED_MARK);
            let partition = Partition::of_schema(closed.unwrap_or(name))?;
            (partition.of() == partitions).then_some(Placed { partition, open: closed.is_none(), shard })
        };
        let mut placed: Vec<Placed> = names.iter().filter_map(placed).collect();
        placed.sort_unstable_by_key(|placed| placed.partition);
        Placement { of: partitions, engine, placed, in_doubt: names.contains(&IN_DOUBT) }
    }

    /// Whose schemas they are.
    pub(super) fn engine(&self) -> Engine {
        self.engine
    }

    /// Whether some of them may have left, or may be about to.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Placed> {
        self.placed.iter().copied()
    }

    /// All of them, also those that are closed.
    pub(super) fn partitions(&self) -> Vec<Partition> {
        self.iter().map(|placed| placed.partition).collect()
    }

    /// This partition, if it is here.
    pub(super) fn find(&self, partition: Partition) -> Option<Placed> {
        self.iter().find(|placed| placed.partition == partition)
    }

    /// The expression that asks for it again.
    pub(super) fn question(&self) -> String {
        question(self.of, self.engine)
    }

    /// A condition that is true where these shards are still here, and never were elsewhere meanwhile.
    pub(super) fn is_here(&self) -> String {
        let shards: Vec<(String, Shard)> =
            self.iter().filter_map(|placed| Some((placed.table(), placed.shard?))).collect();
        let ids: Vec<String> = shards.iter().map(|(_, shard)| shard.id.to_string()).collect();
        // Citus hides the tables of shards where `pg_class` is asked.
        let tables: Vec<String> = shards
            .iter()
            .map(|(table, shard)| format!("coalesce(to_regclass('{table}')::oid::int8, 0) = {}", shard.table))
            .collect();
        format!(
            "(SELECT count(*) FROM pg_dist_placement WHERE shardid = ANY ('{{{}}}'::int8[]) \
                AND groupid = (SELECT groupid FROM pg_dist_local_group)) = {}{}",
            ids.join(", "),
            ids.len(),
            tables.iter().fold(String::new(), |all, one| all + " AND " + one)
        )
    }

    /// A partition that is at none of the servers with these placements, or at several. If there is none, what they said is
    /// about every row, and about each once: a partition that moves is at the server that it leaves for as long as it is at no
    /// other one.
    pub fn without_a_home(placements: &[Placement]) -> Option<Partition> {
        let Placement { of, .. } = placements.first()?;
        of.all().find(|partition| {
            let mut at = placements.iter().filter_map(|here| here.find(*partition));
            at.next().is_none() || at.next().is_some()
        })
    }

    /// What statements read from that want all rows here.
    pub(super) fn rows(&self) -> String {
        self.rows_of(&self.partitions())
    }

    /// What statements read from that want the rows of these partitions.
    pub(super) fn rows_of(&self, partitions: &[Partition]) -> String {
        rows_of(&self.tables(partitions))
    }

    /// The tables of these partitions at the server. Of one that is not here it is the name that it would have.
    pub(super) fn tables(&self, partitions: &[Partition]) -> Vec<String> {
        let table =
            |partition: &Partition| self.find(*partition).map_or_else(|| partition.table(), Placed::table);
        partitions.iter().map(table).collect()
    }
}

/// Behind the name of a schema whose partition is closed.
pub(super) const CLOSED_MARK: &str = " closed";

/// Between the name of a schema and its shard.
const SHARD_MARK: &str = " at ";

/// Said beside the names by a server of Citus that has prepared something.
const IN_DOUBT: &str = "in doubt";

/// An expression for the partitions that are here, as `text[]`; an only one is not asked for.
pub(super) fn question(partitions: Partitions, engine: Engine) -> String {
    match engine {
        _ if partitions == Partitions::ONE => "'{}'::text[]".to_owned(),
        Engine::Postgres => {
            format!("ARRAY ({} WHERE nspname ~ '^partition_[0-9]+_of_{partitions}$')::text[]", all())
        }
        Engine::Citus => format!(
            "({} || ARRAY (SELECT '{IN_DOUBT}' FROM pg_locks WHERE pid IS NULL AND mode = 'RowExclusiveLock' \
                           AND relation = 'pg_dist_placement'::regclass \
                           AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                           LIMIT 1)::text[])",
            shards(partitions)
        ),
    }
}

/// The partitions whose shards are at a server of Citus.
fn shards(partitions: Partitions) -> String {
    format!(
        "ARRAY (SELECT nspname || '{SHARD_MARK}' || shardid || '.' || coalesce(to_regclass(format('%I.%I', nspname, \
                           'pessoas_' || shardid))::oid::int8, 0) \
                FROM pg_dist_placement JOIN pg_dist_shard USING (shardid) \
                JOIN pg_class ON pg_class.oid = logicalrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace \
                WHERE relname = 'pessoas' AND nspname ~ '^partition_[0-9]+_of_{partitions}$' \
                  AND groupid = (SELECT groupid FROM pg_dist_local_group))::text[]"
    )
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

    fn read(names: &[&str], partitions: Partitions) -> Placement {
        Placement::read(names, partitions, Engine::Postgres)
    }

    #[test]
    fn a_server_names_what_it_has() {
        let four: Partitions = "4".parse().unwrap();
        let placement = read(&["partition_3_of_4 closed", "partition_0_of_4", "partition_1_of_8", "x"], four);
        let seen: Vec<(usize, bool)> =
            placement.iter().map(|placed| (placed.partition.number(), placed.open)).collect();
        assert_eq!(seen, [(0, true), (3, false)]);
        assert_eq!(placement.find(four.of_home(1)), None);
        assert!(placement.rows().contains("partition_0_of_4"));
        assert_eq!(read(&[], Partitions::ONE).rows(), "pessoas");
    }

    #[test]
    fn a_server_of_citus_names_its_shards() {
        let two: Partitions = "2".parse().unwrap();
        let names = ["partition_1_of_2 at 102009.7"];
        let read = |names: &[&str]| Placement::read(names, two, Engine::Citus);
        let here = read(&names);
        assert_eq!(here.tables(&[two.of_home(1)]), ["partition_1_of_2.pessoas_102009"]);
        let is_here = here.is_here();
        assert!(
            is_here.contains("'{102009}'::int8[]") && is_here.ends_with("::oid::int8, 0) = 7"),
            "{is_here}"
        );
        assert!(here.rows().contains("partition_1_of_2.pessoas_102009"));
        assert_ne!(here, read(&["partition_1_of_2 at 102009.8"]), "it was away");
        assert!(!here.is_in_doubt() && read(&[names[0], "in doubt"]).is_in_doubt());
        assert_ne!(here, read(&[names[0], "in doubt"]));
    }

    #[test]
    fn an_answer_is_about_every_row_once() {
        let two: Partitions = "2".parse().unwrap();
        let lacks = |nodes: &[&[&str]]| {
            Placement::without_a_home(&nodes.iter().map(|names| read(names, two)).collect::<Vec<_>>())
        };
        let one = Some(two.of_home(1));
        assert_eq!(lacks(&[&["partition_0_of_2", "partition_1_of_2"]]), None);
        assert_eq!(lacks(&[&["partition_0_of_2"], &["partition_1_of_2"]]), None);
        assert_eq!(lacks(&[&["partition_0_of_2"], &["partition_1_of_2 closed"]]), None);
        assert_eq!(lacks(&[&["partition_0_of_2"], &[]]), one, "it is nowhere");
        assert_eq!(lacks(&[&["partition_0_of_2", "partition_1_of_2 closed"], &["partition_1_of_2"]]), one);
        assert_eq!(Placement::without_a_home(&[Placement::only()]), None);
    }
}
