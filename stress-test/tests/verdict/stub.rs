//! A people API in memory that lies in one way, or not at all.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Nothing.
    None,
    /// One in ten pessoas that it acknowledges is never stored.
    Loses,
    /// One in ten is never stored, and it counts those too.
    LosesAndCounts,
    /// It stores an apelido again.
    Repeats,
    /// What it gives back is not what it was given.
    Changes,
    /// It stores pessoas that it refuses.
    StoresRefused,
    /// It answers one in ten with 500.
    Fails,
}

#[derive(Default)]
struct State {
    rows: HashMap<String, Value>,
    apelidos: HashSet<String>,
    creates: u64,
    /// Pessoas that are counted on top of the rows.
    counted: usize,
}

/// Listens on a port of its own as long as the test lives.
pub(crate) fn start(lie: Lie) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let state = Arc::new(Mutex::new(State::default()));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let state = Arc::clone(&state);
            // A client that goes away is no failure of the test.
            thread::spawn(move || drop(serve(&stream, lie, &state)));
        }
    });
    address
}

fn serve(stream: &TcpStream, lie: Lie, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let target = first.split(' ').nth(1).unwrap_or_default();
        let (status, location, answer) = answer(lie, &mut state.lock().expect("no panic"), target, &body);
        let location = location.map(|id| format!("Location: /pessoas/{id}\r\n")).unwrap_or_default();
        let head = format!("HTTP/1.1 {status} X\r\n{location}Content-Length: {}\r\n\r\n", answer.len());
        (&mut &*stream).write_all(format!("{head}{answer}").as_bytes())?;
    }
}

fn answer(lie: Lie, state: &mut State, target: &str, body: &[u8]) -> (u16, Option<String>, String) {
    match target {
        "/pessoas" if !body.is_empty() => create(lie, state, body),
        "/pessoas" => (400, None, String::new()),
        "/contagem-pessoas" => (200, None, (state.rows.len() + state.counted).to_string()),
        _ => match target.strip_prefix("/pessoas/") {
            None => (200, None, "[]".to_owned()),
            Some(id) => {
                state.rows.get(id).map_or((404, None, String::new()), |row| (200, None, row.to_string()))
            }
        },
    }
}

fn create(lie: Lie, state: &mut State, body: &[u8]) -> (u16, Option<String>, String) {
    let Ok(mut pessoa) = serde_json::from_slice::<Value>(body) else { return (400, None, String::new()) };
    state.creates += 1;
    let one_in_ten = state.creates.is_multiple_of(10);
    let id = format!("00000000-0000-7000-8000-{:012x}", state.creates);
    let apelido = pessoa["apelido"].as_str().unwrap_or_default().to_owned();
    if lie == Lie::Fails && one_in_ten {
        return (500, None, String::new());
    }
    if !state.apelidos.insert(apelido) && lie != Lie::Repeats {
        return (422, None, String::new());
    }
    pessoa["id"] = json!(id);
    match lie {
        Lie::Loses if one_in_ten => return (201, Some(id), pessoa.to_string()),
        Lie::LosesAndCounts if one_in_ten => {
            state.counted += 1;
            return (201, Some(id), pessoa.to_string());
        }
        Lie::Changes => pessoa["nome"] = json!("another"),
        _ => {}
    }
    state.rows.insert(id.clone(), pessoa.clone());
    if lie == Lie::StoresRefused && one_in_ten {
        return (422, None, String::new());
    }
    (201, Some(id), pessoa.to_string())
}
