//! Where log lines go. It knows the form of a line and nothing of what is said.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::config::{LogFilter, LogFormat};

/// Sends every log line of the process to stderr.
pub fn start(filter: &LogFilter, format: LogFormat) {
    let filter = EnvFilter::new(&filter.0);
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    match format {
        LogFormat::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
