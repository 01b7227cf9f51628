//! One function per endpoint; reads like the contract. It knows the cores as one mesh, and never a socket.

use std::fmt::Display;
use std::rc::Rc;
use std::time::Instant;

use uuid::Uuid;

use super::docs;
use super::health::Health;
use super::requests::Requests;
use super::route::{NO_ROUTE, Route, route};
use crate::http::reply::{JSON, TEXT};
use crate::http::{
    Answered, BadEncoding, Method, Reply, Request, Service, Status, decode_form_utf8, first_value,
};
use crate::people::{Creation, Key, Mesh, Unavailable};
use crate::pessoa::{self, Record, Refusal, lower};

/// Everything that one core needs to answer.
pub struct Api {
    /// The pessoas, wherever they live.
    pub mesh: Rc<Mesh>,
    /// What `/healthz` says.
    pub health: Health,
    /// What was answered, and how long it took.
    pub requests: Requests,
}

impl Service for Api {
    async fn respond(&self, request: Request<'_>, reply: Reply<'_>) -> Answered {
        let (method, received) = (request.method, request.received);
        let route = route(request.method, request.target);
        let name = route.name();
        let answered = self.answer(route, request.body, reply).await;
        self.requests.count(method, name, answered.status, received.elapsed());
        answered
    }

    fn rejected(&self, status: Status, received: Instant) {
        self.requests.count(Method::Unknown, NO_ROUTE, status, received.elapsed());
    }
}

impl Api {
    async fn answer(&self, route: Route<'_>, body: &[u8], reply: Reply<'_>) -> Answered {
        match route {
            Route::Fetch(Some(id)) => self.fetch(id, reply).await,
            Route::Create => self.create(body, reply).await,
            Route::Search(query) => self.search(query, reply).await,
            Route::Count => self.count(reply).await,
            Route::Health => self.health(reply).await,
            Route::Root => docs::root(reply),
            Route::Docs => docs::page(reply),
            Route::OpenApi => docs::openapi(reply),
            Route::Fetch(None) => {
                reply.problem(Status::NOT_FOUND, "expected an id in the 36-character form of a UUID", None)
            }
            Route::Unknown => reply.problem(
                Status::NOT_FOUND,
                "expected /pessoas, /pessoas/:id, /contagem-pessoas, /healthz or /docs",
                None,
            ),
            Route::NotAllowed(allow) => {
                let detail = format!("expected one of the methods {allow}");
                reply.problem(Status::METHOD_NOT_ALLOWED, &detail, Some(("Allow", allow.as_bytes())))
            }
            Route::NotImplemented => {
                reply.problem(Status::NOT_IMPLEMENTED, "expected a method that HTTP defines", None)
            }
        }
    }

    /// `POST /pessoas`: 201 once the row is committed, never before.
    async fn create(&self, body: &[u8], reply: Reply<'_>) -> Answered {
        let candidate = match pessoa::decode(body) {
            Ok(candidate) => candidate,
            Err(Refusal::Malformed(reason)) => {
                return reply.problem(Status::BAD_REQUEST, &reason.to_string(), None);
            }
            Err(Refusal::Invalid(reason)) => {
                return reply.problem(Status::UNPROCESSABLE_CONTENT, &reason.to_string(), None);
            }
        };
        match self.mesh.create(candidate).await {
            Creation::Created(record) => created(&record, reply),
            Creation::Duplicate => {
                let detail = "`apelido`: expected one that no other pessoa has";
                reply.problem(Status::UNPROCESSABLE_CONTENT, detail, None)
            }
            Creation::Refused(sqlstate) => {
                let detail = format!("the database refused this pessoa (SQLSTATE {sqlstate})");
                reply.problem(Status::UNPROCESSABLE_CONTENT, &detail, None)
            }
            Creation::Unavailable(why) => {
                let again = pessoa::decode(body).ok();
                let concerned = again.and_then(|asked| self.mesh.concerned(Key::Apelido(&asked.apelido)));
                unavailable(create_unavailable(why), concerned, reply)
            }
        }
    }

    /// `GET /pessoas/:id`: from memory, else from Postgres; 404 only when Postgres has no such row.
    async fn fetch(&self, id: Uuid, reply: Reply<'_>) -> Answered {
        match self.mesh.fetch(id).await {
            Ok(Some(body)) => reply.with_body(Status::OK, JSON, None, body.bytes(), |out| body.write(out)),
            Ok(None) => reply.problem(Status::NOT_FOUND, "no pessoa has this id", None),
            Err(why) => unavailable(read_unavailable(why), self.mesh.concerned(Key::Id(&id)), reply),
        }
    }

    /// `GET /pessoas?t=:termo`: at most 50 pessoas that contain the term, in ascending order of id.
    async fn search(&self, query: Option<&[u8]>, reply: Reply<'_>) -> Answered {
        let Some(raw) = first_value(query.unwrap_or_default(), b"t") else {
            return reply.problem(
                Status::BAD_REQUEST,
                "`t`: expected a search term, as in /pessoas?t=node",
                None,
            );
        };
        let mut decoded = Vec::new();
        let term = match decode_form_utf8(raw, &mut decoded) {
            Ok(term) => term,
            Err(BadEncoding::BadPercent) => {
                let detail = "`t`: expected two hexadecimal digits after each %";
                return reply.problem(Status::BAD_REQUEST, detail, None);
            }
            Err(BadEncoding::NotUtf8) => {
                return reply.problem(
                    Status::BAD_REQUEST,
                    "`t`: expected UTF-8 behind the percent-encoding",
                    None,
                );
            }
        };
        let mut lowered = Vec::with_capacity(term.len());
        lower(term, &mut lowered);

        match self.mesh.search(&lowered).await {
            Ok(results) => array(&results.bodies(), reply),
            Err(why) => unavailable(read_unavailable(why), self.mesh.lacking(why), reply),
        }
    }

    /// `GET /contagem-pessoas`: what Postgres counts now, never what a cache holds.
    async fn count(&self, reply: Reply<'_>) -> Answered {
        match self.mesh.count().await {
            Ok(rows) => reply.body(Status::OK, TEXT, None, rows.to_string().as_bytes()),
            Err(why) => unavailable(read_unavailable(why), self.mesh.lacking(why), reply),
        }
    }

    /// `GET /healthz`: speaks of this instance; the database's state is a member.
    async fn health(&self, reply: Reply<'_>) -> Answered {
        let (serving, document) = self.health.render(&self.mesh.states().await);
        let status = if serving { Status::OK } else { Status::SERVICE_UNAVAILABLE };
        reply.body(status, JSON, None, document.as_bytes())
    }
}

fn created(record: &Record, reply: Reply<'_>) -> Answered {
    const PREFIX: &[u8] = b"/pessoas/";
    let mut location = [0; PREFIX.len() + uuid::fmt::Hyphenated::LENGTH];
    location[..PREFIX.len()].copy_from_slice(PREFIX);
    record.pessoa.id.as_hyphenated().encode_lower(&mut location[PREFIX.len()..]);
    reply.body(Status::CREATED, JSON, Some(("Location", &location)), &record.json)
}

/// `200` with a JSON array of `bodies`, each of which is JSON already.
fn array(bodies: &[&[u8]], reply: Reply<'_>) -> Answered {
    let separators = bodies.len().saturating_sub(1);
    let length = 2 + separators + bodies.iter().map(|body| body.len()).sum::<usize>();
    reply.with_body(Status::OK, JSON, None, length, |out| {
        out.push(b'[');
        for (position, body) in bodies.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            out.extend_from_slice(body);
        }
        out.push(b']');
    })
}

/// `503`; of several partitions or nodes it names the one that is `concerned`, as the others may do better.
fn unavailable(detail: &str, concerned: Option<impl Display>, reply: Reply<'_>) -> Answered {
    match concerned {
        Some(concerned) => reply.unavailable(&format!("{detail} ({concerned})")),
        None => reply.unavailable(detail),
    }
}

fn create_unavailable(why: Unavailable) -> &'static str {
    match why {
        Unavailable::NoRoom => "too many creates are waiting; nothing was stored, try again",
        Unavailable::NotStored => {
            "the database takes no pessoas at the moment; nothing was stored, try again"
        }
        Unavailable::TimedOut | Unavailable::Moves(_) | Unavailable::Unfit => {
            "the database did not answer in time; the pessoa may exist, try again to learn"
        }
    }
}

fn read_unavailable(why: Unavailable) -> &'static str {
    match why {
        Unavailable::NoRoom => "too many reads are waiting, or too many bytes of them; try again",
        Unavailable::NotStored | Unavailable::TimedOut | Unavailable::Moves(_) => {
            "the database did not answer in time, try again"
        }
        Unavailable::Unfit => {
            "the row with this id cannot be shown as a pessoa until it is mended in the database"
        }
    }
}
