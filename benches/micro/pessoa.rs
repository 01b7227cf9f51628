//! From a create's body to a candidate, and from a pessoa to its JSON and search text. Beside it serde_json with
//! derived types, which checks no rule: no lengths, no date, no U+0000.

use std::borrow::Cow;
use std::hint::black_box;

use criterion::{Criterion, Throughput};
use rinha::pessoa::{Pessoa, decode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const BODIES: [(&str, &str); 3] = [
    ("short", r#"{"apelido":"ana","nome":"Ana","nascimento":"1990-02-28"}"#),
    (
        "typical",
        r#"{"apelido":"jRQwVvzDkNhsmTbuXe","nome":"Ana Beatriz Carvalho de Albuquerque e Silva","nascimento":"2000-10-01","stack":["C#","NodeJS","Oracle","PostgreSQL","Rust","Python","Java","Kotlin","Elixir","Ruby","Go","PHP","Scala"]}"#,
    ),
    (
        "escapes",
        r#"{"apelido":"jos\u00e9","nome":"Jos\u00e9 \"Z\u00e9\" Ninguém","nascimento":"2000-10-01","stack":["C\u0023","caf\u00e9"]}"#,
    ),
];
const ID: &str = "01a20bd2-9a91-735a-92f8-1d35bae5e669";

/// The members in the order in which the API shows them.
#[derive(Deserialize, Serialize)]
struct Derived<'a> {
    #[serde(default)]
    id: &'a str,
    #[serde(borrow)]
    apelido: Cow<'a, str>,
    #[serde(borrow)]
    nome: Cow<'a, str>,
    nascimento: &'a str,
    #[serde(borrow)]
    stack: Option<Vec<Cow<'a, str>>>,
}

pub(crate) fn bench(criterion: &mut Criterion) {
    for (name, body) in BODIES {
        let candidate = decode(body.as_bytes()).expect("a right body");
        let derived: Derived = serde_json::from_str(body).expect("a right body");
        assert_eq!(
            (&candidate.apelido, &candidate.nome, &candidate.stack),
            (&derived.apelido, &derived.nome, &derived.stack)
        );
        let pessoa = candidate.into_pessoa(Uuid::parse_str(ID).expect("an id"));
        let shown = Derived { id: ID, ..derived };
        let rendered = render(&pessoa);
        assert_eq!(rendered, serde_json::to_vec(&shown).expect("JSON"));

        let mut group = criterion.benchmark_group(format!("pessoa/decode/{name}"));
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("rinha", |bencher| bencher.iter(|| decode(black_box(body.as_bytes()))));
        group.bench_function("serde_json", |bencher| {
            bencher.iter(|| serde_json::from_slice::<Derived>(black_box(body.as_bytes())).is_ok());
        });
        drop(group);

        let mut group = criterion.benchmark_group(format!("pessoa/render/{name}"));
        group.throughput(Throughput::Bytes(rendered.len() as u64));
        group.bench_function("rinha", |bencher| bencher.iter(|| render(black_box(&pessoa))));
        group.bench_function("serde_json", |bencher| bencher.iter(|| serde_json::to_vec(black_box(&shown))));
        drop(group);

        let mut text = Vec::new();
        pessoa.search_text(&mut text);
        assert!(text.starts_with(pessoa.apelido.to_lowercase().as_bytes()));
        criterion.bench_function(&format!("pessoa/search text/{name}"), |bencher| {
            bencher.iter(|| {
                text.clear();
                black_box(&pessoa).search_text(&mut text);
            });
        });
    }
}

fn render(pessoa: &Pessoa) -> Vec<u8> {
    let mut json = Vec::with_capacity(512);
    pessoa.render(&mut json);
    json
}
