//! The statuses that this server sends: code, reason phrase and line. It must not know what a status means to the API.

/// A final status (RFC 9110 section 15) that this server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(u16);

/// Declares each status once: its name, code, reason phrase, and from them the whole status line.
macro_rules! statuses {
    ($($name:ident $code:literal $reason:literal)*) => {
        #[allow(missing_docs)]
        impl Status {
            $(pub const $name: Self = Self($code);)*

            /// Each of them, in ascending order of code.
            pub const ALL: &[Self] = &[$(Self($code)),*];

            /// The reason phrase.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self.0 {
                    $($code => $reason,)*
                    _ => "",
                }
            }

            /// The status line, with its CRLF.
            pub(super) const fn line(self) -> &'static str {
                match self.0 {
                    $($code => concat!("HTTP/1.1 ", $code, " ", $reason, "\r\n"),)*
                    _ => "",
                }
            }
        }
    };
}

statuses! {
    OK 200 "OK"
    CREATED 201 "Created"
    SEE_OTHER 303 "See Other"
    BAD_REQUEST 400 "Bad Request"
    NOT_FOUND 404 "Not Found"
    METHOD_NOT_ALLOWED 405 "Method Not Allowed"
    REQUEST_TIMEOUT 408 "Request Timeout"
    CONTENT_TOO_LARGE 413 "Content Too Large"
    URI_TOO_LONG 414 "URI Too Long"
    UNPROCESSABLE_CONTENT 422 "Unprocessable Content"
    HEADER_FIELDS_TOO_LARGE 431 "Request Header Fields Too Large"
    NOT_IMPLEMENTED 501 "Not Implemented"
    SERVICE_UNAVAILABLE 503 "Service Unavailable"
    VERSION_NOT_SUPPORTED 505 "HTTP Version Not Supported"
}

impl Status {
    /// The three-digit code.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_line_is_read_back() {
        assert_eq!(Status::ALL.len(), 14);
        for &status in Status::ALL {
            let mut headers = [];
            let mut response = httparse::Response::new(&mut headers);
            let line = [status.line(), "\r\n"].concat();
            let length = response.parse(line.as_bytes()).unwrap().unwrap();
            assert_eq!(length, line.len());
            assert_eq!(response.code, Some(status.code()));
            assert_eq!(response.reason, Some(status.reason()));
        }
    }
}
