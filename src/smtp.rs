//! The Simple Mail Transfer Protocol (RFC 5321) without IO: what goes over the wire and what it
//! means. The listener feeds it octets; delivery reads upstream's replies with it.
//!
//! | Module | What it knows |
//! |---|---|
//! | [`path`] | reverse-paths, forward-paths, sender patterns |
//! | [`sender`] | addresses that other ones stand for |
//! | [`reply`] | reply codes and enhanced status codes |
//! | [`envelope`] | the envelope and the parameters it travels with |
//! | [`command`] | one command line |
//! | [`line`](mod@line) | where a command line ends |
//! | [`mail_data`] | where mail data ends, dots, bare CR and LF |
//! | [`chunk`] | mail data in chunks |
//! | [`peer`] | by what way a client came, its EHLO name, its user name |
//! | [`auth`] | logging in: PLAIN and LOGIN |
//! | [`session`] | which command is in order, and what it does |
//! | [`server`] | all of it as one machine that eats octets |

pub mod auth;
pub mod chunk;
pub mod command;
pub mod envelope;
pub mod line;
pub mod mail_data;
pub mod path;
pub mod peer;
pub mod reply;
pub mod sender;
pub mod server;
pub mod session;
