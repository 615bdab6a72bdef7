//! `[notices]`: who hears of mail that fails or waits.

use std::time::Duration;

use super::{
    AnyKey,
    Default::{List, Text},
    Key,
};
use crate::{config::kinds, smtp::path::Address};

const NOTICES: &str = "notices";

pub(in crate::config) static KEYS: &[&dyn AnyKey] = &[&TO, &DELAY_AFTER];

pub(in crate::config) static TO: Key<Vec<Address>> = Key::new(
    NOTICES,
    "to",
    List(&[]),
    "Addresses that get every notice besides the sender, such as [\"postmaster@contoso.com\"].",
    kinds::addresses,
);

pub(in crate::config) static DELAY_AFTER: Key<Option<Duration>> = Key::new(
    NOTICES,
    "delay_after",
    Text("4h"),
    "Age at which the sender of a message that is still being tried hears of it, or \"off\".",
    |value| kinds::duration_or_off(value, "1m", "30d"),
);
