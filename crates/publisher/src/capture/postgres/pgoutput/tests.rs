use proptest::prelude::*;

use super::*;

/// Writes messages by the manual, independently of the reader.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn new(tag: u8) -> Self {
        Self(vec![tag])
    }
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
    fn u8(self, value: u8) -> Self {
        self.raw(&[value])
    }
    fn i16(self, value: i16) -> Self {
        self.raw(&value.to_be_bytes())
    }
    fn u32(self, value: u32) -> Self {
        self.raw(&value.to_be_bytes())
    }
    fn u64(self, value: u64) -> Self {
        self.raw(&value.to_be_bytes())
    }
    fn cstr(self, text: &str) -> Self {
        self.raw(text.as_bytes()).u8(0)
    }
    fn sized(self, bytes: &[u8]) -> Self {
        self.u32(u32::try_from(bytes.len()).unwrap()).raw(bytes)
    }
    fn tuple(mut self, cells: &[Cell<'_>]) -> Self {
        self = self.i16(i16::try_from(cells.len()).unwrap());
        for cell in cells {
            self = match cell {
                Cell::Null => self.u8(b'n'),
                Cell::Unchanged => self.u8(b'u'),
                Cell::Text(text) => self.u8(b't').sized(text.as_bytes()),
                Cell::Binary(bytes) => self.u8(b'b').sized(bytes),
            };
        }
        self
    }
}

fn cells<'a>(tuple: &Tuple<'a>) -> Vec<Cell<'a>> {
    tuple.cells().collect()
}

/// One message of every kind, with every optional part used somewhere.
fn samples() -> Vec<Vec<u8>> {
    let row = [Cell::Text("1"), Cell::Null, Cell::Unchanged, Cell::Binary(&[0xff, 0]), Cell::Text("")];
    let relation = Writer::new(b'R').u32(16385).cstr("public").cstr("größe").u8(b'i').i16(2);
    let relation = relation.u8(1).cstr("id").u32(20).u32(u32::MAX).u8(0).cstr("note").u32(1043).u32(24);
    vec![
        Writer::new(b'B').u64(0x1A_7F00_C2B8).u64(1).u32(731).0,
        Writer::new(b'C').u8(0).u64(16).u64(48).u64(0).0,
        Writer::new(b'O').u64(7).cstr("rowbridge_shop").0,
        relation.0,
        Writer::new(b'Y').u32(16400).cstr("").cstr("mood").0,
        Writer::new(b'I').u32(16385).u8(b'N').tuple(&row).0,
        Writer::new(b'U').u32(16385).u8(b'N').tuple(&row).0,
        Writer::new(b'U').u32(16385).u8(b'K').tuple(&[Cell::Text("k"), Cell::Null]).u8(b'N').tuple(&row).0,
        Writer::new(b'U').u32(16385).u8(b'O').tuple(&row).u8(b'N').tuple(&row).0,
        Writer::new(b'D').u32(16385).u8(b'K').tuple(&row).0,
        Writer::new(b'D').u32(16385).u8(b'O').tuple(&row).0,
        Writer::new(b'T').u32(2).u8(3).u32(16385).u32(16386).0,
        Writer::new(b'M').u8(1).u64(99).cstr("rowbridge").sized(b"hello\0").0,
    ]
}

#[test]
fn transaction_frame_messages() {
    let all = samples();
    assert_eq!(
        parse(&all[0]),
        Ok(Message::Begin {
            final_lsn: 0x1A_7F00_C2B8,
            commit_time_us: POSTGRES_EPOCH_UNIX_US + 1,
            xid: 731
        })
    );
    assert_eq!(
        parse(&all[1]),
        Ok(Message::Commit { commit_lsn: 16, end_lsn: 48, commit_time_us: POSTGRES_EPOCH_UNIX_US })
    );
    assert_eq!(parse(&all[2]), Ok(Message::Origin { origin_lsn: 7, name: "rowbridge_shop" }));
}

#[test]
fn relation_and_type() {
    let all = samples();
    assert_eq!(
        parse(&all[3]),
        Ok(Message::Relation(Relation {
            oid: 16385,
            schema: "public",
            name: "größe",
            replica_identity: ReplicaIdentity::Index,
            columns: vec![
                RelColumn { key: true, name: "id", type_oid: 20, type_modifier: -1 },
                RelColumn { key: false, name: "note", type_oid: 1043, type_modifier: 24 },
            ],
        }))
    );
    assert_eq!(parse(&all[4]), Ok(Message::Type { oid: 16400, schema: "pg_catalog", name: "mood" }));
}

#[test]
fn rows_keep_every_kind_of_cell() {
    let all = samples();
    let Ok(Message::Insert { oid: 16385, new }) = parse(&all[5]) else { panic!("{:?}", parse(&all[5])) };
    assert_eq!(new.len(), 5);
    assert_eq!(
        cells(&new),
        [Cell::Text("1"), Cell::Null, Cell::Unchanged, Cell::Binary(&[0xff, 0]), Cell::Text("")]
    );
    assert!(matches!(parse(&all[6]), Ok(Message::Update { old: None, .. })));
    let Ok(Message::Update { old: Some(old), new, .. }) = parse(&all[7]) else { panic!() };
    assert_eq!((old.kind, cells(&old.tuple)), (OldKind::Key, vec![Cell::Text("k"), Cell::Null]));
    assert_eq!(new.len(), 5);
    assert!(matches!(
        parse(&all[8]),
        Ok(Message::Update { old: Some(OldTuple { kind: OldKind::Full, .. }), .. })
    ));
    assert!(matches!(parse(&all[9]), Ok(Message::Delete { old: OldTuple { kind: OldKind::Key, .. }, .. })));
    assert!(matches!(parse(&all[10]), Ok(Message::Delete { old: OldTuple { kind: OldKind::Full, .. }, .. })));
}

#[test]
fn truncate_and_logical_message() {
    let all = samples();
    assert_eq!(
        parse(&all[11]),
        Ok(Message::Truncate { oids: vec![16385, 16386], cascade: true, restart_identity: true })
    );
    assert_eq!(
        parse(&all[12]),
        Ok(Message::Message(LogicalMessage {
            transactional: true,
            lsn: 99,
            prefix: "rowbridge",
            content: b"hello\0"
        }))
    );
}

#[test]
fn debug_output_has_no_row_values() {
    let bytes = Writer::new(b'I').u32(1).u8(b'N').tuple(&[Cell::Text("secret-value")]).0;
    assert!(!format!("{:?}", parse(&bytes).unwrap()).contains("secret"));
    let bytes = Writer::new(b'M').u8(0).u64(1).cstr("p").sized(b"secret").0;
    assert!(!format!("{:?}", parse(&bytes).unwrap()).contains("secret"));
}

#[test]
fn every_truncation_and_every_extra_byte_is_refused() {
    for sample in samples() {
        for end in 0..sample.len() {
            parse(&sample[..end]).unwrap_err();
        }
        let mut longer = sample.clone();
        longer.push(0);
        assert_eq!(parse(&longer), Err(PgOutputError::Trailing { tag: Tag(sample[0]), left_bytes: 1 }));
    }
}

#[test]
fn unknown_tags_are_refused() {
    let known = b"BCORYIUDTM";
    for tag in 0..=u8::MAX {
        if !known.contains(&tag) {
            let mut bytes = samples()[5].clone();
            bytes[0] = tag;
            assert_eq!(parse(&bytes), Err(PgOutputError::UnknownMessage { tag: Tag(tag) }));
        }
    }
}

#[test]
fn unknown_values_are_refused() {
    let unknown = |bytes: Vec<u8>| assert!(matches!(parse(&bytes), Err(PgOutputError::UnknownValue { .. })));
    unknown(Writer::new(b'I').u32(1).u8(b'K').tuple(&[]).0);
    unknown(Writer::new(b'D').u32(1).u8(b'N').tuple(&[]).0);
    unknown(Writer::new(b'U').u32(1).u8(b'X').tuple(&[]).0);
    unknown(Writer::new(b'U').u32(1).u8(b'K').tuple(&[]).u8(b'O').tuple(&[]).0);
    unknown(Writer::new(b'I').u32(1).u8(b'N').i16(1).u8(b'z').0);
    unknown(Writer::new(b'R').u32(1).cstr("s").cstr("t").u8(b'x').i16(0).0);
    unknown(Writer::new(b'T').u32(0).u8(4).0);
    unknown(Writer::new(b'M').u8(2).u64(0).cstr("").sized(b"").0);
}

#[test]
fn wrong_lengths_and_text_are_refused() {
    let negative = Writer::new(b'I').u32(1).u8(b'N').i16(-1).0;
    assert!(matches!(parse(&negative), Err(PgOutputError::Negative { found: -1, .. })));
    let negative = Writer::new(b'I').u32(1).u8(b'N').i16(1).u8(b't').u32(u32::MAX).0;
    assert!(matches!(parse(&negative), Err(PgOutputError::Negative { found: -1, .. })));
    // Lengths and counts that promise gigabytes fail before anything is allocated for them.
    let huge = Writer::new(b'T').u32(i32::MAX as u32).u8(0).0;
    assert!(matches!(parse(&huge), Err(PgOutputError::Truncated { .. })));
    let huge = Writer::new(b'I').u32(1).u8(b'N').i16(1).u8(b't').u32(i32::MAX as u32).0;
    assert!(matches!(parse(&huge), Err(PgOutputError::Truncated { .. })));
    let text = Writer::new(b'I').u32(1).u8(b'N').i16(1).u8(b't').sized(&[0xc3, 0x28]).0;
    assert_eq!(parse(&text), Err(PgOutputError::NotUtf8 { tag: Tag(b'I'), field: "cell" }));
}

fn any_cell() -> impl Strategy<Value = (u8, Vec<u8>)> {
    prop_oneof![
        Just((b'n', vec![])),
        Just((b'u', vec![])),
        any::<String>().prop_map(|text| (b't', text.into_bytes())),
        any::<Vec<u8>>().prop_map(|bytes| (b'b', bytes)),
    ]
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(tag in prop::sample::select(&b"BCORYIUDTM"[..]), mut bytes: Vec<u8>) {
        // With a known tag in front most inputs get past the first check.
        bytes.insert(0, tag);
        match parse(&bytes) {
            Ok(Message::Insert { new, .. }) => prop_assert_eq!(new.cells().count(), new.len()),
            Ok(Message::Update { old, new, .. }) => {
                prop_assert_eq!(new.cells().count(), new.len());
                if let Some(old) = old {
                    prop_assert_eq!(old.tuple.cells().count(), old.tuple.len());
                }
            }
            Ok(Message::Delete { old, .. }) => prop_assert_eq!(old.tuple.cells().count(), old.tuple.len()),
            Ok(_) | Err(_) => {}
        }
    }

    #[test]
    fn damaged_messages_never_panic(which in 0usize..13, at: prop::sample::Index, value: u8) {
        let mut bytes = samples().swap_remove(which);
        let at = at.index(bytes.len());
        bytes[at] = value;
        if let Ok(Message::Insert { new, .. }) = parse(&bytes) {
            prop_assert_eq!(new.cells().count(), new.len());
        }
    }

    #[test]
    fn rows_round_trip_and_truncations_always_err(
        oid: u32,
        raw in prop::collection::vec(any_cell(), 0..8),
        cut: prop::sample::Index,
    ) {
        let row: Vec<Cell<'_>> = raw
            .iter()
            .map(|(kind, bytes)| match kind {
                b'n' => Cell::Null,
                b'u' => Cell::Unchanged,
                b't' => Cell::Text(str::from_utf8(bytes).unwrap()),
                _ => Cell::Binary(bytes),
            })
            .collect();
        let bytes = Writer::new(b'U').u32(oid).u8(b'O').tuple(&row).u8(b'N').tuple(&row).0;
        let Ok(Message::Update { oid: read, old: Some(old), new }) = parse(&bytes) else {
            return Err(TestCaseError::fail("not an update"));
        };
        prop_assert_eq!(read, oid);
        prop_assert_eq!(cells(&old.tuple), row.clone());
        prop_assert_eq!(cells(&new), row);
        prop_assert!(parse(&bytes[..cut.index(bytes.len())]).is_err());
    }
}
