//! The parts of o365-relay, a mail relay daemon: plain SMTP from legacy applications in,
//! a durable queue in the middle, STARTTLS and XOAUTH2 to Office 365 out.
//!
//! The house has layers, and a layer imports only downwards (`tests/layers.rs` fails otherwise):
//!
//! | Layer | Modules | What it is |
//! |---|---|---|
//! | L5 | `cli` (and `main.rs`) | one file per command |
//! | L4 | [`daemon`], [`config`], [`http`], [`doctor`], [`sandbox`], [`setup`] | composition, watching, diagnosis, the fake tenant, the way in |
//! | L3 | [`listener`], [`queue`], [`delivery`] | the SMTP server, the schedule, the SMTP client |
//! | L2 | [`store`], [`token`] | what is durable, what opens the door |
//! | L1 | [`telemetry`], [`clock`], [`drain`], [`tls`] | what every part above needs |
//! | L0 | [`smtp`], [`mail`], [`office365`] | pure: no clock, socket, file or randomness |

pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod delivery;
pub mod doctor;
pub mod drain;
pub mod http;
pub mod listener;
pub mod mail;
pub mod office365;
pub mod queue;
pub mod sandbox;
pub mod setup;
pub mod smtp;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod token;
