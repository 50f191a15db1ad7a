//! Endpoints that are added to a publisher that has run before.

use super::*;

/// What each request of one event carried.
fn seen(requests: &[Received]) -> Vec<(String, i64)> {
    let events = requests.iter().map(Received::json);
    events.map(|event| (event["data"]["op"].as_str().unwrap().to_owned(), id(&event))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_joins_gets_the_rows_and_then_the_changes() {
    let (crm, late, last) = (Receiver::accepting(), Receiver::accepting(), Receiver::accepting());
    let sending = Sending::start([endpoint("crm", &crm, "json")]).await;
    sending.insert(1..=3);
    sending.source.execute("UPDATE orders SET status = 'old' WHERE id = 2");
    sending.source.execute("DELETE FROM orders WHERE id = 3");
    crm.wait_for_requests(5, DEADLINE).await;
    let added = |name: &str, receiver: &Receiver, start: &str| {
        let (url, secret) = (receiver.url("/"), secret(1));
        format!(
            "[[endpoint]]\nname = \"{name}\"\nurl = \"{url}\"\nsecret = \"{secret}\"\nformat = \"json\"\nstart = \"{start}\"\n\n"
        )
    };
    let both =
        added("late", &late, "snapshot") + &added("last", &last, "now") + "[[endpoint]]\nname = \"crm\"";
    sending.restart_with("[[endpoint]]\nname = \"crm\"", &both);
    let rows = late.wait_for_requests(2, DEADLINE).await;
    let read = |id: i64| ("read".to_owned(), id);
    assert_eq!(seen(&rows), [read(1), read(2)], "not what happened before");
    assert_eq!(rows[1].json()["data"]["after"]["status"], "old");
    sending.insert(4..=4);
    let insert = ("insert".to_owned(), 4);
    assert_eq!(seen(&late.wait_for_requests(3, DEADLINE).await), [read(1), read(2), insert.clone()]);
    assert_eq!(seen(&last.wait_for_requests(1, DEADLINE).await), [insert]);
    crm.wait_for_requests(6, DEADLINE).await;
}
