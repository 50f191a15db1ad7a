//! Where requests may go: what leads to addresses that nobody named is refused with its reason, and nothing arrives.

use std::net::ToSocketAddrs as _;

use super::*;

/// The errors of `check` for a file whose endpoint has this URL, and what arrived meanwhile.
fn refused(url: &str, lines: &str) -> String {
    let sending = Sending::prepare([Endpoint::new("crm", url, &secret(1), "json").with(lines)]);
    let (code, out, err) = sending.rowbridge(&["check"]);
    assert_ne!(code, 0, "{url} passed: {out}{err}");
    out + &err
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_are_refused_in_every_disguise() {
    for (url, reason) in [
        // Literals of metadata services, also as IPv6 and in decimal, hexadecimal and octal.
        ("http://169.254.169.254/latest", "metadata"),
        ("http://[::ffff:169.254.169.254]/latest", "metadata"),
        ("http://[::ffff:a9fe:a9fe]/latest", "metadata"),
        ("http://2852039166/latest", "metadata"),
        ("http://0xa9fea9fe/latest", "metadata"),
        ("http://0251.0376.0251.0376/latest", "metadata"),
        ("https://metadata.google.internal/computeMetadata", "metadata"),
        // In the clear.
        ("http://192.0.2.1/", "https"),
        ("http://example.com/", "https"),
        // Not a host, or more than one thing.
        ("https://user:password@example.com/", "no user and no password"),
        ("ftp://example.com/", "https"),
        ("https://{{ after.status }}.example.com/", "scheme, host and port"),
        ("{{ after.status }}://example.com/", "scheme, host and port"),
        ("https://example.com:{{ after.id }}/", "scheme, host and port"),
        ("https://example.com{{ after.status }}/", "scheme, host and port"),
    ] {
        let told = refused(url, "");
        assert!(told.contains("endpoint.url") && told.contains(reason), "{url}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_inside_is_refused_when_it_is_dialled() {
    // The machine's own name leads to itself on most machines, and is not `localhost`.
    let name = std::fs::read_to_string("/etc/hostname").unwrap_or_default().trim().to_owned();
    let addresses = (name.as_str(), 443).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
    if !addresses.is_ok_and(|all| !all.is_empty() && all.iter().all(|address| address.ip().is_loopback())) {
        eprintln!(
            "skipped: {name:?} does not lead to this machine here; the client's own tests resolve by themselves"
        );
        return;
    }
    let receiver = Receiver::accepting();
    let inside = format!("https://{name}:{}/", receiver.port());
    let sending = Sending::start([
        Endpoint::new("inside", &inside, &secret(1), "json").with("retry = [\"10ms\"]"),
        endpoint("literal", &receiver, "json"),
    ])
    .await;
    sending.insert(1..=1);
    receiver.wait_for_requests(1, DEADLINE).await;
    let until = tokio::time::Instant::now() + DEADLINE;
    let attempt = loop {
        let (_, out, _) = sending.rowbridge(&["attempts", "--endpoint", "inside", "--json"]);
        if let Some(line) = out.lines().next() {
            break line.to_owned();
        }
        assert!(tokio::time::Instant::now() < until, "no attempt was recorded");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let attempt: Value = serde_json::from_str(&attempt).unwrap();
    assert_eq!(attempt["error_class"], "address", "{attempt}");
    assert!(attempt["error"].as_str().unwrap().contains("endpoint.allow_networks"), "{attempt}");
    assert_eq!(receiver.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_cannot_lead_a_request_elsewhere() {
    let receiver = Receiver::accepting();
    let url = receiver.url("/in/{{ after.status }}/x?q={{ after.status }}");
    let sending =
        Sending::start([Endpoint::new("crm", &url, &secret(1), "json")
            .with("headers = { X-Status = \"{{ after.total }}\" }")])
        .await;
    let values = [
        "@evil.example",
        "//evil.example/",
        "http://evil.example",
        "../../admin",
        "..%2f..%2fadmin",
        "a?b#c",
        "\\\\evil",
        "a\r\nHost: evil.example",
    ];
    for (id, value) in values.iter().enumerate() {
        sending.source.execute(&format!("INSERT INTO orders VALUES ({id}, '{value}', 1)"));
    }
    // What would lead out of its place in the path, or end the header.
    sending.source.execute("INSERT INTO orders VALUES (100, '..', 1), (101, '.', 1)");
    sending.source.execute("INSERT INTO orders VALUES (102, 'x', 'a' || char(13, 10) || 'x-evil: 1')");
    sending.source.execute("INSERT INTO orders VALUES (200, 'last', 1)");
    let requests = receiver.wait_for_requests(values.len() + 1, DEADLINE).await;
    for (request, value) in requests.iter().zip(values) {
        let coded: String = value
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    char::from(byte).to_string()
                }
                _ => format!("%{byte:02X}"),
            })
            .collect();
        assert_eq!(request.path, format!("/in/{coded}/x?q={coded}"));
        let host = format!("127.0.0.1:{}", receiver.port());
        assert_eq!(request.header("host"), Some(host.as_str()));
    }
    assert_eq!(requests.last().unwrap().path, "/in/last/x?q=last");
    let (_, out, _) = sending.rowbridge(&["dead-letter", "list", "--json"]);
    let reasons: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(reasons.len(), 3, "{out}");
    assert!(reasons.iter().all(|letter| letter["error_class"] == "template"), "{out}");
}
