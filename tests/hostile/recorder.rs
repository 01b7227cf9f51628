//! A relay between the balancer and a server that writes down every byte of every connection, in both directions. It
//! understands none of them.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// What passed on one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) to_server: Vec<u8>,
    pub(crate) to_balancer: Vec<u8>,
}

/// What the relay does to bytes on their way to the server: nothing, but in the test of the tests.
pub(crate) type Tamper = fn(&mut [u8]);

/// The connections of all relays so far.
#[derive(Clone, Default)]
pub(crate) struct Recorder {
    records: Arc<Mutex<Vec<Arc<Mutex<Record>>>>>,
}

impl Recorder {
    /// Listens at `here`, and leads to `there`, for as long as this process lives.
    pub(crate) fn relay(&self, here: &Path, there: PathBuf, tamper: Tamper) {
        let listener = UnixListener::bind(here).unwrap();
        let records = Arc::clone(&self.records);
        thread::spawn(move || {
            for client in listener.incoming() {
                // A server that is not there is a connection that closes.
                let (Ok(client), Ok(server)) = (client, UnixStream::connect(&there)) else { continue };
                let record = Arc::new(Mutex::new(Record::default()));
                records.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&record));
                pass(&client, &server, &record, |record| &mut record.to_server, tamper).unwrap();
                pass(&server, &client, &record, |record| &mut record.to_balancer, |_| ()).unwrap();
            }
        });
    }

    /// What passed so far.
    pub(crate) fn records(&self) -> Vec<Record> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().map(|record| record.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }
}

/// Passes on one direction, written down before it is sent.
fn pass(
    from: &UnixStream,
    to: &UnixStream,
    record: &Arc<Mutex<Record>>,
    part: fn(&mut Record) -> &mut Vec<u8>,
    tamper: Tamper,
) -> io::Result<()> {
    let (mut from, mut to, record) = (from.try_clone()?, to.try_clone()?, Arc::clone(record));
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(bytes @ 1..) = from.read(&mut buffer) {
            tamper(&mut buffer[..bytes]);
            part(&mut record.lock().unwrap_or_else(PoisonError::into_inner))
                .extend_from_slice(&buffer[..bytes]);
            if to.write_all(&buffer[..bytes]).is_err() {
                break;
            }
        }
        // The other side may be gone already.
        let _ = to.shutdown(Shutdown::Write);
    });
    Ok(())
}
