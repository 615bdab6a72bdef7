//! A panic is a fault of this program. It goes to the log as an event like any other, in the log's
//! own form, and is counted: words on standard error alone would be nobody's alarm.

use std::{any::Any, panic::PanicHookInfo, thread};

use super::events::Fault;

/// Tells of panics from here on, in place of the standard library.
pub(super) fn report() {
    std::panic::set_hook(Box::new(tell));
}

fn tell(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = thread::current();
    Fault {
        fault: words(info.payload()),
        place: &place,
        thread: thread.name().unwrap_or_default(),
    }
    .emit();
}

/// What a panic says of itself.
fn words(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it says no more")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_says_what_it_was_made_with() {
        let said = |panic: fn()| std::panic::catch_unwind(panic).unwrap_err();
        assert_eq!(words(&*said(|| panic!("plain"))), "plain");
        assert_eq!(words(&*said(|| panic!("{} of {}", 1, 2))), "1 of 2");
        assert_eq!(words(&*said(|| std::panic::panic_any(7))), "it says no more");
    }
}
