//! The `Date` of a response: unix seconds as an IMF-fixdate. It must not know what time it is: the caller does.

/// A point in time as RFC 9110 section 5.6.7 writes it, such as `Sun, 06 Nov 1994 08:49:37 GMT`: 29 ASCII bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpDate([u8; HttpDate::LENGTH]);

const WEEKDAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
/// The last second of the year 9999: the format has four digits for the year.
const LAST: u64 = 253_402_300_799;

impl HttpDate {
    /// Bytes of every date.
    pub const LENGTH: usize = 29;

    /// The date of `seconds` since 1970-01-01T00:00:00Z, leap seconds not counted. Past the year 9999 it stays at that
    /// year's last second.
    #[must_use]
    pub fn from_unix(seconds: u64) -> Self {
        let seconds = seconds.min(LAST);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
        text[..3].copy_from_slice(WEEKDAYS[(days % 7) as usize]);
        two_digits(&mut text[5..7], day);
        text[8..11].copy_from_slice(MONTHS[month]);
        two_digits(&mut text[12..14], year / 100);
        two_digits(&mut text[14..16], year % 100);
        two_digits(&mut text[17..19], second / 3600);
        two_digits(&mut text[20..22], second / 60 % 60);
        two_digits(&mut text[23..25], second % 60);
        Self(text)
    }

    /// The 29 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Year, month (0 = January) and day (1 = first) of the Gregorian calendar, `days` after 1970-01-01.
fn civil(days: u64) -> (u64, usize, u64) {
    // Years are counted from March, so that the leap day is the last of its year and a month's start depends on its
    // number alone; and in eras of 400 years, which all have 146,097 days. 719,468 days lie between 1 March of the
    // year 0 and 1970.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    // Each correction takes out the leap days (and puts back the missing ones) that lie before the day, so that the
    // division by 365 is exact.
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // The months from March have 31, 30, 31, 30, 31 days, over and over: 153 days in five months.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let next_year = u64::from(month_from_march >= 10);
    let month = ((month_from_march + 2) % 12) as usize;
    (400 * era + year_of_era + next_year, month, day)
}

fn two_digits(out: &mut [u8], number: u64) {
    out[0] = b'0' + (number / 10 % 10) as u8;
    out[1] = b'0' + (number % 10) as u8;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(seconds: u64) -> String {
        String::from_utf8(HttpDate::from_unix(seconds).as_bytes().to_vec()).unwrap()
    }

    /// Reads a date back by counting year after year and month after month.
    fn naive_unix(text: &str) -> u64 {
        let leap =
            |year: u64| (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
        let number = |range: std::ops::Range<usize>| text[range].parse::<u64>().unwrap();
        let year = number(12..16);
        let month = MONTHS.iter().position(|name| *name == &text.as_bytes()[8..11]).unwrap();
        let mut days: u64 = (1970..year).map(|y| 365 + u64::from(leap(y))).sum();
        let february = 28 + u64::from(leap(year));
        let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        days += lengths[..month].iter().sum::<u64>();
        let day = number(5..7);
        assert!((1..=lengths[month]).contains(&day), "{text}");
        days += day - 1;
        let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
        assert_eq!(&text[..3], weekday, "{text}");
        days * 86_400 + number(17..19) * 3600 + number(20..22) * 60 + number(23..25)
    }

    #[test]
    fn known_dates() {
        for (seconds, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT"),
            (1_000_000_000, "Sun, 09 Sep 2001 01:46:40 GMT"),
            (1_709_164_800, "Thu, 29 Feb 2024 00:00:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (2_147_483_648, "Tue, 19 Jan 2038 03:14:08 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (LAST, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (LAST + 1, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(text(seconds), expected);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "there are 146,097")]
    fn every_day_of_four_centuries() {
        for day in 0..146_097 {
            assert_eq!(naive_unix(&text(day * 86_400)), day * 86_400);
        }
    }

    proptest! {
        #[test]
        fn round_trip(seconds in 0..=LAST) {
            prop_assert_eq!(naive_unix(&text(seconds)), seconds);
        }
    }
}
