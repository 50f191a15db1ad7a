//! What a row takes of the file: bounds are kept by adding up, so the sums have to be those of the disk.

/// SQLite's page size; [`super::schema`] asks for it.
pub(super) const PAGE: usize = 4096;
/// Cell header, row id and cell pointer at their longest.
const CELL: usize = 16;
/// Largest payload that stays in a leaf of a table: page less 35 (file format, section 1.6).
const MAX_LOCAL: usize = PAGE - 35;
/// What stays in the leaf at least when the rest overflows.
const MIN_LOCAL: usize = (PAGE - 12) * 32 / 255 - 23;

/// Bytes of the file that a row of `payload` bytes takes, when rows of such a size follow each other: a page holds whole
/// cells only, and what does not fit a page goes on in pages of its own.
///
/// Source: SQLite's "Database File Format", sections 1.6 and 2.3.
pub(super) fn stored_bytes(payload: usize) -> i64 {
    let (local, overflow) = if payload <= MAX_LOCAL {
        (payload, 0)
    } else {
        let rest = MIN_LOCAL + (payload - MIN_LOCAL) % (PAGE - 4);
        let local = if rest <= MAX_LOCAL { rest } else { MIN_LOCAL };
        (local, (payload - local).div_ceil(PAGE - 4))
    };
    let per_page = ((PAGE - 8) / (local + CELL)).max(1);
    i64::try_from(PAGE / per_page + overflow * PAGE).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_take_what_sqlite_gives_them() {
        for payload in [0, 100, 500, 1_000, 2_000, 2_100, 4_000, 4_061, 4_062, 5_000, 8_200, 100_000] {
            let db = rusqlite::Connection::open_in_memory().unwrap();
            db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT").unwrap();
            let rows = (4 << 20) / (payload + 50) + 20;
            for _ in 0..rows {
                db.execute("INSERT INTO t (body) VALUES (zeroblob(?1))", [payload as i64]).unwrap();
            }
            let pages: i64 =
                db.query_row("SELECT count(*) FROM dbstat WHERE name = 't'", [], |r| r.get(0)).unwrap();
            let (real, ours) = (pages * PAGE as i64, stored_bytes(payload + 4) * rows as i64);
            assert!(real <= ours + ours / 50 + 16384, "{payload}: {real} bytes, expected {ours}");
            assert!(
                ours <= real * 13 / 10 + 16 * rows as i64,
                "{payload}: {real} bytes, expected only {ours}"
            );
        }
    }
}
