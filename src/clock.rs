//! The present time.

use std::time::SystemTime;

use jiff::Timestamp;

/// Now. `jiff` has no time after the year 9999, and its own `now` panics where a clock is set to one.
pub(crate) fn now() -> Timestamp {
    nearest(SystemTime::now())
}

fn nearest(time: SystemTime) -> Timestamp {
    let beyond = if time < SystemTime::UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::try_from(time).unwrap_or(beyond)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_that_is_far_off_is_at_the_end_of_time() {
        let epoch = SystemTime::UNIX_EPOCH;
        let secs = Duration::from_secs;
        assert_eq!(nearest(epoch + secs(7)), Timestamp::from_second(7).unwrap());
        for far in [253_402_300_799, 99_999_999_999_999] {
            assert_eq!(nearest(epoch + secs(far)), Timestamp::MAX);
            assert_eq!(nearest(epoch - secs(2 * far)), Timestamp::MIN);
        }
        // Which is a time as any other.
        assert!(
            Timestamp::MAX.to_string().starts_with("9999-12-30T") && Timestamp::MIN.strftime("%Y%m%d").to_string().starts_with('-')
        );
    }
}
