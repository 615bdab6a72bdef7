//! Writes what a package ships beside the binary: man pages and shell completions, made from the
//! command line and the table of keys that the binary has.
//!
//! ```sh
//! cargo run --example assets            # into target/assets
//! cargo run --example assets DIRECTORY
//! ```

mod pages;

use std::{io, path::PathBuf};

use clap::Parser;

/// Writes man pages and shell completions
#[derive(Parser)]
struct Arguments {
    /// Where to
    #[arg(default_value = "target/assets")]
    directory: PathBuf,
}

fn main() -> io::Result<()> {
    pages::write(&Arguments::parse().directory)
}
