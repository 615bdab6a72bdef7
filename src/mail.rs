//! Messages: the queue id, the header section (RFC 5322) and its sender, the trace field (RFC 5321
//! section 4.4), notices (RFC 3464).

pub mod header;
mod mailbox_list;
pub mod notice;
pub mod queue_id;
pub mod recipients;
pub mod renewal;
pub mod rewrite;
pub mod test_message;
pub mod trace;
