//! Settings that name dates to look at.

use lake::Dates;
use service::Problems;

/// Most dates of one run: a year and a day.
const MAX_DATES: u64 = 366;

/// Reads one date or a range.
pub(crate) fn resolve(
    date: Option<&str>,
    from: Option<&str>,
    to: Option<&str>,
    problems: &mut Problems,
) -> Option<Dates> {
    let (first, last, setting) = match (date, from, to) {
        (None, None, None) => return None,
        (Some(date), None, None) => (date, date, "date"),
        (None, first, last) => (first.or(last)?, last.or(first)?, "from"),
        (Some(_), ..) => {
            problems.add("date", "goes without from and to; give one date or a range");
            return None;
        }
    };
    match Dates::new(first, last) {
        Some(dates) if dates.count() <= MAX_DATES => return Some(dates),
        Some(_) => problems.add(
            setting,
            format!("{first} to {last} is too much for one run; give at most {MAX_DATES} days"),
        ),
        None => problems.add(
            setting,
            format!("{first} to {last} are no dates in order; give for example 2026-11-20"),
        ),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_one_or_a_range() {
        let of = |date: Option<&str>, from: Option<&str>, to: Option<&str>| {
            let mut problems = Problems::new();
            let dates = resolve(date, from, to, &mut problems);
            dates.ok_or_else(|| problems.to_string())
        };
        let day = Dates::new("2026-11-20", "2026-11-20").unwrap();
        assert_eq!(of(Some("2026-11-20"), None, None), Ok(day));
        assert_eq!(of(None, Some("2026-11-20"), None), Ok(day));
        assert_eq!(of(None, None, Some("2026-11-20")), Ok(day));
        let range = of(None, Some("2026-11-20"), Some("2026-11-22"));
        assert_eq!(range.unwrap().count(), 3);
        for (wrong, part) in [
            (of(Some("20.11.2026"), None, None), "2026-11-20"),
            (of(Some("2026-11-20"), None, Some("2026-11-20")), "range"),
            (of(None, Some("2026-11-20"), Some("2026-11-19")), "in order"),
            (of(None, Some("2020-11-20"), Some("2026-11-19")), "366"),
        ] {
            let problems = wrong.unwrap_err();
            assert!(problems.contains(part), "{problems}");
        }
    }
}
