//! Why a request cannot be served, and what the client is told. It knows statuses and sentences, never the parser's
//! state.

use super::status::Status;

/// A request that broke the protocol or a limit. The connection is closed after the answer, whichever it is:
/// nobody knows where the next request would start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reject {
    /// Not `method SP target SP version` (RFC 9112 section 3). HTTP/0.9 and TLS end here.
    RequestLine,
    /// A target that has none of the four forms, or a form that the method does not take (RFC 9112 section 3.2).
    Target,
    /// A request line over `REQUEST_LINE_MAX`.
    RequestLineTooLong,
    /// A well-formed version that is neither HTTP/1.1 nor HTTP/1.0.
    Version,
    /// A line that does not end in CRLF (RFC 9112 section 2.2).
    LineEnd,
    /// A field name that is no token, or is not followed by its colon at once (RFC 9112 section 5.1).
    FieldName,
    /// A control character in a field value (RFC 9110 section 5.5).
    FieldValue,
    /// A line that starts with whitespace (obs-fold, RFC 9112 section 5.2).
    FoldedLine,
    /// More than `HEADER_FIELDS_MAX` header or trailer fields.
    TooManyFields,
    /// A header or trailer section over `HEADER_SECTION_MAX`.
    SectionTooLong,
    /// HTTP/1.1 without `Host` (RFC 9112 section 3.2).
    HostMissing,
    /// More than one `Host`.
    HostRepeated,
    /// A `Host` that is not `name[:port]`.
    Host,
    /// A `Content-Length` that is not one decimal number, or more than one such field (RFC 9110 section 8.6).
    ContentLength,
    /// Both `Content-Length` and `Transfer-Encoding` (RFC 9112 section 6.3).
    LengthAndCoding,
    /// A transfer coding other than `chunked` once, or any in HTTP/1.0 (RFC 9112 section 6.1).
    TransferCoding,
    /// A body over `BODY_MAX`.
    BodyTooLong,
    /// A chunk that is not `size [extensions] CRLF data CRLF` (RFC 9112 section 7.1).
    Chunk,
    /// A chunk-size line over `CHUNK_LINE_MAX`.
    ChunkLineTooLong,
    /// Chunks that cost more than `CHUNK_OVERHEAD_MAX` beside the body.
    ChunkOverhead,
}

impl Reject {
    /// The status of the answer.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::RequestLine
            | Self::Target
            | Self::LineEnd
            | Self::FieldName
            | Self::FieldValue
            | Self::FoldedLine
            | Self::HostMissing
            | Self::HostRepeated
            | Self::Host
            | Self::ContentLength
            | Self::LengthAndCoding
            | Self::TransferCoding
            | Self::Chunk
            | Self::ChunkLineTooLong => Status::BAD_REQUEST,
            Self::BodyTooLong | Self::ChunkOverhead => Status::CONTENT_TOO_LARGE,
            Self::RequestLineTooLong => Status::URI_TOO_LONG,
            Self::TooManyFields | Self::SectionTooLong => Status::HEADER_FIELDS_TOO_LARGE,
            Self::Version => Status::VERSION_NOT_SUPPORTED,
        }
    }

    /// What was expected, for the problem's `detail`. Printable ASCII without quotes or backslashes, so that it
    /// can be put into JSON as it is.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        match self {
            Self::RequestLine => "the request line must be a method, a space, a target, a space and HTTP/1.1",
            Self::Target => {
                "the request target must be a path, an http URL, * for OPTIONS, or host:port for CONNECT"
            }
            Self::RequestLineTooLong => "the request line must be at most 8 KiB",
            Self::Version => "the version must be HTTP/1.1 or HTTP/1.0",
            Self::LineEnd => "every line must end in CRLF",
            Self::FieldName => "every header line must be a name, a colon at once after it, and a value",
            Self::FieldValue => "a header value must hold no control character",
            Self::FoldedLine => "a header line must not start with a space or a tab",
            Self::TooManyFields => "there must be at most 64 header fields",
            Self::SectionTooLong => "the header section must be at most 16 KiB",
            Self::HostMissing => "HTTP/1.1 needs a Host header",
            Self::HostRepeated => "there must be only one Host header",
            Self::Host => "Host must be a name or an address, and optionally a colon and a port",
            Self::ContentLength => "Content-Length must be one decimal number, given once",
            Self::LengthAndCoding => "a request must not have both Content-Length and Transfer-Encoding",
            Self::TransferCoding => "Transfer-Encoding must be chunked, given once, and only in HTTP/1.1",
            Self::BodyTooLong => "the body must be at most 64 KiB",
            Self::Chunk => "a chunk must be its size in hexadecimal, CRLF, that many bytes, and CRLF",
            Self::ChunkLineTooLong => "a chunk-size line must be at most 256 bytes",
            Self::ChunkOverhead => "the chunks must cost at most 5 bytes for each byte of a full body",
        }
    }
}

// The sentences above name the limits in figures.
const _: () = {
    use crate::limits::*;
    assert!(REQUEST_LINE_MAX == 8 * 1024);
    assert!(HEADER_SECTION_MAX == 16 * 1024);
    assert!(HEADER_FIELDS_MAX == 64);
    assert!(BODY_MAX == 64 * 1024);
    assert!(CHUNK_LINE_MAX == 256);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_fit_into_json_as_they_are() {
        use Reject::*;
        for reject in [
            RequestLine,
            Target,
            RequestLineTooLong,
            Version,
            LineEnd,
            FieldName,
            FieldValue,
            FoldedLine,
            TooManyFields,
            SectionTooLong,
            HostMissing,
            HostRepeated,
            Host,
            ContentLength,
            LengthAndCoding,
            TransferCoding,
            BodyTooLong,
            Chunk,
            ChunkLineTooLong,
            ChunkOverhead,
        ] {
            let plain = |byte: u8| (b' '..0x7F).contains(&byte) && byte != b'"' && byte != b'\\';
            assert!(reject.detail().bytes().all(plain), "{reject:?}");
            assert!(matches!(reject.status().code(), 400 | 413 | 414 | 431 | 505));
        }
    }
}
