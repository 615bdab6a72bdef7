//! Writes what a package ships beside the binary: man pages and shell completions, made from the
//! command line and the table of keys that the binary has.
//!
//! ```sh
//! cargo run --example assets            # into target/assets
//! cargo run --example assets DIRECTORY
//! ```

mod pages;

use std::{env, io, path::PathBuf};

fn main() -> io::Result<()> {
    let directory = env::args_os().nth(1).map_or_else(|| "target/assets".into(), PathBuf::from);
    pages::write(&directory)
}
