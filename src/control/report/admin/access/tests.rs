//! Tokens and hosts, right and wrong.

use super::*;

const READER: &str = "reader-0123456789abcdef";
const WRITER: &str = "writer-0123456789abcdef";

fn rules(http: &str, hosts: &[&str]) -> Rules {
    let token = |name: &str, secret: &str, role| config::Token {
        name: name.to_owned(),
        secret: Secret::Text(secret.to_owned()),
        role,
    };
    Rules::read(&config::Admin {
        http: Some(http.parse().unwrap()),
        tokens: vec![token("r", READER, TokenRole::Read), token("w", WRITER, TokenRole::Write)],
        allow_hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
        ..config::Admin::default()
    })
    .unwrap()
}

/// The caller, or the status and the reason of the refusal.
fn judge(
    rules: &Rules,
    version: Version,
    uri: &str,
    headers: &[(HeaderName, &str)],
) -> Result<Caller, (u16, String)> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name.clone(), HeaderValue::from_str(value).unwrap());
    }
    let uri: Uri = uri.parse().unwrap();
    let head = RequestHead { version, uri: &uri, headers: &map };
    let from = ([192, 0, 2, 7], 5000).into();
    rules.judge(from, &head).map_err(|denial| (denial.status.as_u16(), denial.why))
}

#[test]
fn a_token_is_taken_from_one_header_only_and_compared_as_a_whole() {
    let rules = rules("127.0.0.1:9000", &[]);
    let bearer = |token: &str| format!("Bearer {token}");
    let ask = |uri: &str, values: &[&str]| {
        let mut headers = vec![(HOST, "localhost")];
        headers.extend(values.iter().map(|value| (AUTHORIZATION, *value)));
        judge(&rules, Version::HTTP_11, uri, &headers)
    };
    for (value, role) in [
        (bearer(READER), TokenRole::Read),
        (bearer(WRITER), TokenRole::Write),
        (format!("bearer {READER}"), TokenRole::Read),
        (format!("BEARER   {WRITER} "), TokenRole::Write),
    ] {
        assert_eq!(ask("/status", &[&value]).unwrap().role, role, "{value}");
    }
    let caller = ask("/status", &[&bearer(WRITER)]).unwrap();
    assert_eq!(caller.to_string(), "token \"w\" from 192.0.2.7");
    for (values, why) in [
        (vec![], "needs a token"),
        (vec![bearer("")], "has no token"),
        (vec![WRITER.to_owned()], "has no token"),
        (vec![format!("Basic {WRITER}")], "has no token"),
        (vec![bearer(&WRITER.to_uppercase())], "is wrong"),
        (vec![bearer(&WRITER[1..])], "is wrong"),
        (vec![bearer(&format!("{WRITER}x"))], "is wrong"),
        (vec![bearer(&format!("{WRITER} {WRITER}"))], "is wrong"),
        (vec![bearer(WRITER), bearer(WRITER)], "more than one"),
        (vec![bearer("wrong"), bearer(WRITER)], "more than one"),
    ] {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let (status, said) = ask("/status", &values).unwrap_err();
        assert!(status == 401 && said.contains(why), "{values:?}: {status} {said}");
        assert!(!said.contains(WRITER), "{said}");
    }
    for uri in [format!("/status?token={WRITER}"), format!("/status?access_token={WRITER}")] {
        assert_eq!(ask(&uri, &[]).unwrap_err().0, 401, "{uri}");
    }
    assert!(!format!("{rules:?}").contains(WRITER));
}

#[test]
fn only_names_of_this_address_are_hosts() {
    let ours = |http, hosts: &[&str], host| rules(http, hosts).is_ours(host);
    let names = ["lb1.example.org", "192.0.2.1"];
    for (http, host, expected) in [
        ("127.0.0.1:9000", "127.0.0.1", true),
        ("127.0.0.1:9000", "127.0.0.1:9000", true),
        ("127.0.0.1:9000", "127.0.0.1:", true),
        ("127.0.0.1:9000", "LocalHost:1234", true),
        ("127.0.0.1:9000", "localhost.", true),
        ("127.0.0.1:9000", "LB1.example.org.:80", true),
        ("127.0.0.1:9000", "192.0.2.1", true),
        ("127.0.0.1:9000", "10.0.0.1", false),
        ("127.0.0.1:9000", "evil.example", false),
        ("127.0.0.1:9000", "127.0.0.1.evil.example", false),
        ("127.0.0.1:9000", "localhost.evil.example", false),
        ("127.0.0.1:9000", "lb1.example.org.evil", false),
        ("127.0.0.1:9000", "127.0.0.1:90:00", false),
        ("127.0.0.1:9000", "localhost:80@evil", false),
        ("127.0.0.1:9000", "", false),
        ("0.0.0.0:9000", "10.0.0.1:9000", true),
        ("0.0.0.0:9000", "[2001:db8::1]:9000", true),
        ("0.0.0.0:9000", "evil.example", false),
        ("[::1]:9000", "[::1]", true),
        ("[::1]:9000", "[0:0::1]:9000", true),
        ("[::1]:9000", "[::1", false),
        ("[::1]:9000", "[::2]", false),
        ("[::1]:9000", "[localhost]", false),
    ] {
        assert_eq!(ours(http, &names, host), expected, "{host} on {http}");
    }
}

#[test]
fn a_host_is_there_once_and_is_checked_before_the_token() {
    let rules = rules("127.0.0.1:9000", &[]);
    let token = format!("Bearer {READER}");
    let ask = |version, uri: &str, hosts: &[&str]| {
        let mut headers = vec![(AUTHORIZATION, token.as_str())];
        headers.extend(hosts.iter().map(|host| (HOST, *host)));
        judge(&rules, version, uri, &headers).map_err(|(status, _)| status)
    };
    let (old, new) = (Version::HTTP_10, Version::HTTP_11);
    assert!(ask(old, "/status", &[]).is_ok());
    assert!(ask(new, "/status", &["127.0.0.1"]).is_ok());
    assert!(ask(new, "http://localhost/status", &["127.0.0.1"]).is_ok());
    for (version, uri, hosts, status) in [
        (new, "/status", &[][..], 400),
        (new, "/status", &["localhost", "localhost"], 400),
        (new, "/status", &["evil.example"], 403),
        (old, "/status", &["evil.example"], 403),
        (new, "http://evil.example/status", &["localhost"], 403),
        (new, "http://localhost/status", &["evil.example"], 403),
    ] {
        assert_eq!(ask(version, uri, hosts).unwrap_err(), status, "{uri} {hosts:?}");
    }
    let (status, _) = judge(&rules, new, "/status", &[(HOST, "evil.example")]).unwrap_err();
    assert_eq!(status, 403);
}

#[test]
fn without_tokens_the_answer_names_the_key() {
    let rules = Rules::default();
    let (status, why) = judge(&rules, Version::HTTP_10, "/metrics", &[]).unwrap_err();
    assert!(status == 401 && why.contains("admin.tokens in [global]"), "{why}");
}

#[test]
fn a_token_file_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let read = |secret| {
        let token = config::Token { name: "a".to_owned(), secret, role: TokenRole::Read };
        Rules::read(&config::Admin { tokens: vec![token], ..config::Admin::default() })
    };
    let file = || Secret::File(path.clone());
    let missing = read(file()).unwrap_err();
    assert!(missing.contains("token \"a\": cannot read it from /"), "{missing}");
    std::fs::write(&path, "short\n").unwrap();
    assert!(read(file()).unwrap_err().contains("it must have 16 to 1024 characters"));
    std::fs::write(&path, format!("{READER}\nsecond line\n")).unwrap();
    assert!(read(file()).unwrap().find(READER).is_some());
    assert!(read(Secret::File(dir.path().to_owned())).unwrap_err().contains("regular file"));
    let unset = read(Secret::Variable("RINGLANE_NO_SUCH_VARIABLE".to_owned())).unwrap_err();
    assert!(unset.contains("RINGLANE_NO_SUCH_VARIABLE"), "{unset}");
}

#[test]
fn refusals_are_one_line_in_ten_seconds_with_their_count() {
    let (access, start) = (Access::default(), Instant::now());
    let denial = Denial::unauthorized("no");
    let complain = |seconds| {
        access.complain(([192, 0, 2, 7], 1).into(), &denial, start + Duration::from_secs(seconds));
        access.complaints.lock().unwrap().count
    };
    assert_eq!([0, 1, 9, 10, 11].map(complain), [0, 1, 2, 0, 1]);
}
