//! Messages: the queue id, the header section (RFC 5322), the trace field (RFC 5321 section 4.4).

pub mod header;
pub mod queue_id;
pub mod trace;
