//! A day of the Gregorian calendar, from 0001-01-01 to 9999-12-31. It knows neither JSON nor who was born.
//!
//! The calendar is proleptic, as Postgres' is: the leap-year rule of 1582 holds for every year before it too.

/// A real calendar date of the years 0001 to 9999; ordered by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BirthDate {
    year: u16,
    month: u8,
    day: u8,
}

/// The text is not ten ASCII characters `AAAA-MM-DD`, or no such day exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a real calendar date as AAAA-MM-DD, year 0001 to 9999")]
pub struct NotADate;

const YEAR_MAX: i32 = 9999;
/// Days from 0001-01-01 to 2000-01-01, the day Postgres counts from.
const DAYS_TO_2000: i32 = days_before_year(2000);
/// Days from 0001-01-01 to 9999-12-31, both included.
const DAYS_ALL: i32 = days_before_year(YEAR_MAX + 1);
/// Days of 400 years, after which the calendar repeats.
const DAYS_PER_CYCLE: i32 = days_before_year(401);
/// Days of a common year before the first of each month.
const DAYS_BEFORE_MONTH: [i32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

impl BirthDate {
    /// Reads exactly ten ASCII characters `AAAA-MM-DD` that name a real day of the years 0001 to 9999.
    pub fn parse(text: &[u8]) -> Result<BirthDate, NotADate> {
        let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else {
            return Err(NotADate);
        };
        let digits = [y1, y2, y3, y4, m1, m2, d1, d2];
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(NotADate);
        }
        let [y1, y2, y3, y4, m1, m2, d1, d2] = digits.map(|digit| digit - b'0');
        let pair = |tens: u8, ones: u8| tens * 10 + ones;
        let year = u16::from(pair(y1, y2)) * 100 + u16::from(pair(y3, y4));
        let (month, day) = (pair(m1, m2), pair(d1, d2));
        if year == 0 || day == 0 || day > days_in_month(year, month) {
            return Err(NotADate);
        }
        Ok(BirthDate { year, month, day })
    }

    /// Days since 2000-01-01, negative before it: Postgres' `date` on the wire.
    pub fn days_since_2000(self) -> i32 {
        let month = usize::from(self.month) - 1;
        let leap_day = i32::from(self.month > 2 && is_leap(self.year));
        days_before_year(i32::from(self.year)) + DAYS_BEFORE_MONTH[month] + leap_day + i32::from(self.day)
            - 1
            - DAYS_TO_2000
    }

    /// The day that lies `days` days after 2000-01-01; `None` outside the years 0001 to 9999, because Postgres has more
    /// dates, and `infinity`.
    pub fn from_days_since_2000(days: i32) -> Option<BirthDate> {
        let days = days.checked_add(DAYS_TO_2000).filter(|days| (0..DAYS_ALL).contains(days))?;
        // A division by the average length of a year misses the year by one at most: leap days move the start of a year
        // by a few days only.
        let mut year = days * 400 / DAYS_PER_CYCLE + 1;
        if days_before_year(year) > days {
            year -= 1;
        } else if days_before_year(year + 1) <= days {
            year += 1;
        }
        let year_day = days - days_before_year(year);
        let year = u16::try_from(year).ok()?;
        let leap_day = i32::from(is_leap(year));
        let first_of = |month: usize| DAYS_BEFORE_MONTH[month] + if month > 1 { leap_day } else { 0 };
        let month = (0..12).rfind(|&month| first_of(month) <= year_day)?;
        Some(BirthDate {
            year,
            month: u8::try_from(month + 1).ok()?,
            day: u8::try_from(year_day - first_of(month) + 1).ok()?,
        })
    }

    /// Appends the ten characters `AAAA-MM-DD`.
    pub fn write(self, out: &mut Vec<u8>) {
        let digit = |number: u16| b"0123456789"[usize::from(number % 10)];
        let (year, month, day) = (self.year, u16::from(self.month), u16::from(self.day));
        out.extend_from_slice(&[
            digit(year / 1000),
            digit(year / 100),
            digit(year / 10),
            digit(year),
            b'-',
            digit(month / 10),
            digit(month),
            b'-',
            digit(day / 10),
            digit(day),
        ]);
    }
}

/// Days from 0001-01-01 to the first day of `year`.
const fn days_before_year(year: i32) -> i32 {
    let past = year - 1;
    past * 365 + past / 4 - past / 100 + past / 400
}

fn is_leap(year: u16) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Zero for a month that does not exist, so that no day fits it.
fn days_in_month(year: u16, month: u8) -> u8 {
    match month {
        2 => 28 + u8::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts through the whole calendar a day at a time and compares every conversion at every step.
    #[test]
    #[cfg_attr(miri, ignore = "there are 3,652,059")]
    fn every_day_of_the_calendar() {
        let mut days = -730_119;
        let mut written = Vec::new();
        for year in 1..=9999_u16 {
            let february = if year % 400 == 0 || (year % 4 == 0 && year % 100 != 0) { 29 } else { 28 };
            let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            for (month, length) in (1..=12_u8).zip(lengths) {
                for day in 1..=length {
                    let date = BirthDate { year, month, day };
                    assert_eq!(BirthDate::from_days_since_2000(days), Some(date));
                    assert_eq!(date.days_since_2000(), days);
                    written.clear();
                    date.write(&mut written);
                    assert_eq!(BirthDate::parse(&written), Ok(date));
                    days += 1;
                }
                // The days after the last one are no days of this month.
                for day in length + 1..=32 {
                    let text = format!("{year:04}-{month:02}-{day:02}");
                    assert_eq!(BirthDate::parse(text.as_bytes()), Err(NotADate), "{text}");
                }
            }
        }
        assert_eq!(days, 2_921_940, "9999-12-31 is day 2921939 in Postgres");
        assert_eq!(BirthDate::from_days_since_2000(days), None);
    }

    #[test]
    fn days_outside_the_calendar() {
        // Postgres sends `infinity` and `-infinity` as the two extremes.
        for days in [i32::MIN, i32::MIN + 1, -730_120, 2_921_940, i32::MAX - 730_119, i32::MAX] {
            assert_eq!(BirthDate::from_days_since_2000(days), None, "{days}");
        }
    }

    #[test]
    fn known_days() {
        for (text, days) in [
            ("0001-01-01", -730_119),
            ("1970-01-01", -10_957),
            ("1999-12-31", -1),
            ("2000-01-01", 0),
            ("2000-02-29", 59),
            ("2000-03-01", 60),
            ("2100-03-01", 36_584),
            ("9999-12-31", 2_921_939),
        ] {
            let date = BirthDate::parse(text.as_bytes()).unwrap();
            assert_eq!(date.days_since_2000(), days, "{text}");
            let mut written = b">".to_vec();
            date.write(&mut written);
            assert_eq!(written, format!(">{text}").as_bytes());
        }
    }

    #[test]
    fn texts_that_are_no_date() {
        for text in [
            "",
            "2000",
            "2000-1-1",
            "2000-01-1",
            "2000-01-011",
            " 2000-01-01",
            "2000-01-01 ",
            "2000/01/01",
            "20000101",
            "01-01-2000",
            "+200-01-01",
            "-200-01-01",
            "2000-+1-01",
            "2000-01--1",
            "0000-01-01",
            "2000-00-01",
            "2000-13-01",
            "2000-99-01",
            "2000-01-00",
            "2000-01-32",
            "2000-04-31",
            "2001-02-29",
            "1900-02-29",
            "2100-02-29",
            "infinity",
            "-infinity",
            "epoch",
            "today",
            "2000-01-0a",
            "2000-01-0\u{0}",
            "２０００-01-01",
            "2000-01-0١",
            "2000\u{2d}01\u{2010}",
            "12000-01-01",
            "2000-01-01T00:00:00",
            "aaaa-bb-cc",
        ] {
            assert_eq!(BirthDate::parse(text.as_bytes()), Err(NotADate), "{text}");
        }
        assert_eq!(BirthDate::parse(b"2000-01-0\xff"), Err(NotADate));
    }
}
