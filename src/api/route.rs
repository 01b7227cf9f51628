//! Method and target to endpoint. It reads no body and touches no data.

use uuid::Uuid;

use crate::http::{Method, path_and_query};

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// `POST /pessoas`.
    Create,
    /// `GET /pessoas/:id`; `None` when `:id` is not a UUID in the 36-character form.
    Fetch(Option<Uuid>),
    /// `GET /pessoas`, with the undecoded query.
    Search(Option<&'a [u8]>),
    /// `GET /contagem-pessoas`.
    Count,
    /// `GET /healthz`.
    Health,
    /// `GET /`, which leads to the documentation.
    Root,
    /// `GET /docs`, the documentation as a page.
    Docs,
    /// `GET /openapi.json`, the same as an OpenAPI document.
    OpenApi,
    /// No such path (`404`).
    Unknown,
    /// A known path that does not take this method (`405`), with the value of the `Allow` field.
    NotAllowed(&'static str),
    /// A method that no server knows (`501`).
    NotImplemented,
}

/// The name of a path that there is not.
pub(super) const NO_ROUTE: &str = "";

impl Route<'_> {
    /// The path with its variables by name, for metrics. A path that is known and does not take the method has none: nobody
    /// asks for it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Route::Create | Route::Search(_) => "/pessoas",
            Route::Fetch(_) => "/pessoas/{id}",
            Route::Count => "/contagem-pessoas",
            Route::Health => "/healthz",
            Route::Root => "/",
            Route::Docs => "/docs",
            Route::OpenApi => "/openapi.json",
            Route::Unknown | Route::NotAllowed(_) | Route::NotImplemented => NO_ROUTE,
        }
    }
}

/// Paths are compared byte for byte: a percent-encoded letter is another path.
pub(super) fn route(method: Method, target: &[u8]) -> Route<'_> {
    if method == Method::Unknown {
        return Route::NotImplemented;
    }
    // Its target is no path (RFC 9110 section 9.3.6).
    if method == Method::Connect {
        return Route::NotAllowed("GET, HEAD, POST");
    }
    let (path, query) = path_and_query(target);
    let reads = matches!(method, Method::Get | Method::Head);
    match path {
        // Clients of other entries of the contest write the second form.
        b"/pessoas" | b"/pessoas/" => match method {
            Method::Post => Route::Create,
            _ if reads => Route::Search(query),
            _ => Route::NotAllowed("GET, HEAD, POST"),
        },
        b"/contagem-pessoas" if reads => Route::Count,
        b"/healthz" if reads => Route::Health,
        b"/" if reads => Route::Root,
        b"/docs" if reads => Route::Docs,
        b"/openapi.json" if reads => Route::OpenApi,
        b"/contagem-pessoas" | b"/healthz" | b"/" | b"/docs" | b"/openapi.json" => {
            Route::NotAllowed("GET, HEAD")
        }
        _ => match path.strip_prefix(b"/pessoas/") {
            None | Some(b"") => Route::Unknown,
            Some(id) if id.contains(&b'/') => Route::Unknown,
            Some(_) if !reads => Route::NotAllowed("GET, HEAD"),
            Some(id) => Route::Fetch(hyphenated(id)),
        },
    }
}

/// The `uuid` crate also reads the simple, braced and URN forms, which are no ids here.
fn hyphenated(id: &[u8]) -> Option<Uuid> {
    (id.len() == uuid::fmt::Hyphenated::LENGTH).then(|| Uuid::try_parse_ascii(id).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        let id = Uuid::from_u128(0x0190_A1B2_C3D4_7E5F_8A9B_0C1D_2E3F_4A5B);
        for (method, target, expected) in [
            (Method::Post, "/pessoas", Route::Create),
            (Method::Post, "/pessoas?x=1", Route::Create),
            (Method::Get, "/pessoas", Route::Search(None)),
            (Method::Get, "/pessoas?", Route::Search(Some(b""))),
            (Method::Head, "/pessoas?t=a", Route::Search(Some(b"t=a"))),
            (Method::Get, "http://host:9999/pessoas?t=a", Route::Search(Some(b"t=a"))),
            (Method::Get, "/pessoas/0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", Route::Fetch(Some(id))),
            (Method::Get, "/pessoas/0190A1B2-C3D4-7E5F-8A9B-0C1D2E3F4A5B?x", Route::Fetch(Some(id))),
            (Method::Get, "/pessoas/0190a1b2c3d47e5f8a9b0c1d2e3f4a5b", Route::Fetch(None)),
            (Method::Get, "/pessoas/{0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b}", Route::Fetch(None)),
            (Method::Get, "/pessoas/1", Route::Fetch(None)),
            (Method::Get, "/pessoas/?t=a", Route::Search(Some(b"t=a"))),
            (Method::Post, "/pessoas/", Route::Create),
            (Method::Get, "/pessoas//", Route::Unknown),
            (Method::Connect, "localhost:80", Route::NotAllowed("GET, HEAD, POST")),
            (Method::Get, "/pessoas/a/b", Route::Unknown),
            (Method::Get, "/Pessoas", Route::Unknown),
            (Method::Get, "/pessoa%73", Route::Unknown),
            (Method::Get, "/", Route::Root),
            (Method::Head, "/?x", Route::Root),
            (Method::Get, "http://host", Route::Root),
            (Method::Post, "/", Route::NotAllowed("GET, HEAD")),
            (Method::Get, "/docs", Route::Docs),
            (Method::Get, "/docs/", Route::Unknown),
            (Method::Delete, "/docs", Route::NotAllowed("GET, HEAD")),
            (Method::Head, "/openapi.json", Route::OpenApi),
            (Method::Put, "/openapi.json", Route::NotAllowed("GET, HEAD")),
            (Method::Get, "/openapi.yaml", Route::Unknown),
            (Method::Options, "*", Route::Unknown),
            (Method::Delete, "/pessoas", Route::NotAllowed("GET, HEAD, POST")),
            (Method::Put, "/pessoas/1", Route::NotAllowed("GET, HEAD")),
            (Method::Get, "/contagem-pessoas", Route::Count),
            (Method::Head, "/healthz?x", Route::Health),
            (Method::Post, "/contagem-pessoas", Route::NotAllowed("GET, HEAD")),
            (Method::Unknown, "/pessoas", Route::NotImplemented),
            (Method::Unknown, "/nowhere", Route::NotImplemented),
        ] {
            assert_eq!(route(method, target.as_bytes()), expected, "{method:?} {target}");
        }
    }
}
