//! Every bound of the server, by name and unit. Nothing here knows who uses it.
//!
//! A bound is either a rule of the API (its answer is a 4xx), a bound on a wait or a queue (its answer is
//! `503` with `Retry-After`), or a size that keeps memory finite. The asserts at the end tie them together. How often a
//! loop looks or logs stands where the loop is.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

// The pessoa; lengths in Unicode scalar values.

/// Most characters of an `apelido`.
pub const APELIDO_CHARS_MAX: usize = 32;
/// Most characters of a `nome`.
pub const NOME_CHARS_MAX: usize = 100;
/// Most characters of one item of `stack`.
pub const STACK_ITEM_CHARS_MAX: usize = 32;
/// Deepest nesting of a request's JSON: the root object is level 1.
pub const JSON_DEPTH_MAX: usize = 32;
/// Most pessoas in the answer to one search.
pub const SEARCH_RESULTS_MAX: usize = 50;

// HTTP; sizes in bytes.

/// Longest request line, its CRLF not counted (`414`).
pub const REQUEST_LINE_MAX: usize = 8 * KIB;
/// Longest header section or trailer section, from its first field line to its empty line, which counts too (`431`).
pub const HEADER_SECTION_MAX: usize = 16 * KIB;
/// Most header fields of one request (`431`); also the most trailer fields.
pub const HEADER_FIELDS_MAX: usize = 64;
/// Longest request body, after any transfer coding is undone (`413`).
pub const BODY_MAX: usize = 64 * KIB;
/// Longest chunk-size line, extensions and CRLF included (`400`).
pub const CHUNK_LINE_MAX: usize = 256;

/// Most bytes that the chunks of one body may cost beside the body: size lines and CRLFs (`413`). A chunk of one byte
/// without extensions costs five, so a body may come in chunks of any size, but not with 250 bytes of extensions in
/// each.
pub const CHUNK_OVERHEAD_MAX: usize = 5 * BODY_MAX + CHUNK_LINE_MAX;

/// What a connection's read buffer starts with; enough for a typical create.
pub const READ_BUFFER_INITIAL: usize = 2 * KIB;
/// What a connection's read buffer may grow to: one request's head, and its body or one more read.
pub const READ_BUFFER_MAX: usize = REQUEST_LINE_MAX + HEADER_SECTION_MAX + BODY_MAX + 8 * KIB;
/// Longest page of the API's documentation, which the binary holds.
pub const DOCS_BYTES_MAX: usize = 128 * KIB;
/// Pipelined answers are gathered into one write. Once so many bytes are gathered, they are written before more is
/// answered.
pub const WRITE_BUFFER_HIGH: usize = 256 * KIB;
/// A write buffer that grew past this is given back when it is empty: an idle connection keeps no more.
pub const WRITE_BUFFER_KEEP: usize = KIB;
/// What is read and thrown away after an error answer, so that the peer can read it before the close.
pub const LINGER_BYTES_MAX: usize = 256 * KIB;

// Memory, in bytes: one ledger a core counts what it holds for its clients.

/// What an open connection counts as: its smallest buffers and its task.
pub const CONNECTION_BYTES: usize = 6 * KIB;
/// What takes no more than this counts as small: it may use the last eighth of a ledger, which is kept from what is large.
pub const LEDGER_SMALL_BYTES: usize = 8 * KIB;
/// A ledger's limit, when no memory limit is known.
pub const LEDGER_BYTES_DEFAULT: usize = 256 * MIB;
/// A ledger's least limit: the longest answer, twice, must fit in what is left for what is large.
pub const LEDGER_BYTES_MIN: usize = 8 * MIB;
/// When a core holds so much less than it did, what it freed is given back to the system.
pub const GIVE_BACK_BYTES: usize = 4 * MIB;
/// What a process takes beside the cache and what the ledgers count: code, allocator, the feed.
pub const PROCESS_BYTES: usize = 16 * MIB;
/// And each of its cores: rings, stacks, the database thread with a batch on its way there and back.
pub const CORE_BYTES: usize = 12 * MIB;
/// And each core for each node beyond the first: its rings, and a batch on its way there and back.
pub const LANE_BYTES: usize = 3 * MIB;
/// Bytes of the rows of one insert, so that a batch of long ones does not fill the memory of the database thread.
pub const COMMIT_BATCH_BYTES_MAX: usize = MIB;

// A turn: what a connection may do before the others of its core get theirs.

/// Reads that found bytes at once.
pub const TURN_READS_MAX: u32 = 64;
/// Answers.
pub const TURN_ANSWERS_MAX: u32 = 256;
/// Bytes of answers.
pub const TURN_BYTES_MAX: usize = MIB;
/// The pause after a turn that was used up: a timer, because only that lets the driver look at everything else.
pub const TURN_PAUSE: Duration = Duration::from_millis(1);

// The cores.

/// Most core threads of one instance: the home of a row is one byte of its id.
pub const CORES_MAX: usize = 256;
/// Core threads that may share a CPU, where more are asked for than there are CPUs: they gain nothing, and what is far
/// above is a mistake. Tests run four on one CPU.
pub const CORES_PER_CPU_MAX: usize = 4;

// The databases.

/// Most partitions: a home is in one of them.
pub const PARTITIONS_MAX: usize = 256;
/// Most nodes, each a primary with its standbys: an instance keeps some connections to each, and a thread reads from all.
pub const NODES_MAX: usize = 16;

// Connections and their waits.

/// Longest path of a unix socket, in bytes (`sun_path` without its NUL).
pub const UNIX_PATH_MAX: usize = 107;
/// Pending connections the kernel keeps for a listener (it caps this at `net.core.somaxconn`).
pub const LISTEN_BACKLOG: i32 = 4096;
/// How long a start waits for an address that another process still holds. When a process is killed, the kernel closes
/// the sockets that its rings hold a moment after the process is gone.
pub const BIND_TIME_MAX: Duration = Duration::from_secs(1);
/// Pause between two attempts to bind such an address.
pub const BIND_PAUSE: Duration = Duration::from_millis(20);
/// Open connections of one core; one more is answered `503` and closed.
pub const CONNECTIONS_MAX: usize = 16_384;
/// Newcomers of one core that are told that there is no room for them and may finish what they send; further ones are told
/// and closed at once.
pub const REFUSALS_MAX: usize = 16;
/// File descriptors kept for everything of the process that is not a client connection.
pub const FILE_RESERVE: usize = 48 + ADMIN_CONNECTIONS_MAX + LIVE_WATCHERS_MAX + LIVE_PEERS_MAX;
/// File descriptors kept besides for each core and its database thread.
pub const FILE_RESERVE_PER_CORE: usize = 20 + REFUSALS_MAX;
/// And for each core and each node beyond the first: its connections, and those of a look at what it does.
pub const FILE_RESERVE_PER_LANE: usize = 12;
/// From the first byte of a request to its last (`408`).
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// From the start of a write to its end; a connection whose write takes longer is closed.
pub const WRITE_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a connection may stay without a request. Far above the balancer's bound, because the balancer must be the
/// one that closes first.
pub const IDLE_TIME_MAX: Duration = Duration::from_secs(300);
/// How long input is read and thrown away between an error answer and the close.
pub const LINGER_TIME_MAX: Duration = Duration::from_secs(2);
/// How often a core looks for late connections and renews its `Date`.
pub const CLOCK_PERIOD: Duration = Duration::from_secs(1);
/// Pause of an accept loop that ran out of file descriptors or memory.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// How often such an accept loop logs that it cannot accept.
pub const ACCEPT_LOG_PERIOD: Duration = Duration::from_secs(5);
/// After SIGTERM: a listener that accepted nothing for this long has an empty backlog and is closed.
pub const DRAIN_BACKLOG_QUIET: Duration = Duration::from_millis(100);
/// After SIGTERM: connections without a request are kept this long for one last request.
pub const DRAIN_IDLE_TIME_MAX: Duration = Duration::from_secs(3);
/// After SIGTERM: requests under way are given this long.
pub const DRAIN_TIME_MAX: Duration = Duration::from_millis(5_500);
/// After SIGTERM: the cores are given this long to drain and leave; those that have not left by then are left behind.
pub const STOP_TIME_MAX: Duration = Duration::from_millis(5_700);
/// A signal that comes so soon after the first one is the same request to stop; a later one ends the server at once.
pub const SIGNAL_REPEAT_TIME: Duration = Duration::from_secs(1);
/// After the drain: the database threads are given this long to end.
pub const HANG_UP_TIME_MAX: Duration = Duration::from_millis(500);

// Between cores.

/// Questions of one core that another has not answered yet (`503`). As many as a commit queue holds, so that the
/// clients of one core can fill another core's queue by themselves.
pub const MESH_QUESTIONS_MAX: usize = COMMIT_QUEUE_MAX;
/// Unanswered questions about a core's state, counted apart from the others, so that a core that is busy can still be
/// told from one that is stuck.
pub const MESH_STATES_MAX: usize = 64;
/// How long `/healthz` waits for a core's state; a core that answers later is not healthy.
pub const MESH_STATE_TIME_MAX: Duration = Duration::from_secs(1);
/// Accepted connections on their way to one core; while every core has so many, no more are accepted.
pub const HANDOVER_MAX: usize = 256;

// The database.

/// Rows of one insert.
pub const COMMIT_BATCH_MAX: usize = 512;
/// Least time from the start of one batch to the start of the next while few rows wait; timers round it up to a whole
/// millisecond. The rows of a batch share its cost: without the pause a busy instance commits single rows, and meets
/// its CPU quota. The pause was measured (perf/results/2026-11-26.md).
pub const COMMIT_GAP: Duration = Duration::from_millis(2);
/// So many waiting rows end that pause early: a longer wait would slow down a few clients that wait for their answers,
/// and gain nothing.
pub const COMMIT_BATCH_ENOUGH: usize = 8;
/// Creates that wait for a commit on one core, the batch under way included (`503`).
pub const COMMIT_QUEUE_MAX: usize = 4096;
/// So many creates may wait however long that takes, or fewer that are long: a batch that is under way and the next one,
/// whole. With fewer a slow database would commit less than it can.
pub const COMMIT_QUEUE_MIN: usize = 2 * COMMIT_BATCH_MAX;
/// Longest wait that a create may expect; behind so many that it would wait longer it is refused at once (`503`).
pub const COMMIT_WAIT_MAX: Duration = Duration::from_secs(1);
/// Ids of one point read.
pub const READ_BATCH_MAX: usize = 64;
/// Point reads that wait on one core (`503`).
pub const READ_QUEUE_MAX: usize = 1024;
/// Counts that wait on the core that counts (`503`): one that is under way, and all others for the next one.
pub const COUNT_QUEUE_MAX: usize = 1024;
/// A count comes so many times its length after the one before it, whoever waits for it: a flood of counts takes a
/// twentieth of one CPU of the database, as long as that pause is within the next limit.
pub const COUNT_REST: u32 = 19;
/// Longest pause between two counts that somebody waits for. A flood of counts that take 100 ms each takes an eleventh of a
/// CPU. Of counts that take longer than 0.25 s the pause is shorter, so that whoever has just missed one has the next in
/// time.
pub const COUNT_REST_MAX: Duration = Duration::from_secs(1);
/// Rows that are counted at a time: a millisecond or two.
pub const COUNT_PART_ROWS: u64 = 10_000;
/// A count that keeps the database busy for no longer is done at once. One that takes longer has its pause in between, so
/// that under a quota of CPU it does not spend what creates need.
pub const COUNT_BURST_MAX: Duration = Duration::from_millis(5);
/// From when a create was read, and its turn has come, to its answer (`503`).
pub const COMMIT_TIME_MAX: Duration = Duration::from_secs(4);
/// Ids that are tried for one create (`503`). A random id is hardly ever taken, so a create that fails so often has
/// another cause, such as a trigger.
pub const MINTS_MAX: usize = 8;
/// From the arrival of a point read or a count to its answer (`503`).
pub const READ_TIME_MAX: Duration = Duration::from_secs(3);
/// How long a node of several may be away while counts, and searches that memory cannot answer, wait for it; afterwards
/// they are refused at once, and the other nodes are not asked in vain.
pub const NODE_WAIT_MAX: Duration = Duration::from_secs(1);
/// Searches that memory cannot answer and that wait for the database on one core, the one under way included (`503`).
pub const SEARCH_QUEUE_MAX: usize = 16;
/// From the arrival of such a search to its answer (`503`).
pub const SEARCH_TIME_MAX: Duration = Duration::from_secs(3);
/// Apelidos that one core has seen in rows which may not be durable yet; of more, none of its memory counts as durable
/// until its next commit.
pub const UNPROVEN_MAX: usize = 1024;
/// Rows on their way from the feed to one core; while there are so many, the feed waits.
pub const FEED_QUEUE_MAX: usize = 4096;
/// Bytes of the rows on their way from the feed to one core; the feed waits while they are as many.
pub const FEED_QUEUE_BYTES_MAX: usize = 2 * MIB;
/// Own commits that are noted for the feed, so that it leaves out their rows. When a commit finds no room, the feed
/// reads its rows again, which changes nothing.
pub const FEED_NOTICES_MAX: usize = 1024;
/// A transaction of so many rows is read beside the others, so that those need not wait for it. None of a server's own
/// is so large.
pub const FEED_BULK_MIN: usize = COMMIT_BATCH_MAX + 1;
/// Rows that are no pessoas, such as a table without its checks may have, which one reading of the table names in the log.
pub const UNFIT_ROWS_NAMED_MAX: usize = 10;
/// How old the last question may be, from its start, by which memory still answers searches: the contract's second. Once
/// it is older Postgres is asked.
pub const FEED_AGE_MAX: Duration = Duration::from_secs(1);
/// How often the feed asks for new rows when nobody nudges it.
pub const FEED_PERIOD: Duration = Duration::from_millis(250);
/// The period when no transaction began or ended between the last two questions. An answer may take as long again before
/// memory is too old for searches.
pub const FEED_PERIOD_QUIET: Duration = Duration::from_millis(500);
/// Least time between two questions, and between two nudges to other instances, however many commits there are.
pub const FEED_GAP: Duration = Duration::from_millis(20);
/// Most time from a commit to the nudge that tells of it. A commit that comes after so long a pause is told at once.
pub const FEED_NUDGE_GAP_MAX: Duration = Duration::from_millis(100);
/// Rows that a nudge should be worth: where they come so slowly that fewer are there within [`FEED_GAP`], the gap is
/// longer. What a nudge and the question after it cost does not depend on how many rows there are.
pub const FEED_NUDGE_ROWS: u32 = 64;
/// A question without an answer for this long means a dead connection.
pub const FEED_TIME_MAX: Duration = Duration::from_secs(2);
/// Rows that a core takes from the feed in one turn, so that a long load leaves room for the core's clock and commands.
pub const FEED_TURN_MAX: usize = 8192;
/// Rows that the feed hands to a serving core at a time, so that requests pass in between. With so many, 50,000 rows by
/// hand are in memory within the contract's second, and a lookup meanwhile takes up to 5 ms (p99).
pub const FEED_CHUNK: usize = 256;
/// Pause after such a turn or chunk, and while a core's ring has no room.
pub const FEED_PAUSE: Duration = Duration::from_millis(1);
/// A database whose machine is gone is noticed by every connection within this time.
pub const DEAD_HOST_TIME_MAX: Duration = Duration::from_secs(3);
/// A read without an answer for this long means a dead connection, which is replaced by a new one. A commit without an
/// answer for this long is looked after: another connection asks the server what it does.
pub const SILENCE_TIME_MAX: Duration = Duration::from_secs(2);
/// How long such a commit may take while the server does anything but wait for a standby.
pub const STATEMENT_TIME_MAX: Duration = Duration::from_secs(8);
/// How often a connection without work asks whether its server is there.
pub const IDLE_QUESTION_PERIOD: Duration = Duration::from_secs(2);
/// One attempt to connect to one address, until the server there has said who it is.
pub const ADDRESS_TIME_MAX: Duration = Duration::from_secs(1);
/// Of several addresses, how long the last good one is tried alone.
pub const ADDRESS_HEAD_START: Duration = Duration::from_millis(100);
/// Of several addresses, the pause of one that failed while another is still silent.
pub const ADDRESS_RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How often somebody looks at all addresses of the database for a primary that the process does not know yet.
pub const LOOKOUT_PERIOD: Duration = Duration::from_millis(500);
/// How long a new session may take to prepare its statements.
pub const PREPARE_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a new session, and every read, waits for a lock on the table.
pub const PREPARE_LOCK_TIME_MAX: Duration = Duration::from_secs(1);
/// How long a batch waits for a lock: of a stranger who holds the table, or an apelido in an open transaction. Afterwards the
/// rows that meet the lock are found and set aside.
pub const COMMIT_LOCK_TIME_MAX: Duration = Duration::from_millis(200);
/// How long each row waits for a lock while those rows are looked for, and whenever such a row is tried again.
pub const ASIDE_LOCK_TIME_MAX: Duration = Duration::from_millis(2);
/// How often rows that were set aside are tried again.
pub const ASIDE_PERIOD: Duration = Duration::from_millis(50);
/// How many of them are tried at a time, so that they take little from the others.
pub const ASIDE_TRIES_MAX: usize = 8;
/// Sessions of one core: commits, reads and searches.
pub const SESSIONS_PER_CORE: usize = 3;
/// Sessions of an instance beside those of its cores: counts, the feed, large transactions, and one that looks around.
pub const SESSIONS_BESIDES: usize = 4;
/// First pause between attempts to connect; it doubles.
pub const CONNECT_BACKOFF_MIN: Duration = Duration::from_millis(20);
/// Longest pause between attempts to connect: the time to notice that the database is back.
pub const CONNECT_BACKOFF_MAX: Duration = Duration::from_millis(500);
/// How long one attempt to prepare the database waits for a lock.
pub const SCHEMA_LOCK_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a start waits for a database that answers and knows neither the user nor the database of the URL: a server
/// that is being set up lets clients in before it has made them.
pub const START_REFUSED_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a start waits for the database.
pub const START_TIME_MAX: Duration = Duration::from_secs(60);
/// `Retry-After` of a `503`, in seconds.
pub const RETRY_AFTER_SECONDS: u32 = 1;

// The admin listener.

/// Connections of operators at once; one more is answered `503` and closed.
pub const ADMIN_CONNECTIONS_MAX: usize = 16;
/// From the accept of such a connection to its close: the request, the gathering and the answer.
pub const ADMIN_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a core has to say what it counted; one that says it later is left out, and named.
pub const ADMIN_CORE_TIME_MAX: Duration = Duration::from_secs(1);
/// Questions that one core has not answered: one of each connection and of the live page, and of each that gave up on a core
/// that is stuck, a watchdog among them.
pub const ADMIN_QUESTIONS_MAX: usize = 2 * ADMIN_CONNECTIONS_MAX;
/// From one event of the live page to the next.
pub const LIVE_PERIOD: Duration = Duration::from_secs(1);
/// Those who watch the live page at once; one more is answered `503` and closed.
pub const LIVE_WATCHERS_MAX: usize = 16;
/// How long one who watches may take to read an event; then it is closed.
pub const LIVE_WRITE_TIME_MAX: Duration = Duration::from_secs(5);
/// What the kernel is asked to keep for one who watches and has not taken it: who takes nothing is noticed soon.
pub const LIVE_SEND_BYTES: usize = 32 * 1024;
/// Other instances on a live page.
pub const LIVE_PEERS_MAX: usize = 15;
/// How long another instance has to say what it is doing; then it is shown as away.
pub const LIVE_PEER_TIME_MAX: Duration = Duration::from_millis(1500);
/// Of what another instance says; its own is a tenth of that.
pub const LIVE_SNAPSHOT_BYTES_MAX: usize = 256 * 1024;

// The supervisor, such as systemd.

/// By how much a start that goes on puts off the supervisor's own bound, again and again.
pub const START_EXTENSION: Duration = Duration::from_secs(30);
/// Longest line that a supervisor shows of the server, in bytes.
pub const NOTIFY_STATUS_BYTES_MAX: usize = 512;

// The log.

/// Lines that wait to be written; further ones are lost, and counted.
pub const LOG_LINES_MAX: usize = 1024;
/// The longest line, in bytes; what is beyond is cut off.
pub const LOG_LINE_BYTES_MAX: usize = 8 * KIB;
/// How long an exit waits for its last lines to be written.
pub const LOG_FLUSH_TIME_MAX: Duration = Duration::from_millis(300);

// The cache.

/// `--cache-bytes` when no memory limit is known.
pub const CACHE_BYTES_DEFAULT: usize = 1024 * MIB;
/// `--cache-bytes` takes no less.
pub const CACHE_BYTES_MIN: usize = 64 * KIB;
/// The largest `--cache-bytes`: more than any machine has, and sums with it fit.
pub const CACHE_BYTES_MAX: usize = 4096 * 1024 * MIB;

// The private Postgres.

/// Oldest major version that has what `schema.sql` needs (`xid8`).
pub const POSTGRES_MAJOR_MIN: u32 = 13;
/// Longest log of Postgres; a longer one is set aside, and a new one is begun.
pub const EMBEDDED_LOG_BYTES_MAX: u64 = 8 * MIB as u64;
/// How much of the end of a program's output is searched for the reason of a failure.
pub const EMBEDDED_LOG_TAIL_BYTES: u64 = 64 * KIB as u64;
/// How much of a process' command line is read: enough for the settings and two paths of 4096 bytes.
pub const EMBEDDED_COMMAND_LINE_BYTES: usize = 16 * KIB;
/// How long initdb may take.
pub const EMBEDDED_INITDB_TIME_MAX: Duration = Duration::from_secs(120);
/// How long Postgres may take to start, crash recovery included.
pub const EMBEDDED_READY_TIME_MAX: Duration = Duration::from_secs(120);
/// How long the orphaned Postgres of a killed server has to answer, unless it is still starting; then it is stopped.
pub const EMBEDDED_ADOPT_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a start waits for a server that is just exiting to let go of the data directory.
pub const EMBEDDED_LOCK_TIME_MAX: Duration = Duration::from_millis(500);
/// How long Postgres has to answer one probe.
pub const EMBEDDED_PROBE_TIME_MAX: Duration = Duration::from_secs(1);
/// The children of a dead postmaster may finish their statement for this long, then they are killed.
pub const EMBEDDED_STRAY_GRACE: Duration = Duration::from_millis(500);
/// How long those children have to be gone, killed or not.
pub const EMBEDDED_STRAY_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a start is tried again while the shared memory of a dead postmaster is still in use.
pub const EMBEDDED_BUSY_TIME_MAX: Duration = Duration::from_secs(10);
/// Pause between such attempts.
pub const EMBEDDED_BUSY_PAUSE: Duration = Duration::from_millis(100);
/// How long a stop that writes everything out may take (SIGINT).
pub const EMBEDDED_STOP_FAST_MAX: Duration = Duration::from_secs(2);
/// How long a stop may take that leaves the rest to the next start's recovery (SIGQUIT), which loses nothing.
pub const EMBEDDED_STOP_QUIT_MAX: Duration = Duration::from_millis(400);
/// How long a killed process may take to end.
pub const EMBEDDED_STOP_KILL_MAX: Duration = Duration::from_millis(400);
/// How often a condition is looked at while it is waited for.
pub const EMBEDDED_POLL_PERIOD: Duration = Duration::from_millis(5);
/// How late the waits of a stop may be, all together.
pub const EMBEDDED_SLACK: Duration = Duration::from_millis(200);

// io_uring.

/// Entries of the submission queue, first choice; halved while the kernel refuses.
pub const RING_ENTRIES: u32 = 1024;
/// Entries of the submission queue, last choice (monoio takes no less).
pub const RING_ENTRIES_MIN: u32 = 256;
/// Most entries of the completion queue, which is sized by the connections; the kernel takes twice as many.
pub const RING_COMPLETIONS_MAX: u32 = 32_768;

/// The balancer's `timeout server` in `haproxy.cfg`; the API must answer first.
pub const BALANCER_TIME_MAX: Duration = Duration::from_secs(12);

const _: () = {
    assert!(CORES_MAX <= 1 << u8::BITS);
    assert!(2 * ADMIN_CORE_TIME_MAX.as_millis() < ADMIN_TIME_MAX.as_millis());
    // A peer of which a core stands still says so.
    assert!(ADMIN_CORE_TIME_MAX.as_millis() < LIVE_PEER_TIME_MAX.as_millis());
    // A core that is late is asked again before the start is given up.
    assert!(4 * ADMIN_CORE_TIME_MAX.as_millis() < START_EXTENSION.as_millis());
    assert!(CORES_PER_CPU_MAX >= 1 && CORES_PER_CPU_MAX <= CORES_MAX);
    assert!(READ_BUFFER_INITIAL <= READ_BUFFER_MAX);
    assert!(WRITE_BUFFER_KEEP <= WRITE_BUFFER_HIGH);
    // A page goes out in one write, and is no longer than other answers.
    assert!(DOCS_BYTES_MAX <= WRITE_BUFFER_HIGH && DOCS_BYTES_MAX <= SEARCH_RESULTS_MAX * BODY_MAX);
    // Of the longest answer, what is sent by other cores and what is written must fit beside each other.
    assert!(LEDGER_BYTES_MIN / 8 * 7 >= 2 * SEARCH_RESULTS_MAX * BODY_MAX);
    assert!(READ_BUFFER_INITIAL + WRITE_BUFFER_KEEP < CONNECTION_BYTES);
    // A newcomer is small.
    assert!(CONNECTION_BYTES <= LEDGER_SMALL_BYTES && LEDGER_SMALL_BYTES <= LEDGER_BYTES_MIN / 8);
    assert!(BODY_MAX * 4 <= COMMIT_BATCH_BYTES_MAX);
    // A chunk-size line has room for any `usize` in hexadecimal and its CRLF. The overhead has room for a body in
    // chunks of one byte each, and for the last chunk.
    assert!(CHUNK_LINE_MAX >= 2 * size_of::<usize>() + 2);
    assert!(CHUNK_OVERHEAD_MAX >= 5 * BODY_MAX + 5);
    assert!(COMMIT_BATCH_ENOUGH <= COMMIT_BATCH_MAX && COMMIT_BATCH_MAX <= COMMIT_QUEUE_MAX);
    assert!(COMMIT_GAP.as_millis() * 100 <= COMMIT_TIME_MAX.as_millis());
    assert!(2 * COMMIT_BATCH_MAX <= COMMIT_QUEUE_MIN && COMMIT_QUEUE_MIN <= COMMIT_QUEUE_MAX);
    // What is expected may be wrong by half.
    assert!(2 * COMMIT_WAIT_MAX.as_millis() <= COMMIT_TIME_MAX.as_millis());
    assert!(READ_BATCH_MAX <= READ_QUEUE_MAX);
    // A core that waits for counts has room for other questions to the core that counts.
    assert!(2 * COUNT_QUEUE_MAX <= MESH_QUESTIONS_MAX);
    // Who comes just too late for one count has time for the next one.
    assert!(COUNT_REST_MAX.as_millis() * 2 < READ_TIME_MAX.as_millis());
    assert!(RING_ENTRIES_MIN <= RING_ENTRIES);
    assert!(FEED_CHUNK <= FEED_QUEUE_MAX);
    assert!(FEED_GAP.as_millis() < FEED_NUDGE_GAP_MAX.as_millis());
    assert!(FEED_NUDGE_GAP_MAX.as_millis() < FEED_PERIOD.as_millis());
    assert!(SILENCE_TIME_MAX.as_millis() + ADDRESS_TIME_MAX.as_millis() <= DEAD_HOST_TIME_MAX.as_millis());
    assert!(
        IDLE_QUESTION_PERIOD.as_millis() + ADDRESS_TIME_MAX.as_millis() <= DEAD_HOST_TIME_MAX.as_millis()
    );
    assert!(READ_TIME_MAX.as_millis() <= DEAD_HOST_TIME_MAX.as_millis());
    assert!(SEARCH_TIME_MAX.as_millis() <= DEAD_HOST_TIME_MAX.as_millis());
    assert!(FEED_TIME_MAX.as_millis() <= DEAD_HOST_TIME_MAX.as_millis());
    assert!(FEED_PERIOD.as_millis() <= FEED_PERIOD_QUIET.as_millis());
    assert!(2 * FEED_PERIOD_QUIET.as_millis() <= FEED_AGE_MAX.as_millis());
    assert!(COMMIT_BATCH_MAX < FEED_BULK_MIN);
    assert!(COMMIT_TIME_MAX.as_millis() < STATEMENT_TIME_MAX.as_millis());
    // A read that met a dead host has time for another one.
    assert!(SILENCE_TIME_MAX.as_millis() < READ_TIME_MAX.as_millis());
    assert!(PREPARE_LOCK_TIME_MAX.as_millis() < PREPARE_TIME_MAX.as_millis());
    assert!(START_REFUSED_TIME_MAX.as_millis() < START_TIME_MAX.as_millis());
    assert!(ADDRESS_HEAD_START.as_millis() + ADDRESS_RETRY_PAUSE.as_millis() < ADDRESS_TIME_MAX.as_millis());
    assert!(ASIDE_LOCK_TIME_MAX.as_millis() * ASIDE_TRIES_MAX as u128 * 2 < ASIDE_PERIOD.as_millis());
    assert!(COMMIT_LOCK_TIME_MAX.as_millis() * 4 <= COMMIT_TIME_MAX.as_millis());
    assert!(SEARCH_TIME_MAX.as_millis() < BALANCER_TIME_MAX.as_millis());
    assert!(COMMIT_TIME_MAX.as_millis() < BALANCER_TIME_MAX.as_millis());
    assert!(READ_TIME_MAX.as_millis() < BALANCER_TIME_MAX.as_millis());
    assert!(REQUEST_TIME_MAX.as_millis() < BALANCER_TIME_MAX.as_millis());
    assert!(DRAIN_IDLE_TIME_MAX.as_millis() <= DRAIN_TIME_MAX.as_millis());
    // A last look of a core at its connections comes this long after the time is over.
    assert!(DRAIN_TIME_MAX.as_millis() + DRAIN_BACKLOG_QUIET.as_millis() < STOP_TIME_MAX.as_millis());
    assert!(COMMIT_TIME_MAX.as_millis() < DRAIN_TIME_MAX.as_millis());
    // The contract: after SIGTERM the server is gone within 10 s, its database included.
    assert!(
        STOP_TIME_MAX.as_millis()
            + LOG_FLUSH_TIME_MAX.as_millis()
            + HANG_UP_TIME_MAX.as_millis()
            + EMBEDDED_STOP_FAST_MAX.as_millis()
            + EMBEDDED_STOP_QUIT_MAX.as_millis()
            + EMBEDDED_STOP_KILL_MAX.as_millis()
            // Strays of a postmaster that had to be killed.
            + EMBEDDED_STOP_KILL_MAX.as_millis()
            + EMBEDDED_SLACK.as_millis()
            < 10_000
    );
    // A second signal: the server is gone "at once", which is 2 s with a database that hangs.
    assert!(
        EMBEDDED_STOP_QUIT_MAX.as_millis()
            + 2 * EMBEDDED_STOP_KILL_MAX.as_millis()
            + LOG_FLUSH_TIME_MAX.as_millis()
            + EMBEDDED_SLACK.as_millis()
            < 2_000
    );
    // The connect backoff must notice a database that came back well within five seconds.
    assert!(
        CONNECT_BACKOFF_MAX.as_millis() + ADDRESS_TIME_MAX.as_millis() + PREPARE_TIME_MAX.as_millis() < 5_000
    );
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_balancer_waits_as_long_as_said() {
        let configuration = std::fs::read_to_string("haproxy.cfg").unwrap();
        let timeout = configuration.lines().find_map(|line| line.trim().strip_prefix("timeout server"));
        assert_eq!(timeout.map(str::trim), Some(format!("{}s", BALANCER_TIME_MAX.as_secs()).as_str()));
    }
}
