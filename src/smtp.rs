//! The Simple Mail Transfer Protocol (RFC 5321) without IO: what goes over the wire and what it
//! means. The listener feeds it bytes; delivery reads upstream's replies with it.

pub mod path;
pub mod reply;

pub mod mail_data;
