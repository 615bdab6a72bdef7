//! Nothing: the benches beside it are all there is.
