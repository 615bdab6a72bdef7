//! What several test files use.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod client;
pub mod dialogue;
pub mod message;
pub mod relay;
pub mod upstream;
pub mod wait;
