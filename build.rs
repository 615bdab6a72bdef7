//! Gives the linker the order of functions in a release build: those that a daemon needs side by
//! side, so that it does not have the others in memory (`tests/memory/order` says more). Where the
//! names do not fit, or the order is left out, the program is the same and takes more memory.

use std::{env, path::Path};

const ORDER: &str = "link/order.ld";

fn main() {
    println!("cargo::rerun-if-changed={ORDER}");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let order = Path::new(&env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join(ORDER);
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") && order.exists() {
        println!("cargo::rustc-link-arg-bins=-T{}", order.display());
    }
}
