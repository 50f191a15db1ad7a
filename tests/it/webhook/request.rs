//! What a request looks like beyond its format: templates, headers, signatures, authentication.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rowbridge_tests::tls::{Authority, Terminator};
use rowbridge_tests::webhook::now;

use super::*;

fn template(name: &str, url: &str, body: &str) -> Endpoint {
    Endpoint::new(name, url, &secret(1), "template").with(&format!("body = '''{body}'''"))
}

fn text(request: &Received) -> String {
    String::from_utf8(request.body.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn templates_make_path_headers_and_body_of_the_row() {
    let receiver = Receiver::accepting();
    let url = receiver.url("/orders/{{ after.id }}?status={{ after.status }}&by={{ endpoint }}");
    let sending = Sending::start([template(
        "erp",
        &url,
        "{\"text\": \"{{ op }} {{ after.status }}\", \"total\": {{ after.total }}, \"key\": \"${PATH}\"}",
    )
    .with("headers = { X-Order = \"no {{ after.id }}\", x-fixed = \"a b\" }")])
    .await;
    sending.source.execute("INSERT INTO orders VALUES (7, 'a \"b\"&c/d', 19.5)");
    let request = &receiver.wait_for_requests(1, DEADLINE).await[0];
    assert_eq!(request.path, "/orders/7?status=a%20%22b%22%26c%2Fd&by=erp");
    let headers = (request.header("x-order"), request.header("x-fixed"), request.header("content-type"));
    assert_eq!(headers, (Some("no 7"), Some("a b"), Some("application/json")));
    let body = request.json();
    assert_eq!((&body["text"], &body["total"]), (&json!("insert a \"b\"&c/d"), &json!(19.5)));
    assert_eq!(body["key"], json!(std::env::var("PATH").unwrap()), "filled in from the environment");
    assert!(request.is_signed_with(&secret(1)) && request.header("webhook-id").unwrap().starts_with("shop:"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_rendered_is_set_aside_and_rendered_anew_when_it_is_retried() {
    let receiver = Receiver::accepting();
    let url = receiver.url("/in/{{ after.status }}");
    let body = "{\"id\": {{ after.id }}, \"token\": \"${PATH}\"}";
    let sending = Sending::start([template("erp", &url, body)]).await;
    sending.source.execute("INSERT INTO orders VALUES (1, 'x', 1)");
    sending.source.execute("INSERT INTO orders VALUES (2, '', 2)");
    sending.source.execute("INSERT INTO orders VALUES (3, 'z', 3)");
    let requests = receiver.wait_for_requests(2, DEADLINE).await;
    assert_eq!(requests.iter().map(|r| r.path.as_str()).collect::<Vec<_>>(), ["/in/x", "/in/z"]);
    let (code, out, err) = sending.rowbridge(&["dead-letter", "list", "--json"]);
    assert_eq!(code, 0, "{err}");
    let letter: Value = serde_json::from_str(out.trim()).unwrap();
    let reason = letter["reason"].as_str().unwrap();
    assert!(reason.contains("endpoint.url") && reason.contains("empty"), "{letter}");
    let number = letter["id"].to_string();
    let (_, shown, _) = sending.rowbridge(&["dead-letter", "show", &number]);
    assert!(shown.contains("row.insert") && shown.contains("\"id\":2"), "the plain event: {shown}");
    // What was filled into the template from outside is in no file.
    let secret_text = std::env::var("PATH").unwrap();
    let state = std::fs::read_dir(sending.folder.path().join("state")).unwrap();
    for file in state.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(secret_text.len()).any(|part| part == secret_text.as_bytes());
        assert!(!found, "{}", file.display());
    }
    // The operator corrects the template; the letter is rendered by it.
    sending.daemon.kill9();
    let path = sending.folder.path().join("rowbridge.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("{{ after.status }}", "{{ after.status | default('none', true) }}"))
        .unwrap();
    sending.daemon.start();
    let (code, out, err) = sending.rowbridge(&["dead-letter", "retry", &number, "--follow"]);
    assert_eq!(code, 0, "{out}{err}");
    let requests = receiver.wait_for_requests(3, DEADLINE).await;
    let again = requests.last().unwrap();
    assert_eq!((again.path.as_str(), &again.json()["id"]), ("/in/none", &json!(2)));
    assert_eq!(again.json()["token"], json!(secret_text));
    assert_eq!(again.header("webhook-id"), letter["webhook_id"].as_str());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_rendered_as_one_and_spoiled_by_nobody() {
    let receiver = Receiver::start(|_| Reply::status(204).after(Duration::from_millis(50)));
    let lines = "{% for e in events %}{\"id\": {{ e.key.id }}, \"status\": {{ e.after.status | upper }}}\n{% endfor %}";
    let sending = Sending::start([template("lake", &receiver.url("/in"), lines)
        .with("content_type = \"application/x-ndjson\"\nbatch = { max_events = 10 }\noperations = [\"insert\", \"delete\"]")])
    .await;
    sending.insert(1..=15);
    // A delete has no new row: that template cannot be rendered for it.
    sending.source.execute("DELETE FROM orders WHERE id = 3");
    sending.insert(16..=30);
    let until = tokio::time::Instant::now() + DEADLINE;
    let ids = loop {
        let requests = receiver.requests();
        let lines: Vec<Value> = requests
            .iter()
            .flat_map(|request| text(request).lines().map(str::to_owned).collect::<Vec<_>>())
            .map(|line| serde_json::from_str(&line).unwrap())
            .collect();
        let ids: Vec<i64> = lines.iter().map(|line| line["id"].as_i64().unwrap()).collect();
        if ids.len() >= 30 || tokio::time::Instant::now() > until {
            assert!(requests.iter().all(|r| r.header("content-type") == Some("application/x-ndjson")));
            assert!(requests.iter().any(|request| text(request).lines().count() > 1), "{}", requests.len());
            break ids;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(ids, (1..=30).collect::<Vec<_>>());
    let (_, out, _) = sending.rowbridge(&["dead-letter", "list", "--json"]);
    let letter: Value = serde_json::from_str(out.trim()).unwrap();
    assert_eq!((&letter["op"], &letter["events"]), (&json!("delete"), &json!(1)), "{letter}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_event_of_a_template_is_one_of_the_journal() {
    let receiver = Receiver::accepting();
    let body = "{\"total\": {{ after.total }}}";
    let sending = Sending::start([template("erp", &receiver.url("/in"), body)]).await;
    let (code, out, err) = sending.rowbridge(&["endpoint", "test", "erp"]);
    assert!(code == 1 && (out.clone() + &err).contains("change a row"), "{out}{err}");
    sending.source.execute("INSERT INTO orders VALUES (1, 'x', 77)");
    receiver.wait_for_requests(1, DEADLINE).await;
    let (code, out, err) = sending.rowbridge(&["endpoint", "test", "erp"]);
    assert_eq!(code, 0, "{out}{err}");
    let tested = receiver.wait_for_requests(2, DEADLINE).await.remove(1);
    assert_eq!(tested.json(), json!({"total": 77}));
    assert!(tested.header("webhook-id").unwrap().contains(":test-"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_get_the_signature_and_the_credentials_that_they_expect() {
    let receiver = Receiver::accepting();
    let to = |name: &str, lines: &str| {
        Endpoint::new(name, &receiver.url(&format!("/{name}")), "", "json").with(lines)
    };
    let sending = Sending::start([
        to("github", "signature = \"github\"\nsecret = \"It's a Secret to Everybody\""),
        to("stripe", "signature = \"stripe\"\nsecret = [\"whsec_new\", \"old\"]"),
        to("bearer", "signature = \"none\"\nauth = { bearer = \"t0ken\" }"),
        to("basic", "signature = \"none\"\nauth = { user = \"Aladdin\", password = \"open sesame\" }"),
        to("key", "signature = \"none\"\nheaders = { X-Api-Key = \"hunter2\" }"),
    ])
    .await;
    sending.insert(1..=1);
    let requests = receiver.wait_for_requests(5, DEADLINE).await;
    let of = |name: &str| requests.iter().find(|request| request.path == format!("/{name}")).unwrap();
    let hmac = |key: &str, parts: &[&[u8]]| {
        use hmac::{KeyInit as _, Mac as _};
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()).unwrap();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let github = of("github");
    let expected = format!("sha256={}", hmac("It's a Secret to Everybody", &[&github.body]));
    assert_eq!(github.header("x-hub-signature-256"), Some(expected.as_str()));
    let stripe = of("stripe");
    let stamp = stripe.header("webhook-timestamp").unwrap();
    let v1 = |key| hmac(key, &[stamp.as_bytes(), b".", &stripe.body]);
    let expected = format!("t={stamp},v1={},v1={}", v1("whsec_new"), v1("old"));
    assert_eq!(stripe.header("stripe-signature"), Some(expected.as_str()));
    assert_eq!(of("bearer").header("authorization"), Some("Bearer t0ken"));
    assert_eq!(of("basic").header("authorization"), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
    assert_eq!(of("key").header("x-api-key"), Some("hunter2"));
    for request in &requests {
        assert!(request.header("webhook-id").is_some() && request.header("webhook-timestamp").is_some());
        assert_eq!(request.header("webhook-signature"), None, "{}", request.path);
    }
    let log = sending.daemon.log().since(0).join("\n");
    assert!(!log.contains("hunter2") && !log.contains("t0ken") && !log.contains("sesame"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_says_when_it_leaves_however_long_it_was_ready() {
    let ages = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&ages);
    // The second one is made ready while the first is under way, and leaves seconds later.
    let receiver = Receiver::start(move |request| {
        let stamp: i64 = request.header("webhook-timestamp").unwrap().parse().unwrap();
        seen.lock().unwrap().push(now() - stamp);
        Reply::status(204).after(Duration::from_secs(4))
    });
    let sending = Sending::start([endpoint("crm", &receiver, "json")]).await;
    sending.insert(1..=2);
    let requests = receiver.wait_for_requests(2, DEADLINE).await;
    assert_eq!(ids(&requests), [1, 2]);
    assert!(requests.iter().all(|request| request.is_signed_with(&secret(1))), "{requests:?}");
    let ages = ages.lock().unwrap();
    assert!(ages.iter().all(|age| (0..=2).contains(age)), "{ages:?} seconds old");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_fetched_kept_and_fetched_again() {
    let granted = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&granted);
    let server = Receiver::start(move |_| {
        let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
        let token =
            format!("{{\"access_token\": \"t{number}\", \"token_type\": \"Bearer\", \"expires_in\": 3600}}");
        Reply::status(200).header("content-type", "application/json").body(token)
    });
    // The first token is good for five requests: the server ends it early.
    let answered = AtomicUsize::new(0);
    let receiver = Receiver::start(move |request| {
        let good = if answered.fetch_add(1, Ordering::SeqCst) < 5 { "Bearer t1" } else { "Bearer t2" };
        Reply::status(if request.header("authorization") == Some(good) { 204 } else { 401 })
    });
    let auth = format!(
        "auth = {{ token_url = \"{}\", client_id = \"shop\", client_secret = \"hunter2\", scope = \"hooks.write\" }}",
        server.url("/oauth2/token")
    );
    let sending = Sending::start([endpoint("crm", &receiver, "json").with(&auth)]).await;
    sending.insert(1..=5);
    receiver.wait_for_requests(5, DEADLINE).await;
    let asked = server.requests();
    assert_eq!(asked.len(), 1, "one token for all");
    assert_eq!(text(&asked[0]), "grant_type=client_credentials&scope=hooks.write");
    assert_eq!(asked[0].header("authorization"), Some("Basic c2hvcDpodW50ZXIy"));
    // It is fetched anew, and nothing fails for it.
    sending.insert(6..=6);
    let requests = receiver.wait_for_requests(7, DEADLINE).await;
    assert_eq!(requests[6].header("authorization"), Some("Bearer t2"));
    assert_eq!(requests[5].header("webhook-id"), requests[6].header("webhook-id"));
    let (code, out, err) = sending.rowbridge(&["check"]);
    assert_eq!(code, 0, "{out}{err}");
    server.answer_with(|_| Reply::status(400).body("{\"error\": \"invalid_client\"}"));
    let (code, out, _) = sending.rowbridge(&["check"]);
    assert!(code == 1 && out.contains("invalid_client") && !out.contains("hunter2"), "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_asks_who_calls_is_shown_a_certificate() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let receiver = Receiver::accepting();
    let front = Terminator::asking(&servers.issue(&["127.0.0.1"]), &clients, receiver.port());
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let own = clients.issue(&["publisher"]);
    let (ca, cert, key) =
        (write("ca.pem", &servers.pem()), write("own.pem", &own.pem), write("own.key", &own.key_pem));
    let url = format!("https://127.0.0.1:{}/in", front.port());
    let trusting = format!("ca = \"{ca}\"");
    let stranger = Endpoint::new("stranger", &url, &secret(1), "json").with(&trusting);
    let known = Endpoint::new("known", &url, &secret(1), "json")
        .with(&format!("{trusting}\nclient_cert = \"{cert}\"\nclient_key = \"{key}\""));
    let sending = Sending::start([known, stranger]).await;
    sending.insert(1..=3);
    assert_eq!(ids(&receiver.wait_for_requests(3, DEADLINE).await), [1, 2, 3]);
    let (_, out, _) = sending.rowbridge(&["attempts", "--endpoint", "stranger", "--failed"]);
    assert!(out.contains("client certificate") || out.contains("CertificateRequired"), "{out}");
    assert_eq!(receiver.requests().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_templates_are_told_by_check_with_their_place() {
    let receiver = Receiver::accepting();
    let sending = Sending::prepare([
        template("body", &receiver.url("/"), "{\"t\": {{ after.totl }}}"),
        template("path", &receiver.url("/{{ after.idd }}"), "{}"),
        endpoint("header", &receiver, "json").with("headers = { X-A = \"{{ key.total }}\" }"),
    ]);
    let (code, out, _) = sending.rowbridge(&["check"]);
    assert_eq!(code, 1, "{out}");
    let config = std::fs::read_to_string(sending.folder.path().join("rowbridge.toml")).unwrap();
    for (told, line) in [
        ("endpoint.body: no column totl in orders; nearest: total at line 1, column 10", "after.totl"),
        ("endpoint.url: no column idd in orders; nearest: id", "after.idd"),
        ("endpoint.headers.x-a: total is no column of the key of orders; write after.total", "key.total"),
    ] {
        let number = config.lines().position(|text| text.contains(line)).unwrap() + 1;
        let place = format!("rowbridge.toml:{number}: {told}");
        assert!(out.contains(&place), "{place} is not in {out}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_key_is_two_debezium_events_that_name_each_other() {
    let (single, batched) = (Receiver::accepting(), Receiver::accepting());
    let sending = Sending::start([
        endpoint("cdc", &single, "debezium"),
        endpoint("many", &batched, "debezium").with("batch = { max_events = 10 }"),
    ])
    .await;
    sending.source.execute("INSERT INTO orders VALUES (1, 'a', 1)");
    sending.source.execute("UPDATE orders SET id = 2 WHERE id = 1");
    let requests = single.wait_for_requests(3, DEADLINE).await;
    let ops: Vec<Value> = requests.iter().map(|request| request.json()["op"].clone()).collect();
    assert_eq!(ops, ["c", "d", "c"]);
    let (new, old) = ("x-debezium-__debezium.newkey", "x-debezium-__debezium.oldkey");
    let headers: Vec<_> = requests.iter().map(|request| (request.header(new), request.header(old))).collect();
    // {"id":2} and {"id":1} in base64.
    assert_eq!(headers, [(None, None), (Some("eyJpZCI6Mn0="), None), (None, Some("eyJpZCI6MX0="))]);
    let until = tokio::time::Instant::now() + DEADLINE;
    let events =
        || batched.requests().iter().map(|request| request.json().as_array().unwrap().len()).sum::<usize>();
    while events() < 3 {
        assert!(tokio::time::Instant::now() < until, "{} events came", events());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(batched.requests().iter().all(|request| request.header(new).or(request.header(old)).is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn larger_bodies_are_packed_and_signed_as_they_are_sent() {
    let receiver = Receiver::accepting();
    let of = |encoding: &str| {
        Endpoint::new(encoding, &receiver.url(&format!("/{encoding}")), &secret(1), "json")
            .with(&format!("compression = \"{encoding}\""))
    };
    let sending = Sending::start([of("gzip"), of("zstd")]).await;
    let long = "long ".repeat(1000);
    sending.source.execute(&format!("INSERT INTO orders VALUES (1, 'short', 1), (2, '{long}', 2)"));
    let requests = receiver.wait_for_requests(4, DEADLINE).await;
    for request in &requests {
        let event = request.json();
        let packed = request.header("content-encoding");
        assert!(request.is_signed_with(&secret(1)), "over the bytes that were sent");
        match id(&event) {
            1 => assert_eq!(packed, None),
            _ => {
                assert_eq!(packed, Some(&request.path[1..]));
                assert!(request.body.len() < 1000 && event["data"]["after"]["status"] == long, "{packed:?}");
            }
        }
    }
    assert_eq!(requests.iter().filter(|request| request.header("content-encoding").is_some()).count(), 2);
}
