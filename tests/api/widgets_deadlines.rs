//! `/widgets`: which formats of a deadline are accepted, and which deadlines have passed. Adding and editing have the same rules.

use std::sync::Arc;

use latchkey::clock::ManualClock;

use super::{
    widgets::URL,
    widgets_rules::{NOW, add_and_edit, with_a_widget_to_edit},
};

#[tokio::test]
async fn a_deadline_is_read_in_the_ways_that_people_write_dates() {
    let (server, token) = with_a_widget_to_edit(Arc::new(ManualClock::at(NOW))).await;
    let end_of_day = "2027-05-13T23:59:59Z";
    let good = [
        // Today is accepted in every format. Without a time, the deadline is the end of the day.
        ("2027-05-13", end_of_day),
        ("05/13/2027", end_of_day),
        ("5/13/2027", end_of_day),
        ("05/13/27", end_of_day),
        ("May 13 2027", end_of_day),
        ("13 May 2027", end_of_day),
        ("May 13, 2027", end_of_day),
        ("may 13 2027", end_of_day),
        ("MAY 13, 2027", end_of_day),
        (" 2027-05-13 ", end_of_day),
        ("September 1 2027", "2027-09-01T23:59:59Z"),
        ("September 1, 2027", "2027-09-01T23:59:59Z"),
        ("01 September 2027", "2027-09-01T23:59:59Z"),
        ("Sep 01 2027", "2027-09-01T23:59:59Z"),
        ("1 Sep 2027", "2027-09-01T23:59:59Z"),
        ("01/02/28", "2028-01-02T23:59:59Z"),
        ("02/29/2028", "2028-02-29T23:59:59Z"),
        ("12/31/99", "2099-12-31T23:59:59Z"),
        // The format of the server's own responses.
        ("05/13/27 06:30:07 PM UTC", "2027-05-13T18:30:07Z"),
        ("12/31/99 11:59:59 PM UTC", "2099-12-31T23:59:59Z"),
        ("9999-12-31", "9999-12-31T23:59:59Z"),
        ("12/31/9999", "9999-12-31T23:59:59Z"),
        // The comparison ignores the time of day. The time is 12:34:56 now.
        ("2027-05-13T00:00:00Z", "2027-05-13T00:00:00Z"),
        ("2027-05-13T12:34:56Z", "2027-05-13T12:34:56Z"),
        ("2027-05-13T18:30:00.987654321Z", "2027-05-13T18:30:00Z"),
        ("2027-06-01T12:00:00+02:00", "2027-06-01T10:00:00Z"),
        // The comparison uses the date in UTC.
        ("2027-05-12T23:30:00-01:00", "2027-05-13T00:30:00Z"),
        ("2027-05-12T00:01:00-23:59", "2027-05-13T00:00:00Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
        ("9999-12-31T23:59:59+23:59", "9999-12-31T00:00:59Z"),
    ];
    for (deadline, stored) in good {
        let answer = add_and_edit(&server, &token, URL, deadline).await;
        assert_eq!(answer.status, 201, "{deadline:?}: {}", answer.text);
        let widget = server.get("/widgets/edited").bearer(&token).send().await.json();
        assert_eq!(widget["deadline_iso8601"], stored, "{deadline:?}");
    }
    for month in 1..=12_u8 {
        let month = time::Month::try_from(month).unwrap().to_string();
        for name in [month.as_str(), &month[..3]] {
            for deadline in [format!("{name} 7 2030"), format!("7 {name} 2030"), format!("{name} 7, 2030")] {
                assert_eq!(add_and_edit(&server, &token, URL, &deadline).await.status, 201, "{deadline:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_deadline_before_today_is_refused_and_both_dates_are_named() {
    let (server, token) = with_a_widget_to_edit(Arc::new(ManualClock::at(NOW))).await;
    let past = [
        ("2027-05-12", "2027-05-12"),
        ("05/12/2027", "2027-05-12"),
        ("05/12/27", "2027-05-12"),
        ("May 12 2027", "2027-05-12"),
        ("12 May 2027", "2027-05-12"),
        ("May 12, 2027", "2027-05-12"),
        ("2027-05-12T23:59:59Z", "2027-05-12"),
        // The date is today in its own time zone, but yesterday in UTC.
        ("2027-05-13T00:30:00+01:00", "2027-05-12"),
        ("1999-12-31", "1999-12-31"),
        ("0001-01-01", "0001-01-01"),
    ];
    for (deadline, date) in past {
        let answer = add_and_edit(&server, &token, URL, deadline).await;
        let why = format!("must be today or later: {date} is before 2027-05-13 (today, UTC)");
        assert_eq!((answer.status.as_u16(), answer.error("deadline")), (400, why), "{deadline:?}");
    }
}

#[tokio::test]
async fn today_ends_at_midnight_utc() {
    let clock = Arc::new(ManualClock::at(NOW));
    let (server, _) = with_a_widget_to_edit(Arc::clone(&clock)).await;
    clock.advance(11 * 3600 + 25 * 60 + 3); // 2027-05-13T23:59:59Z
    let token = server.admin().await;
    assert_eq!(add_and_edit(&server, &token, URL, "2027-05-13").await.status, 201);
    clock.advance(1);
    let why = "must be today or later: 2027-05-13 is before 2027-05-14 (today, UTC)";
    assert_eq!(add_and_edit(&server, &token, URL, "2027-05-13").await.error("deadline"), why);
}

#[tokio::test]
async fn what_is_no_date_is_refused_and_the_formats_are_named() {
    let (server, token) = with_a_widget_to_edit(Arc::new(ManualClock::at(NOW))).await;
    for deadline in [
        "",
        " ",
        "tomorrow",
        "02/30/2027",
        "02/29/2027",
        "13/13/2027",
        "31/12/2027",
        "2027-13-01",
        "2027-02-30",
        "2027-00-10",
        "2027-05-00",
        "05/13",
        "05/13/027",
        "05/13/+7",
        "05/13/ 7",
        "2027",
        "20270513",
        "13.05.2027",
        "May 2027",
        "May 32 2027",
        "Foo 13 2027",
        "2027-05-13T18:30:00",
        "2027-05-13T25:00:00Z",
        "2027-05-13T18:30:00+24:00",
        "2027-05-13T18:30:00Zjunk",
        "2027-05-13 and more",
        "10000-01-01",
        "+10000-01-01",
        "99999-12-31T00:00:00Z",
        "9999-12-31T23:59:59-23:59",
        "1810211696",
        "２０２７-05-13",
        "2027-05-13\0",
    ] {
        let answer = add_and_edit(&server, &token, URL, deadline).await;
        let why = answer.error("deadline");
        assert_eq!(answer.status, 400, "{deadline:?}");
        assert!(why.starts_with("could not be read as a date"), "{deadline:?}: {}", answer.text);
        for format in
            ["2027-05-13,", "(RFC 3339)", "05/13/2027", "05/13/27", "May 13 2027", "May 13, 2027", "13 May 2027"]
        {
            assert!(why.contains(format), "{format}: {why}");
        }
    }
}
