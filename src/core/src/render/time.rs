//! Times of day, without a C library.

/// A moment in the Gregorian calendar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Civil {
    /// Year, four digits for as long as nanoseconds in 64 bits last.
    pub year: u64,
    /// 1 to 12.
    pub month: u64,
    /// 1 to 31.
    pub day: u64,
    /// 0 to 23.
    pub hour: u64,
    /// 0 to 59.
    pub minute: u64,
    /// 0 to 59.
    pub second: u64,
    /// 0 to 999,999.
    pub micro: u64,
}

/// The moment `time_ns` nanoseconds after the epoch, `offset` seconds ahead of
/// UTC.
#[must_use]
pub fn civil(time_ns: u64, offset: i32) -> Civil {
    let seconds = (time_ns / 1_000_000_000).saturating_add_signed(i64::from(offset));
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March end with the leap day, in cycles of 400 years:
    // 719,468 days lie between 1 March of year 0 and the epoch.
    let since = days + 719_468;
    let (cycle, day) = (since / 146_097, since % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let january = month >= 10;
    Civil {
        year: cycle * 400 + year + u64::from(january),
        month: if january { month - 9 } else { month + 3 },
        day: day - (153 * month + 2) / 5 + 1,
        hour: rest / 3_600,
        minute: rest / 60 % 60,
        second: rest % 60,
        micro: time_ns / 1_000 % 1_000_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_as_calendars_do() {
        let date = |s: u64| {
            let c = civil(s * 1_000_000_000, 0);
            (c.year, c.month, c.day, c.hour, c.minute, c.second)
        };
        assert_eq!(date(0), (1970, 1, 1, 0, 0, 0));
        assert_eq!(date(951_782_400), (2000, 2, 29, 0, 0, 0));
        assert_eq!(date(951_868_799), (2000, 2, 29, 23, 59, 59));
        assert_eq!(date(4_107_542_400), (2100, 3, 1, 0, 0, 0));
        assert_eq!(date(1_798_761_599), (2026, 12, 31, 23, 59, 59));
        assert_eq!(civil(1_999, 3_600).hour, 1);
        assert_eq!(civil(1_999, 0).micro, 1);
        assert_eq!(civil(u64::MAX, 0).year, 2554);
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let mut last = civil(0, 0);
        for day in 1..146_097u64 {
            let now = civil(day * 86_400_000_000_000, 0);
            let next_day = now.day == last.day + 1 && now.month == last.month;
            let next_month = now.day == 1 && now.month == last.month + 1 && last.day >= 28;
            let next_year = (now.month, now.day) == (1, 1) && (last.month, last.day) == (12, 31);
            assert!(next_day || next_month || next_year, "{last:?} {now:?}");
            last = now;
        }
    }
}
