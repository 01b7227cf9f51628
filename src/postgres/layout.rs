//! How the people are laid out: in how many partitions, which one a home is part of, and which table each is. It asks no
//! server. Where a partition is, its database says (`placement`).

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::limits::PARTITIONS_MAX;
use crate::pessoa::home_of_id;

/// How many partitions there are: a power of two, so that each has as many homes as any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partitions(u16);

/// One of the partitions, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    number: u16,
    of: Partitions,
}

impl Partitions {
    /// All people are in one table.
    pub const ONE: Partitions = Partitions(1);

    /// How many there are.
    pub fn count(self) -> usize {
        usize::from(self.0)
    }

    /// The one that a home is part of.
    pub fn of_home(self, home: u8) -> Partition {
        Partition { number: u16::from(home) % self.0, of: self }
    }

    /// The one that a row with this id is in, if there is one.
    pub fn of_id(self, id: &Uuid) -> Partition {
        self.of_home(home_of_id(id))
    }

    /// The items of each partition by themselves, by the id that `id_of` names.
    pub(super) fn group<T>(
        self,
        items: impl IntoIterator<Item = T>,
        id_of: impl Fn(&T) -> &Uuid,
    ) -> Vec<(Partition, Vec<T>)> {
        let mut parts: Vec<(Partition, Vec<T>)> = Vec::new();
        for item in items {
            let partition = self.of_id(id_of(&item));
            match parts.iter_mut().find(|(of, _)| *of == partition) {
                Some((_, part)) => part.push(item),
                None => parts.push((partition, vec![item])),
            }
        }
        parts
    }

    /// All of them, in order.
    pub fn all(self) -> impl Iterator<Item = Partition> {
        (0..self.0).map(move |number| Partition { number, of: self })
    }
}

impl FromStr for Partitions {
    type Err = String;

    fn from_str(text: &str) -> Result<Partitions, String> {
        let count = text
            .parse()
            .ok()
            .filter(|count: &u16| count.is_power_of_two() && usize::from(*count) <= PARTITIONS_MAX);
        count.map(Partitions).ok_or_else(|| format!("expected a power of two from 1 to {PARTITIONS_MAX}"))
    }
}

impl fmt::Display for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Partition {
    /// Of how many it is one.
    pub(super) fn of(self) -> Partitions {
        self.of
    }

    /// Its number, from 0.
    pub fn number(self) -> usize {
        usize::from(self.number)
    }

    /// The schema that its table is in; `None` for the only one, which is where the user's tables are.
    pub(super) fn schema(self) -> Option<String> {
        (self.of != Partitions::ONE).then(|| format!("partition_{}_of_{}", self.number, self.of))
    }

    /// Its table, as statements name it.
    pub(super) fn table(self) -> String {
        self.schema().map_or_else(|| ONLY.to_owned(), |schema| format!("{schema}.pessoas"))
    }

    /// The one whose schema has this name.
    pub(super) fn of_schema(schema: &str) -> Option<Partition> {
        let (number, of) = schema.strip_prefix("partition_")?.split_once("_of_")?;
        let of: Partitions = of.parse().ok()?;
        let partition = of.all().find(|partition| number.parse() == Ok(partition.number))?;
        (partition.schema().as_deref() == Some(schema)).then_some(partition)
    }
}

/// As operators and clients are told of it.
impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.number, self.of)
    }
}

/// What statements read from, in place of the table's name, where they want the rows of these tables.
pub(super) fn rows_of(tables: &[String]) -> String {
    match tables {
        [only] if only == ONLY => ONLY.to_owned(),
        [] => format!("({COLUMNS} WHERE false) AS pessoas"),
        several => {
            let tables: Vec<String> = several.iter().map(|table| format!("{READ} {table}")).collect();
            format!("({}) AS pessoas", tables.join(" UNION ALL "))
        }
    }
}

/// The table of an only partition.
const ONLY: &str = "pessoas";

const READ: &str = "SELECT id, apelido, nome, nascimento, stack, search, tx FROM";
const COLUMNS: &str = "SELECT NULL::uuid AS id, NULL::varchar AS apelido, NULL::varchar AS nome, \
                       NULL::date AS nascimento, NULL::text[] AS stack, NULL::bytea AS search, NULL::xid8 AS tx";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_partitions_divides_the_homes() {
        for good in ["1", "2", "4", "8", "256"] {
            let partitions: Partitions = good.parse().unwrap();
            let mut homes = vec![0; partitions.count()];
            for home in 0..=u8::MAX {
                homes[partitions.of_home(home).number()] += 1;
            }
            assert!(homes.iter().all(|&count| count == 256 / partitions.count()), "{good}: {homes:?}");
        }
        for wrong in ["0", "3", "512", "-2", "two", ""] {
            assert!(wrong.parse::<Partitions>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_partition_is_a_schema() {
        let of_home = |home, partitions: &str| partitions.parse::<Partitions>().unwrap().of_home(home);
        assert_eq!(of_home(7, "1").table(), "pessoas");
        assert_eq!(of_home(7, "4").table(), "partition_3_of_4.pessoas");
        assert_eq!(of_home(7, "4").to_string(), "3 of 4");
        assert_eq!(Partition::of_schema("partition_3_of_4"), Some(of_home(7, "4")));
        for other in
            ["partition_4_of_4", "partition_03_of_4", "partition_1_of_3", "public", "partition_0_of_1"]
        {
            assert_eq!(Partition::of_schema(other), None, "{other}");
        }
    }

    #[test]
    fn the_rows_of_several_are_all_of_their_tables() {
        let four: Partitions = "4".parse().unwrap();
        let two = [four.of_home(1).table(), four.of_home(3).table()];
        assert_eq!(rows_of(&[Partitions::ONE.of_home(9).table()]), "pessoas");
        let rows = rows_of(&two);
        assert!(rows.contains("FROM partition_1_of_4.pessoas UNION ALL SELECT"), "{rows}");
        assert!(rows.ends_with("FROM partition_3_of_4.pessoas) AS pessoas"), "{rows}");
        assert!(rows_of(&[]).ends_with("WHERE false) AS pessoas"));
    }
}
