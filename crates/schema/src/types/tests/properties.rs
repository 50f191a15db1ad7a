//! What comes back is what was sent.

use proptest::prelude::*;

use super::*;

fn bits(text: &str) -> Option<u64> {
    text.parse::<f64>().ok().map(f64::to_bits)
}

/// There and back through the types that Rowbridge makes. Texts of one value that differ only in zeros count as equal.
fn returns(dialect: Dialect, name: &str, value: &str, server: Server) -> Result<(), TestCaseError> {
    let source = column(dialect, name);
    let target = made(&source, server, None);
    let there = Conversion::between(&source, &target).map_err(|e| TestCaseError::fail(e.to_string()))?;
    let Ok(sent) = there.convert(cell(dialect, value)) else { return Ok(()) };
    let Ok(back) = Conversion::between(&target, &source) else {
        return Err(TestCaseError::fail(format!("{name}: no way back from {}", target.name)));
    };
    let returned = back.convert(sent.clone());
    prop_assert_eq!(
        returned.as_ref().map(shown),
        Ok(value.to_owned()),
        "{} through {} as {:?}",
        name,
        &target.name,
        sent
    );
    Ok(())
}

/// Types without a way back: the server rounds elements, cuts fields, or keeps no such text.
const ONE_WAY: &[&str] = &["money", "\"char\"", "numeric(9,1)[]", "public.geometry"];

#[test]
fn every_sample_comes_back() {
    for (name, values) in samples::of(Dialect::Postgres) {
        let servers: &[Server] = match *name {
            name if ONE_WAY.contains(&name) => continue,
            // MySQL has it as a DATETIME, of which nobody can tell that it is UTC.
            "timestamp with time zone" => &[Server::Sqlite],
            _ => &[Server::Mysql, Server::Mariadb, Server::Sqlite],
        };
        for (value, server) in
            values.iter().flat_map(|value| servers.iter().map(move |server| (value, *server)))
        {
            returns(Dialect::Postgres, name, value, server).unwrap();
        }
    }
    for (name, values) in samples::of(Dialect::Mysql) {
        // An enum's error value is no label: nobody can write it.
        for value in values.iter().filter(|value| !(value.is_empty() && name.starts_with("enum("))) {
            for server in [Server::Postgres, Server::Sqlite] {
                returns(Dialect::Mysql, name, value, server).unwrap();
            }
        }
    }
}

proptest! {
    #[test]
    fn integers_come_back(number in any::<i64>()) {
        let value = number.to_string();
        for server in [Server::Mysql, Server::Sqlite] {
            returns(Dialect::Postgres, "bigint", &value, server)?;
        }
        returns(Dialect::Mysql, "bigint(20)", &value, Server::Postgres)?;
        let unsigned = (number as u64).to_string();
        returns(Dialect::Mysql, "bigint(20) unsigned", &unsigned, Server::Postgres)?;
        returns(Dialect::Mysql, "bigint(20) unsigned", &unsigned, Server::Sqlite)?;
    }

    #[test]
    fn doubles_come_back(raw in any::<u64>()) {
        let value = f64::from_bits(raw);
        prop_assume!(!value.is_nan());
        let text = super::super::number::float_text(value, 64);
        prop_assert_eq!(bits(&text.replace("Infinity", "inf")), Some(raw));
        returns(Dialect::Postgres, "double precision", &text, Server::Mysql)?;
        returns(Dialect::Postgres, "double precision", &text, Server::Sqlite)?;
        let mut sqlite = String::new();
        crate::sqlite_type::push_real(&mut sqlite, value);
        returns(Dialect::Sqlite, "REAL", &sqlite, Server::Postgres)?;
    }

    #[test]
    fn reals_come_back(raw in any::<u32>()) {
        let value = f32::from_bits(raw);
        prop_assume!(!value.is_nan());
        let text = super::super::number::float_text(f64::from(value), 32);
        prop_assert_eq!(text.replace("Infinity", "inf").parse::<f32>().ok().map(f32::to_bits), Some(raw));
        returns(Dialect::Postgres, "real", &text, Server::Mysql)?;
        returns(Dialect::Postgres, "real", &text, Server::Sqlite)?;
    }

    #[test]
    fn decimals_come_back(text in "-?[1-9][0-9]{0,30}(\\.[0-9]{1,20})?") {
        for server in [Server::Mysql, Server::Sqlite] {
            returns(Dialect::Postgres, "numeric", &text, server)?;
        }
    }

    #[test]
    fn decimals_fit_exactly_where_their_digits_do(whole in 0u64..100_000, cents in 0u32..1000) {
        let text = format!("{whole}.{cents:03}");
        let target = column(Dialect::Mysql, "decimal(6,2)");
        let found = Conversion::between(&column(Dialect::Postgres, "numeric"), &target).unwrap().convert(Cell::text(&text));
        let expected = if cents % 10 != 0 {
            Err(Unholdable::Scale)
        } else if whole > 9999 {
            Err(Unholdable::Range)
        } else {
            Ok(format!("{whole}.{:02}", cents / 10))
        };
        prop_assert_eq!(found.map(|cell| shown(&cell)), expected);
    }

    #[test]
    fn time_stamps_come_back(days in 0u32..3_650_000, micros in 0u64..86_400_000_000) {
        // A calendar of its own, so that ours is checked.
        let (mut year, mut day) = (1, days);
        let leap = |year: u32| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        while day >= 365 + u32::from(leap(year)) {
            day -= 365 + u32::from(leap(year));
            year += 1;
        }
        let mut month = 0;
        let lengths = [31, 28 + u32::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        while day >= lengths[month] {
            day -= lengths[month];
            month += 1;
        }
        let seconds = micros / 1_000_000;
        let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let fraction = format!(".{:06}", micros % 1_000_000);
        let date = format!("{year:04}-{:02}-{:02}", month + 1, day + 1);
        let trimmed = fraction.trim_end_matches('0').trim_end_matches('.');
        let stamp = format!("{date} {clock}{trimmed}");
        prop_assume!(year < 10_000);
        returns(Dialect::Postgres, "date", &date, Server::Mysql)?;
        returns(Dialect::Postgres, "date", &date, Server::Sqlite)?;
        returns(Dialect::Postgres, "timestamp without time zone", &stamp, Server::Mysql)?;
        returns(Dialect::Postgres, "timestamp without time zone", &stamp, Server::Sqlite)?;
        returns(Dialect::Postgres, "timestamp with time zone", &format!("{stamp}+00"), Server::Sqlite)?;
        returns(Dialect::Mysql, "datetime(6)", &format!("{date} {clock}{fraction}"), Server::Postgres)?;
        returns(Dialect::Mysql, "datetime(6)", &format!("{date} {clock}{fraction}"), Server::Sqlite)?;
        returns(Dialect::Mysql, "time(6)", &format!("{clock}{fraction}"), Server::Postgres)?;
    }

    #[test]
    fn texts_come_back(text in "\\PC*") {
        for server in [Server::Mysql, Server::Mariadb, Server::Sqlite] {
            returns(Dialect::Postgres, "text", &text, server)?;
        }
        returns(Dialect::Sqlite, "TEXT", &text, Server::Postgres)?;
        returns(Dialect::Mysql, "longtext@utf8mb4_bin", &text, Server::Postgres)?;
    }

    /// Types and values come from outside: whatever they are, nothing panics and borrowed and owned agree.
    #[test]
    fn nothing_panics(source in "\\PC{0,20}", target in "\\PC{0,20}", value in "\\PC{0,30}", from in 0usize..3, to in 0usize..3, at in 0usize..60, into in 0usize..60) {
        let dialects = [Dialect::Postgres, Dialect::Mysql, Dialect::Sqlite];
        let known = |dialect: Dialect, at: usize| {
            let samples = samples::of(dialect);
            column(dialect, samples[at % samples.len()].0)
        };
        let forged = ColumnType::parse(dialects[from], &source, Some(&target), &types());
        let other = ColumnType::parse(dialects[to], &target, None, &[]);
        for (a, b) in [(&forged, &other), (&known(dialects[from], at), &known(dialects[to], into))] {
            if let Ok(conversion) = Conversion::between(a, b) {
                let borrowed = conversion.convert(Cell::text(&value));
                prop_assert_eq!(conversion.convert(Cell::text(&value).into_owned()), borrowed);
            }
            for server in [Server::Postgres, Server::Mysql, Server::Mariadb, Server::Sqlite] {
                prop_assert!(!made_as(a, server, 1, None).type_name.is_empty());
            }
        }
    }
}
