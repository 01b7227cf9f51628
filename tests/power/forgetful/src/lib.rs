//! A filesystem in memory that forgets, when its power is cut, what was not synced: below a database's data directory it
//! shows whether what the database acknowledged was kept.
//!
//! [`Disk`] is what is written and what of it is kept: `content` has the pages of one file, `names` the directories. It does
//! no I/O and knows no kernel. `mount` gives it to the kernel by FUSE and has the switch. [`Names`] and [`Fate`] say
//! what may be forgotten.
//!
//! What a power cut leaves, by seed:
//!
//! - **Pages** of 4 KiB that were written and not synced: as they were kept, as they were written last, or torn: each sector
//!   of 512 bytes one or the other. Any page of a file may be kept without any other. Some are written back at random times
//!   before, as a kernel does, so that what was written before the last time may be found too.
//! - **A file's size** that was not synced: the kept one, the last one, or one between them; what was never written reads as
//!   zeros. A truncation that was not synced may be undone.
//! - **Names** (of new, renamed, linked and removed files and directories) that were not synced, see [`Names`]. A rename is kept
//!   whole or not at all.
//!
//! `fsync` and `fdatasync` keep a file's content and size; `O_SYNC` and `O_DSYNC` keep what each write wrote; `msync` is
//! an fsync, by the kernel. `fsync` of a directory keeps its names. `O_DIRECT` and `sync_file_range` promise nothing, as in Linux.
//! `sync` and `syncfs` are not passed on to a FUSE filesystem and so promise nothing here, which is less than they do in Linux.
//! Owners, modes and times are kept as they are. A write by a memory map comes when the kernel writes it back.

mod content;
mod disk;
mod mount;
mod names;

pub use disk::{Disk, Fate, Loss, ROOT};
pub use mount::{Mounted, own_mounts};
pub use names::Names;

/// What is kept or forgotten as one, if it is not torn: the kernel's page, in bytes.
pub const PAGE: usize = 4096;
/// What a device writes whole or not at all, in bytes.
pub const SECTOR: usize = 512;
