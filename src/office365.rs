//! Microsoft's side as data, no IO: the clouds and the catalogue of errors with their cures.

pub mod clouds;
pub mod entra;
pub mod exchange;
pub mod explain;
mod placeholders;
pub mod replies;
