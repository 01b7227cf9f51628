//! Values that tokio-postgres does not know, on the wire.

use std::error::Error;

use bytes::{Buf, BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use crate::pessoa::Stack;

/// A transaction's id, never used again in the life of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::postgres) struct Xid8(u64);

impl Xid8 {
    /// No transaction has a lower one.
    pub(in crate::postgres) const FIRST: Xid8 = Xid8(0);
}

impl From<u64> for Xid8 {
    fn from(id: u64) -> Xid8 {
        Xid8(id)
    }
}

impl ToSql for Xid8 {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_u64(self.0);
        Ok(IsNull::No)
    }

    accepts!(XID8);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Xid8 {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Xid8(u64::from_be_bytes(raw.try_into()?)))
    }

    accepts!(XID8);
}

/// Which transactions a statement saw (`pg_snapshot`): those before `xmax` that were not under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::postgres) struct Snapshot {
    pub(in crate::postgres) xmax: Xid8,
    pub(in crate::postgres) under_way: Vec<Xid8>,
}

/// On the wire: the number of transactions under way, `xmin`, `xmax`, and the transactions under way.
impl<'a> FromSql<'a> for Snapshot {
    fn from_sql(_: &Type, mut raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let under_way = usize::try_from(raw.try_get_i32()?)?;
        let _xmin = raw.try_get_u64()?;
        let xmax = Xid8(raw.try_get_u64()?);
        let under_way = (0..under_way).map(|_| raw.try_get_u64().map(Xid8)).collect::<Result<_, _>>()?;
        Ok(Snapshot { xmax, under_way })
    }

    accepts!(PG_SNAPSHOT);
}

/// A `date` on the wire: days since 2000-01-01 in four bytes.
#[derive(Debug)]
pub(super) struct Days(pub(super) i32);

impl ToSql for Days {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i32(self.0);
        Ok(IsNull::No)
    }

    accepts!(DATE);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Days {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Days(i32::from_be_bytes(raw.try_into()?)))
    }

    accepts!(DATE);
}

/// A stack as the text of an array: `{"C#","a \"quoted\" one"}`.
#[derive(Debug)]
pub(super) struct StackText<'a>(pub(super) Option<&'a Stack>);

impl ToSql for StackText<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let Some(stack) = self.0 else { return Ok(IsNull::Yes) };
        out.put_u8(b'{');
        for (position, item) in stack.items().enumerate() {
            if position > 0 {
                out.put_u8(b',');
            }
            // Every item is quoted: an unquoted NULL would be a null item.
            out.put_u8(b'"');
            for part in item.as_bytes().split_inclusive(|byte| matches!(byte, b'"' | b'\\')) {
                match part {
                    [plain @ .., special @ (b'"' | b'\\')] => {
                        out.put_slice(plain);
                        out.put_slice(&[b'\\', *special]);
                    }
                    plain => out.put_slice(plain),
                }
            }
            out.put_u8(b'"');
        }
        out.put_u8(b'}');
        Ok(IsNull::No)
    }

    accepts!(TEXT);
    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_from_the_wire() {
        let mut raw = BytesMut::new();
        raw.put_i32(2);
        for id in [7_u64, 12, 7, 9] {
            raw.put_u64(id);
        }
        let snapshot = Snapshot::from_sql(&Type::PG_SNAPSHOT, &raw).unwrap();
        assert_eq!(snapshot, Snapshot { xmax: Xid8(12), under_way: vec![Xid8(7), Xid8(9)] });
        assert!(Snapshot::from_sql(&Type::PG_SNAPSHOT, &raw[..raw.len() - 1]).is_err());
    }

    #[test]
    fn a_stack_is_quoted_as_array_text() {
        let text = |stack: Option<Vec<&str>>| {
            let mut out = BytesMut::new();
            let stack = stack.map(|items| Stack::from_items(items).unwrap());
            StackText(stack.as_ref()).to_sql(&Type::TEXT, &mut out).unwrap();
            String::from_utf8(out.to_vec()).unwrap()
        };
        assert_eq!(text(None), "");
        assert_eq!(text(Some(vec![])), "{}");
        assert_eq!(text(Some(vec!["C#", "NULL", "a,b {c}"])), r#"{"C#","NULL","a,b {c}"}"#);
        assert_eq!(text(Some(vec!["\"", "\\", "a\"b\\c"])), r#"{"\"","\\","a\"b\\c"}"#);
    }
}
