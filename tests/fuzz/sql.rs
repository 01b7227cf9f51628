//! Rows as a foreign writer may have left them, over the wire as the answer to a statement and to a copy. Each is read as
//! the plain reading of its bytes says, or left out; and none of them spoils the others.

#[path = "../../src/postgres/sql/row.rs"]
#[allow(dead_code, reason = "other statements use it")]
mod row;
#[path = "../../src/postgres/sql/types.rs"]
#[allow(dead_code, reason = "other statements use it")]
mod types;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use arbitrary::Arbitrary;
use futures_util::TryStreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;
use tokio_postgres::binary_copy::BinaryCopyOutStream;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, NoTls, Statement};
use uuid::Uuid;

use crate::postgres::failure::Failure;
use row::{Columns, Unfit, record};

/// Rows of one answer.
const ROWS_MAX: usize = 20;
/// Bytes in flight: more than one answer has.
const BUFFER: usize = 1 << 20;
/// Days after 2000-01-01 of the first and the last day of the API.
const DAYS: std::ops::RangeInclusive<i32> = -730_119..=2_921_939;

/// What one input does.
#[derive(Arbitrary, Debug)]
pub struct Run {
    how: How,
    rows: Vec<Row>,
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Statement,
    /// Of a table whose texts have no limit, and whose items have one.
    OtherTypes,
    /// Of a table that was changed meanwhile: no row can be read.
    WrongTypes,
    Copy,
}

#[derive(Arbitrary, Debug)]
struct Row {
    id: Cell,
    apelido: Cell,
    nome: Cell,
    nascimento: Day,
    stack: Stack,
}

#[derive(Arbitrary, Debug)]
enum Cell {
    Usual,
    Null,
    Text(String),
    Bytes(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Day {
    Usual,
    Null,
    AfterFirst(i8),
    AfterLast(i8),
    Any(i32),
    Bytes(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Stack {
    Null,
    Items(Vec<Option<String>>),
    /// Lengths and lower bounds of the dimensions, with the right number of items.
    Array {
        dimensions: Vec<(u8, i32)>,
        null: Option<u8>,
        item: String,
    },
    Bytes(Vec<u8>),
}

type Bytes = Option<Vec<u8>>;

impl Cell {
    fn bytes(&self, usual: &[u8]) -> Bytes {
        match self {
            Cell::Usual => Some(usual.to_vec()),
            Cell::Null => None,
            Cell::Text(text) => Some(text.clone().into_bytes()),
            Cell::Bytes(bytes) => Some(bytes.clone()),
        }
    }
}

impl Day {
    fn bytes(&self) -> Bytes {
        let days = match self {
            Day::Usual => 0,
            Day::Null => return None,
            Day::AfterFirst(days) => DAYS.start() + i32::from(*days),
            Day::AfterLast(days) => DAYS.end() + i32::from(*days),
            Day::Any(days) => *days,
            Day::Bytes(bytes) => return Some(bytes.clone()),
        };
        Some(days.to_be_bytes().to_vec())
    }
}

fn array(dimensions: &[(i32, i32)], items: &[Option<&str>]) -> Vec<u8> {
    let count = |length: usize| i32::try_from(length).expect("small").to_be_bytes();
    let mut out = count(dimensions.len()).to_vec();
    out.extend(i32::from(items.contains(&None)).to_be_bytes());
    out.extend(Type::TEXT.oid().to_be_bytes());
    for (length, lower_bound) in dimensions {
        out.extend(length.to_be_bytes());
        out.extend(lower_bound.to_be_bytes());
    }
    for item in items {
        match item {
            Some(item) => {
                out.extend(count(item.len()));
                out.extend(item.as_bytes());
            }
            None => out.extend((-1_i32).to_be_bytes()),
        }
    }
    out
}

impl Stack {
    fn bytes(&self) -> Bytes {
        Some(match self {
            Stack::Null => return None,
            Stack::Items(items) => {
                let items: Vec<Option<&str>> = items.iter().map(Option::as_deref).collect();
                let dimensions = [(i32::try_from(items.len()).expect("small"), 1)];
                array(if items.is_empty() { &[] } else { &dimensions }, &items)
            }
            Stack::Array { dimensions, null, item } => {
                let dimensions: Vec<(i32, i32)> = dimensions
                    .iter()
                    .take(6)
                    .map(|&(length, bound)| (i32::from(length % 4) + 1, bound))
                    .collect();
                let count = if dimensions.is_empty() {
                    0
                } else {
                    dimensions.iter().map(|(length, _)| length).product()
                };
                let is_null = |at: i32| null.is_some_and(|null| i32::from(null) == at);
                let items: Vec<Option<&str>> =
                    (0..count).map(|at| (!is_null(at)).then_some(&**item)).collect();
                array(&dimensions, &items)
            }
            Stack::Bytes(bytes) => bytes.clone(),
        })
    }
}

/// Takes a big-endian number off the front.
fn number(bytes: &mut &[u8]) -> Option<i32> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(i32::from_be_bytes(*first))
}

/// The items of an array; `None` where it is not one list of texts.
fn items(mut bytes: &[u8]) -> Option<Vec<String>> {
    let (dimensions, _flags, _oid) = (number(&mut bytes)?, number(&mut bytes)?, number(&mut bytes)?);
    let count = match dimensions {
        0 => 0,
        1 => number(&mut bytes).zip(number(&mut bytes))?.0,
        _ => return None,
    };
    let mut items = Vec::new();
    for _ in 0..u32::try_from(count).ok()? {
        let length = usize::try_from(number(&mut bytes)?).ok()?;
        let (item, rest) = bytes.split_at_checked(length)?;
        items.push(text(item)?);
        bytes = rest;
    }
    bytes.is_empty().then_some(items)
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok().filter(|text| !text.contains('\0'))
}

/// What the API shows of a row; `None` where it cannot.
fn shown(row: &[Bytes; 5]) -> Option<Value> {
    let [id, apelido, nome, nascimento, stack] = row;
    let id = Uuid::from_slice(id.as_ref()?).ok()?;
    let days = i32::from_be_bytes(nascimento.as_ref()?[..].try_into().ok()?);
    let stack = match stack {
        Some(stack) => Some(items(stack)?),
        None => None,
    };
    DAYS.contains(&days).then_some(())?;
    Some(json!({
        "id": id.to_string(), "apelido": text(apelido.as_ref()?)?, "nome": text(nome.as_ref()?)?,
        "nascimento": date(days), "stack": stack,
    }))
}

/// Years of 400 at a time, then one by one, then months.
fn date(days: i32) -> String {
    let mut days = days - DAYS.start();
    let mut year = 1 + days / 146_097 * 400;
    days %= 146_097;
    let is_leap = |year: i32| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    while days >= 365 + i32::from(is_leap(year)) {
        days -= 365 + i32::from(is_leap(year));
        year += 1;
    }
    let february = 28 + i32::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}", days + 1)
}

/// An array that says to have more items than it has bytes: no server sends it, and the driver would make room for them.
fn is_inflated(stack: &Bytes) -> bool {
    let Some(mut bytes) = stack.as_deref() else { return false };
    let Some((dimensions, _)) = number(&mut bytes).zip(number(&mut bytes)) else { return false };
    let _oid = number(&mut bytes);
    let mut count = 1_i64;
    for _ in 0..dimensions.clamp(0, 8) {
        let Some((length, _)) = number(&mut bytes).zip(number(&mut bytes)) else { return false };
        count = count.saturating_mul(i64::from(length));
    }
    count.unsigned_abs() > 1_000
}

/// Sends what it is told.
struct Wire {
    runtime: Runtime,
    tasks: LocalSet,
    client: Client,
    rows: Rc<RefCell<Vec<[Bytes; 5]>>>,
    statements: HashMap<&'static str, Statement>,
}

const COPY: &str = "copy";

fn types(statement: &str) -> [Type; 5] {
    match statement {
        "others" => [Type::UUID, Type::TEXT, Type::TEXT, Type::DATE, Type::VARCHAR_ARRAY],
        "wrong" => [Type::UUID, Type::VARCHAR, Type::INT4, Type::TEXT, Type::TEXT],
        _ => [Type::UUID, Type::VARCHAR, Type::VARCHAR, Type::DATE, Type::TEXT_ARRAY],
    }
}

fn message(out: &mut Vec<u8>, tag: u8, body: &[u8]) {
    out.push(tag);
    out.extend(u32::try_from(body.len() + 4).expect("small").to_be_bytes());
    out.extend(body);
}

fn description(statement: &str) -> Vec<u8> {
    let mut out = 5_u16.to_be_bytes().to_vec();
    for of in types(statement) {
        out.extend(b"column\0\0\0\0\0\0\0");
        out.extend(of.oid().to_be_bytes());
        out.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 1]);
    }
    out
}

fn tuple(row: &[Bytes; 5]) -> Vec<u8> {
    let mut out = 5_u16.to_be_bytes().to_vec();
    for value in row {
        match value {
            Some(value) => {
                out.extend(u32::try_from(value.len()).expect("small").to_be_bytes());
                out.extend(value);
            }
            None => out.extend((-1_i32).to_be_bytes()),
        }
    }
    out
}

fn answer(out: &mut Vec<u8>, statement: &str, rows: &[[Bytes; 5]]) {
    if statement != COPY {
        rows.iter().for_each(|row| message(out, b'D', &tuple(row)));
        return message(out, b'C', b"SELECT 1\0");
    }
    message(out, b'H', &[1, 0, 0]);
    let mut start = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for row in rows {
        message(out, b'd', &[std::mem::take(&mut start), tuple(row)].concat());
    }
    message(out, b'd', &[start, vec![0xff, 0xff]].concat());
    message(out, b'c', b"");
    message(out, b'C', b"COPY 1\0");
}

fn word(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|&byte| byte == 0).expect("a C string");
    str::from_utf8(&bytes[..end]).expect("ASCII")
}

/// Plays the server: each statement's text is one word, which says what is sent.
async fn serve(mut io: DuplexStream, rows: Rc<RefCell<Vec<[Bytes; 5]>>>) -> io::Result<()> {
    let startup = io.read_u32().await?;
    io.read_exact(&mut vec![0; startup as usize - 4]).await?;
    let mut out = Vec::new();
    message(&mut out, b'R', &[0; 4]);
    message(&mut out, b'Z', b"I");
    io.write_all(&out).await?;
    let (mut texts, mut bound) = (HashMap::new(), String::new());
    loop {
        let tag = io.read_u8().await?;
        let length = io.read_u32().await?;
        let mut body = vec![0; length as usize - 4];
        io.read_exact(&mut body).await?;
        let mut out = Vec::new();
        match tag {
            b'P' => {
                let name = word(&body).to_owned();
                texts.insert(name.clone(), word(&body[name.len() + 1..]).to_owned());
                message(&mut out, b'1', b"");
            }
            b'D' => {
                message(&mut out, b't', &[0, 0]);
                match texts[word(&body[1..])].as_str() {
                    COPY => message(&mut out, b'n', b""),
                    text => message(&mut out, b'T', &description(text)),
                }
            }
            b'B' => {
                let portal = word(&body).len();
                bound = texts[word(&body[portal + 1..])].clone();
                message(&mut out, b'2', b"");
            }
            b'E' => answer(&mut out, &bound, &rows.borrow()),
            b'C' => message(&mut out, b'3', b""),
            b'S' => message(&mut out, b'Z', b"I"),
            other => panic!("the client said {:?}", char::from(other)),
        }
        io.write_all(&out).await?;
    }
}

impl Wire {
    fn new() -> Wire {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (tasks, rows) = (LocalSet::new(), Rc::default());
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        tasks.spawn_local(serve(theirs, Rc::clone(&rows)));
        let (client, statements) = tasks.block_on(&runtime, async {
            let config = Config::new().user("x").ssl_mode(SslMode::Disable).to_owned();
            let (client, connection) = config.connect_raw(ours, NoTls).await.expect("a session");
            tokio::task::spawn_local(connection);
            let mut statements = HashMap::new();
            for text in ["usual", "others", "wrong", COPY] {
                statements.insert(text, client.prepare(text).await.expect("a statement"));
            }
            (client, statements)
        });
        Wire { runtime, tasks, client, rows, statements }
    }

    fn run(&self, how: How, rows: Vec<[Bytes; 5]>) {
        self.rows.replace(rows);
        let rows = self.rows.borrow();
        self.tasks.block_on(&self.runtime, async {
            let text = match how {
                How::Statement => "usual",
                How::OtherTypes => "others",
                How::WrongTypes => "wrong",
                How::Copy => COPY,
            };
            let statement = &self.statements[text];
            let mut read = 0;
            if how == How::Copy {
                let copy = self.client.copy_out(statement).await.expect("a copy");
                let mut stream = std::pin::pin!(BinaryCopyOutStream::new(copy, &types(text)));
                while let Some(row) = stream.try_next().await.expect("a tuple") {
                    check(how, &row, &rows[read]);
                    read += 1;
                }
            } else {
                for row in self.client.query(statement, &[]).await.expect("rows") {
                    check(how, &row, &rows[read]);
                    read += 1;
                }
            }
            assert_eq!(read, rows.len());
        });
    }
}

fn check(how: How, row: &impl Columns, bytes: &[Bytes; 5]) {
    let read: Result<Result<_, Unfit>, Failure> = record(row, 0);
    if how == How::WrongTypes {
        assert!(!matches!(read, Ok(Ok(_))), "nothing can be read");
        return;
    }
    let expected = shown(bytes);
    match read.expect("the columns are those that were asked for") {
        Ok(record) => {
            let json: Value = serde_json::from_slice(&record.json).expect("JSON");
            assert_eq!(Some(json), expected);
            let fields = 2 + record.pessoa.stack.as_ref().map_or(0, crate::pessoa::Stack::len);
            assert_eq!(record.search_text.split(|&byte| byte == 0).count(), fields);
        }
        Err(unfit) => {
            assert_eq!(expected, None, "{unfit:?}");
            let id = bytes[0].as_ref().and_then(|id| Uuid::from_slice(id).ok());
            assert_eq!(unfit.id, id);
        }
    }
}

thread_local! {
    static WIRE: Wire = Wire::new();
}

pub fn run(Run { how, rows }: Run) {
    let rows = rows.iter().take(ROWS_MAX).map(|row| {
        [
            row.id.bytes(&[7; 16]),
            row.apelido.bytes(b"ana"),
            row.nome.bytes(b"Ana"),
            row.nascimento.bytes(),
            row.stack.bytes(),
        ]
    });
    let rows = rows.filter(|[.., stack]| !is_inflated(stack)).collect();
    WIRE.with(|wire| wire.run(how, rows));
}
