//! The parser of request heads, beside httparse. httparse only finds the lines and names; ours also decides framing,
//! persistence and what is refused.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use rinha::http::{Framing, HeadParser, Progress};

const GET: &str =
    "GET /pessoas/01a20bd2-9a91-735a-92f8-1d35bae5e669 HTTP/1.1\r\nHost: localhost:9999\r\n\r\n";
const POST: &str = "POST /pessoas HTTP/1.1\r\nhost: localhost:9999\r\naccept: */*\r\ncontent-type: application/json\r\n\
    accept-encoding: gzip, deflate\r\nuser-agent: Agentes do Caos - 1\r\ncontent-length: 211\r\n\r\n";
const BROWSER: &str = "GET /pessoas?t=node HTTP/1.1\r\nHost: localhost:9999\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: pt-BR,pt;q=0.8,en-US;q=0.5,en;q=0.3\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nDNT: 1\r\nConnection: keep-alive\r\nUpgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: none\r\nSec-Fetch-User: ?1\r\nPriority: u=0, i\r\n\r\n";

pub(crate) fn bench(criterion: &mut Criterion) {
    for (name, bytes, length) in [("GET", GET, 0), ("POST", POST, 211), ("browser", BROWSER, 0)] {
        let bytes = bytes.as_bytes();
        let mut parser = HeadParser::default();
        let Ok(Progress::Complete(head)) = parser.parse(bytes) else {
            panic!("{name}: expected a whole head")
        };
        assert_eq!(
            (head.length, head.framing, head.keep_alive),
            (bytes.len(), Framing::Length(length), true)
        );
        let (parsed, target) = httparse(bytes);
        assert_eq!((head.length, &bytes[head.target]), (parsed, target.as_bytes()));

        let mut group = criterion.benchmark_group(format!("parser/{name}"));
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("rinha", |bencher| bencher.iter(|| parser.parse(black_box(bytes))));
        group.bench_function("httparse", |bencher| bencher.iter(|| httparse(black_box(bytes))));
    }
}

fn httparse(bytes: &[u8]) -> (usize, &str) {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    let status = request.parse(bytes).expect("a right head");
    (status.unwrap(), request.path.expect("a target"))
}
