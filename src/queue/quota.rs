//! Recipients in a rolling day. Exchange Online lets a mailbox address 10,000; above that it
//! refuses, and keeps refusing. The count starts from the history, so a restart does not forget.

use std::{collections::VecDeque, time::Duration};

use crate::clock::UnixMillis;

/// The window.
pub const WINDOW: Duration = Duration::from_secs(24 * 3600);

/// How finely the window is counted; it slides by this much.
pub const STEP: Duration = Duration::from_secs(60);

/// Recipients of the last day against a limit.
#[derive(Debug)]
pub struct Quota {
    limit: u64,
    used: u64,
    /// Start of a step and recipients in it, oldest first.
    steps: VecDeque<(UnixMillis, u64)>,
}

impl Quota {
    /// A quota with what `history` tells of the last day: (time, recipients), oldest first.
    #[must_use]
    pub fn new(limit: u64, history: impl IntoIterator<Item = (UnixMillis, u64)>) -> Self {
        let mut quota = Self { limit, used: 0, steps: VecDeque::new() };
        for (time, recipients) in history {
            quota.add(time, recipients);
        }
        quota
    }

    /// The same count against another limit.
    #[must_use]
    pub fn limited(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    /// Recipients counted at `now`.
    pub fn used(&mut self, now: UnixMillis) -> u64 {
        self.count_future_as_now(now);
        while let Some((start, recipients)) = self.steps.front()
            && now.since(*start) >= WINDOW
        {
            self.used -= recipients;
            self.steps.pop_front();
        }
        self.used
    }

    /// Counts recipients before they are sent to. A message that is larger than the whole limit
    /// goes when nothing else is counted: it would never go otherwise.
    ///
    /// # Errors
    /// The time at which there is room, if there is none now.
    pub fn take(&mut self, recipients: u64, now: UnixMillis) -> Result<(), UnixMillis> {
        let used = self.used(now);
        if used == 0 || used + recipients <= self.limit {
            self.add(now, recipients);
            return Ok(());
        }
        let mut left = used;
        for (start, counted) in &self.steps {
            left -= counted;
            if left == 0 || left + recipients <= self.limit {
                return Err(*start + WINDOW);
            }
        }
        Err(now + STEP)
    }

    /// Recipients that were counted and not sent to after all.
    pub fn give_back(&mut self, recipients: u64) {
        let mut left = recipients;
        for (_, counted) in self.steps.iter_mut().rev() {
            let here = left.min(*counted);
            *counted -= here;
            self.used -= here;
            left -= here;
        }
    }

    /// What was counted by a clock that was ahead would be forgotten late: by as much as that was, a
    /// day after it was set back.
    fn count_future_as_now(&mut self, now: UnixMillis) {
        let mut ahead = 0;
        while let Some((start, recipients)) = self.steps.back()
            && *start > now
        {
            ahead += recipients;
            self.steps.pop_back();
        }
        if ahead > 0 {
            self.used -= ahead;
            self.add(now, ahead);
        }
    }

    fn add(&mut self, time: UnixMillis, recipients: u64) {
        let step = i64::try_from(STEP.as_millis()).unwrap_or(i64::MAX);
        let start = UnixMillis(time.0 - time.0.rem_euclid(step));
        self.used += recipients;
        match self.steps.back_mut() {
            // A clock that steps back counts into the last step, so that the order holds.
            Some((last, counted)) if start <= *last => *counted += recipients,
            _ => self.steps.push_back((start, recipients)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: UnixMillis = UnixMillis(1_795_415_040_000);

    fn at(minutes: u64) -> UnixMillis {
        START + Duration::from_secs(minutes * 60)
    }

    #[test]
    fn recipients_over_the_limit_wait_until_as_many_are_a_day_old() {
        let mut quota = Quota::new(10, []);
        assert_eq!(quota.take(4, at(0)), Ok(()));
        assert_eq!(quota.take(4, at(10)), Ok(()));
        assert_eq!(quota.take(3, at(20)), Err(at(24 * 60)));
        assert_eq!(quota.take(7, at(20)), Err(at(24 * 60 + 10)));
        assert_eq!(quota.take(2, at(20)), Ok(()));
        assert_eq!(quota.take(3, at(24 * 60)), Ok(()));
    }

    #[test]
    fn the_count_starts_from_the_history() {
        let mut quota = Quota::new(10, [(at(0), 6), (at(60), 4)]);
        assert_eq!(quota.take(1, at(70)), Err(at(24 * 60)));
        assert_eq!(quota.used(at(24 * 60 + 1)), 4);
    }

    #[test]
    fn what_was_not_sent_is_not_counted() {
        let mut quota = Quota::new(10, [(at(0), 5)]);
        quota.take(5, at(1)).unwrap();
        quota.give_back(5);
        assert_eq!(quota.used(at(1)), 5);
        quota.give_back(100);
        assert_eq!(quota.used(at(1)), 0);
    }

    #[test]
    fn recipients_counted_by_a_clock_that_was_ahead_are_forgotten_after_a_day_all_the_same() {
        for ahead in [2 * 60, 73 * 365 * 24 * 60] {
            let mut quota = Quota::new(10, [(at(ahead), 3)]);
            assert_eq!(quota.take(3, at(ahead + 1)), Ok(()));
            // From here on the clock is right.
            assert_eq!(quota.take(4, at(0)), Ok(()), "{ahead}");
            assert_eq!(quota.take(1, at(10)), Err(at(24 * 60)));
            assert_eq!(quota.used(at(24 * 60 - 1)), 10);
            assert_eq!(quota.take(10, at(24 * 60)), Ok(()));
        }
    }

    #[test]
    fn a_clock_that_is_set_back_forgets_no_recipient() {
        let mut quota = Quota::new(10, [(at(0), 2), (at(5), 1), (at(30), 3), (at(40), 1)]);
        assert_eq!(quota.used(at(20)), 7);
        assert_eq!(quota.take(3, at(21)), Ok(()));
        assert_eq!(quota.used(at(24 * 60 + 5)), 7);
        assert_eq!(quota.used(at(24 * 60 + 20)), 3);
        assert_eq!(quota.used(at(24 * 60 + 21)), 0);
    }

    #[test]
    fn a_message_larger_than_the_limit_still_goes_once() {
        let mut quota = Quota::new(10, []);
        assert_eq!(quota.take(50, at(0)), Ok(()));
        assert_eq!(quota.take(1, at(1)), Err(at(24 * 60)));
    }
}
