//! Answers as they were seen of the engine and of proxies: status, headers, body, and what is made of them.

use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::{Answer, EXCEPTION_CODE, QUERY_ID, SUMMARY};
use crate::verdict::{InsertError, SingleRow, Verdict};

const PAGE: &str = "<html><head><title>Sign in</title></head></html>";
const OURS: (&str, &str) = (QUERY_ID, "mine");

/// Name and value.
type Header<'a> = (&'a str, &'a str);

fn answer(status: u16, headers: &[Header<'_>], body: &str) -> Answer {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let status = StatusCode::from_u16(status).unwrap();
    Answer::new(status, &map, body.as_bytes().to_vec(), SystemTime::UNIX_EPOCH)
}

/// Of the insert `mine` of 3 rows.
fn judged(status: u16, headers: &[Header<'_>], body: &str) -> Result<(), InsertError> {
    answer(status, headers, body).acknowledges("mine", 3)
}

#[test]
fn only_an_answer_with_the_query_id_and_the_rows_acknowledges_an_insert() {
    let summary = |rows: &'static str| (SUMMARY, rows);
    let written = summary(r#"{"read_rows":"3","read_bytes":"24","written_rows":"3","written_bytes":"24"}"#);
    assert_eq!(judged(200, &[OURS, written], ""), Ok(()));
    // with the rows of a materialized view
    assert_eq!(judged(200, &[OURS, summary(r#"{"written_rows":"6"}"#)], ""), Ok(()));
    let foreign: &[(u16, &[Header<'_>], &str)] = &[
        (200, &[], ""),
        (200, &[], "Ok.\n"),
        (200, &[], PAGE),
        (200, &[written], ""),
        (200, &[(QUERY_ID, "another"), written], ""),
        (200, &[OURS], ""),
        (200, &[OURS, summary("")], ""),
        (200, &[OURS, summary("{}")], ""),
        (200, &[OURS, summary(r#"{"written_rows":"-3"}"#)], ""),
        (200, &[OURS, summary(r#"{"written_rows":"0"}"#)], ""),
        (201, &[OURS, written], ""),
        (202, &[OURS, written], ""),
        (204, &[OURS, written], ""),
        (206, &[OURS, written], ""),
    ];
    for (status, headers, body) in foreign {
        let error = judged(*status, headers, body).unwrap_err();
        assert_eq!(error.verdict, Verdict::Unexpected, "{status} {headers:?} {body:?}");
        assert_eq!(error.status, Some(*status));
    }
}

/// Its token is known then: under the same one the missing rows would be dropped as known.
#[test]
fn an_insert_that_was_written_in_part_is_split() {
    for summary in [r#"{"written_rows":"2"}"#, r#"{"read_rows":"2","written_rows":"4"}"#] {
        let error = judged(200, &[OURS, (SUMMARY, summary)], "").unwrap_err();
        assert_eq!(error.verdict, Verdict::Split(SingleRow::Unexpected), "{summary}");
    }
    assert_eq!(judged(200, &[OURS, (SUMMARY, r#"{"read_rows":"0","written_rows":"3"}"#)], ""), Ok(()));
    assert_eq!(judged(200, &[OURS, (SUMMARY, r#"{"read_rows":"3","written_rows":"6"}"#)], ""), Ok(()));
}

#[test]
fn a_status_without_clickhouse_s_code_is_judged_by_itself_whatever_the_body() {
    let bodies = ["", PAGE, "413 Payload Too Large", "403 Forbidden", "Code: 469. DB::Exception: Constraint"];
    let verdicts: &[(&[u16], Verdict)] = &[
        (&[413], Verdict::Split(SingleRow::Refuse)),
        (&[414, 431], Verdict::Split(SingleRow::Unexpected)),
        (&[408, 425, 429, 500, 502, 503, 504, 507, 520, 599], Verdict::Retry),
        (&[300, 301, 302, 303, 304, 307, 308], Verdict::Unexpected),
        (&[400, 401, 402, 403, 404, 405, 407, 409, 410, 411, 415, 421, 451], Verdict::Unexpected),
        (&[203, 299, 501, 505, 511, 600, 999], Verdict::Unexpected),
    ];
    for (statuses, verdict) in verdicts {
        for status in *statuses {
            for body in bodies {
                let error = judged(*status, &[], body).unwrap_err();
                assert_eq!(error.verdict, *verdict, "{status} {body:?}");
                assert_eq!((error.status, error.code), (Some(*status), None));
            }
        }
    }
}

#[test]
fn an_exception_of_clickhouse_is_judged_by_its_code_whatever_the_status() {
    for status in [200, 400, 401, 403, 404, 413, 500, 503] {
        let of = |code, body| judged(status, &[OURS, (EXCEPTION_CODE, code)], body).unwrap_err();
        let refused = of("469", "Code: 469. DB::Exception: Constraint `c` is violated");
        assert_eq!((refused.verdict, refused.code), (Verdict::Refused, Some(469)), "{status}");
        assert!(refused.message.contains("Constraint"), "{refused}");
        assert_eq!(of("516", "").verdict, Verdict::Stop);
        assert_eq!(of("202", PAGE).verdict, Verdict::Retry);
    }
    // before a query has an id
    assert_eq!(judged(403, &[(EXCEPTION_CODE, "516")], "").unwrap_err().verdict, Verdict::Stop);
    // there are proxies that give queries ids of their own
    let other = judged(500, &[(QUERY_ID, "of a proxy"), (EXCEPTION_CODE, "241")], "").unwrap_err();
    assert_eq!(other.verdict, Verdict::Split(SingleRow::Retry));
}

#[test]
fn an_exception_behind_the_headers_of_a_success_is_no_acknowledgement() {
    let written = (SUMMARY, r#"{"written_rows":"3"}"#);
    let late = judged(200, &[OURS, written], "Code: 241. DB::Exception: Memory limit exceeded").unwrap_err();
    assert_eq!((late.verdict, late.code), (Verdict::Split(SingleRow::Retry), Some(241)));
    assert_eq!(judged(200, &[OURS, written], "__exception__").unwrap_err().verdict, Verdict::Retry);
}

#[test]
fn the_message_names_what_is_missing_and_quotes_safely() {
    let error = judged(200, &[], "<b>\u{1b}[31m\n").unwrap_err();
    for part in ["no header X-ClickHouse-Query-Id", "clickhouse.url", r#"\u{1b}[31m\n"#] {
        assert!(error.message.contains(part), "{part} in {error}");
    }
    let error = judged(302, &[("Location", "https://login.example/start?token=secret")], "").unwrap_err();
    assert!(error.message.contains("https://login.example/start") && !error.message.contains("secret"), "{error}");
}

#[test]
fn a_pause_that_is_asked_for_is_kept() {
    let error = judged(503, &[("Retry-After", "7")], "").unwrap_err();
    assert_eq!((error.verdict, error.retry_after), (Verdict::Retry, Some(Duration::from_secs(7))));
}

#[test]
fn only_an_empty_200_may_be_an_acknowledgement_without_its_headers() {
    assert!(answer(200, &[], "").may_be_acknowledgement());
    assert!(answer(200, &[(QUERY_ID, "of a proxy")], "").may_be_acknowledgement());
    for (status, headers, body) in [(200, &[][..], PAGE), (204, &[], ""), (200, &[(EXCEPTION_CODE, "1")], "")] {
        assert!(!answer(status, headers, body).may_be_acknowledgement(), "{status} {body}");
    }
}
