-- What happens while the connector streams, each statement in a transaction of its own.
-- Not in here, since Debezium stops at them: a timetz whose offset has seconds (00:00:00+00:00:01).
INSERT INTO numbers VALUES
    (10, -32768, -9223372036854775808, -12345678901234567890.00100, -99999999.99, -99999999999999999999999999999999999999,
     -99900, -0.00999, -0.01, -3.4028235e38, -1.7976931348623157e308, '-92233720368547758.08', false, 4294967295);
INSERT INTO numbers VALUES
    (11, 32767, 9223372036854775807, 1e40, 0, 1, 0, 0.00001, 0, 1e-45, 5e-324, '92233720368547758.07', true, 0);
INSERT INTO numbers VALUES (12, 0, 0, 0.000, -0.01, -1, 100, -0.00001, 127.99, '-0', '-0', 0, NULL, NULL);
INSERT INTO numbers VALUES (13, 128, 255, 128, 1.28, 128, -100, 0.00128, -1.28, 0.1, 0.1, '1234.5', NULL, NULL);
INSERT INTO numbers VALUES (14, -128, -129, -128, -1.28, -128, NULL, NULL, NULL, 16777216, 1e15, '-0.01', NULL, NULL);
INSERT INTO numbers VALUES (15, NULL, NULL, 1e-30, NULL, NULL, NULL, NULL, NULL, 1.17549435e-38, 123456789.125, NULL, NULL, NULL);
INSERT INTO numbers (id, f4, f8) VALUES (16, 'NaN', 'NaN'), (17, 'Infinity', 'Infinity'), (18, '-Infinity', '-Infinity');
INSERT INTO numbers (id, f4, f8) VALUES (19, 100, 100), (20, 1e7, 1e7), (21, 9999999, 9999999), (22, 0.001, 0.001),
    (23, 0.0001, 0.0001), (24, 1e20, 1e20), (25, 3.14159274, 3.141592653589793), (26, 2e-44, 2e-320);
UPDATE numbers SET si = 7 WHERE id = 1;
UPDATE numbers SET id = 100 WHERE id = 2;
DELETE FROM numbers WHERE id = 1;

INSERT INTO texts VALUES
    (10, E'quote " slash \\ tab \t line \n bell \x07 \u00e4 \U0001F600 \x7f', '', '', '', '', '', '', '', '00000000-0000-0000-0000-000000000000',
     '  {"a":1,  "a":2, "big": 12345678901234567890.10}', '{"a":1,"a":2,"big":12345678901234567890.10}', '', 'so so');
INSERT INTO texts VALUES
    (11, '</script>&', 'ä', 'ab', '"q"', E'\x01', 'ÄÖ', NULL, decode(repeat('00', 5), 'hex'),
     'ffffffff-ffff-ffff-ffff-ffffffffffff', 'null', '"text"', 'plain', 'sad');
INSERT INTO texts (id, t, by) VALUES (12, E'\u2028\u2029 \u0080', decode('fbff', 'hex'));
UPDATE texts SET t = NULL WHERE id = 1;
DELETE FROM texts WHERE id = 1;

INSERT INTO times VALUES
    (10, '1970-01-01', '00:00:00', '00:00:00', '00:00:00', '00:00:00+00', '00:00:00+00', '1970-01-01 00:00:00',
     '1970-01-01 00:00:00', '1970-01-01 00:00:00', '1970-01-01 00:00:00', '1970-01-01 00:00:00+00', '1970-01-01 00:00:00+00',
     '1970-01-01 00:00:00+00', '0', '0');
INSERT INTO times VALUES
    (11, '1969-12-31', '23:59:59.999999', '23:59:59', '23:59:59.999', '23:59:59.999999+14', '23:59:59-14', '1969-12-31 23:59:59.999999',
     '1969-12-31 23:59:59', '1969-12-31 23:59:59.999', '1969-12-31 23:59:59.9999', '1969-12-31 23:59:59.999999+00', '1969-12-31 23:59:59+00',
     '1969-12-31 23:59:59.999+00', '-1 year -2 mons +3 days -04:05:06.789', '-1 day -00:00:00.01');
INSERT INTO times VALUES
    (12, '9999-12-31', '00:00:00.1', '12:00', '12:00:00.1', '12:30+05:45', '12:30+00', '9999-12-31 23:59:59.999999',
     '9999-12-31 23:59:59', '0001-01-01 00:00:00', '0001-01-01 00:00:00', '9999-12-31 23:59:59.999999+00', '2024-01-01 00:00:00+00',
     '2024-01-01 00:00:00.1+00', '178000000 years', '1 sec');
INSERT INTO times (id, iv) VALUES (13, '1 mon'), (14, '1 day'), (15, '-00:00:00.000001'), (16, '100:00:00'), (17, '10 years -3 mons 5 days'),
    (18, '-178000000 years'), (19, '596523:00:00.5'), (20, '-1 mon'), (21, '7 mons 12:00:00.000001'), (22, '11 mons'), (23, '1 year'), (24, '0.3 seconds');
INSERT INTO times (id, tt, tt3) VALUES (25, '2024-06-30 23:59:59.120000+00', '2024-06-30 23:59:59.1'), (26, '2024-06-30 23:59:59.000100+00', '2024-06-30 23:59:59');
INSERT INTO times (id, tz) VALUES (27, '02:00:00+05'), (28, '22:00:00.120-05');
INSERT INTO times (id, d, ts, tt) VALUES (30, '0044-03-15 BC', '0044-03-15 12:00:00 BC', '0044-03-15 12:00:00+00 BC');
INSERT INTO times (id, d, ts, tt) VALUES (31, '0001-12-31 BC', '1582-10-10 00:00:00', '1582-10-10 00:00:00+00');
INSERT INTO times (id, d, ts, tt) VALUES (32, '5874897-12-31', '294276-12-31 23:59:59.999999', '294276-12-31 23:59:59.999999+00');
INSERT INTO times (id, d, ts, tt) VALUES (33, '4714-11-24 BC', '4714-11-24 00:00:00 BC', '4714-11-24 00:00:00+00 BC');
INSERT INTO times (id, d) VALUES (34, 'infinity'), (35, '-infinity');
INSERT INTO times (id, ts) VALUES (36, 'infinity'), (37, '-infinity');
INSERT INTO times (id, tt) VALUES (38, 'infinity'), (39, '-infinity');
INSERT INTO times (id, t) VALUES (40, '24:00:00');
INSERT INTO times (id, tz) VALUES (41, '24:00:00+00');
INSERT INTO times (id, ts3, ts0) VALUES (42, '0044-03-15 12:00:00 BC', '20000-01-01 00:00:00');
INSERT INTO times (id, ts3) VALUES (43, 'infinity'), (44, '-infinity');
INSERT INTO times (id, tt) VALUES (45, '10000-01-01 00:00:00+00'), (46, '0001-01-01 00:00:00+00');
DELETE FROM times WHERE id = 10;

INSERT INTO others VALUES
    (10, '0', '00000', repeat('0', 70)::bit(70), '', '', '0', '::1', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05',
     '''a'':1A,2 ''it''''s'':3', '', 'Top.Science', '0-393-04002-X',
     'empty', '(,5]', '[1.5,)', '[2024-01-01,2024-02-01)', '[2024-01-01 00:00:00,)', '(,2024-01-01 00:00:00+00]', '[1.5,2.5)',
     '{[1,3),[5,7)}', '(0,0)', '{1,-1,0}', '[(0,0),(1,1)]', '((1,1),(0,0))', '[(0,0),(1,1),(2,0)]', '((0,0),(1,1),(2,0))',
     '<(1,2),3>', 'fat & (rat | cat)', '16/B374D848', '("a b",1)', 'pg_class', '$.a[*]', '18446744073709551615', '7');
INSERT INTO others VALUES
    (11, '1', '11111', repeat('1', 70)::bit(70), '00000000000000000001', '1000000000', '1', '192.168.0.1', '2001:db8::/32',
     'ff:ff:ff:ff:ff:ff', 'ff:ff:ff:ff:ff:ff:ff:ff', '', '"k \"q\""=>"v \\ x", e=>""', '', NULL,
     '(,)', '[1,1]', '(1.5,2.5]', '(,)', '["2024-01-01 00:00:00","2024-01-02 00:00:00.5")', '(,)', 'empty',
     '{}', '(1e300,-0.1)', '{0,1,2.5}', '[(1.5,2),(3,4)]', '((3,4),(1,2))', '((0,0),(1,1),(2,0))', '((0.5,0.25),(1,1))',
     '<(0,0),0>', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO others (id, bvu, bv, ine) VALUES (12, '1010101010101010101', '1', '::ffff:1.2.3.4/96'), (13, '1', '0', '10.0.0.0/24');
UPDATE others SET b1 = NULL WHERE id = 1;

INSERT INTO arrays VALUES
    (10, '{1,NULL,-32768}', '{}', '{9223372036854775807}', '{1.50,NULL,100}', '{1.5,-0.1,NULL}', '{1.5,NaN,-Infinity}', '{0.1,1e300}', '{t,f,NULL}',
     '{"a \"q\" \\ b",NULL,"NULL","",",{}"}', '{ab}', '{a}', '{Ci}', ARRAY['\x00ff'::bytea, NULL], '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}',
     ARRAY['{"a" : 1}'::json, NULL], ARRAY['[1, 2]'::jsonb], '{sad,"so so"}', '{2024-02-29,1969-12-31}', '{12:34:56.789012}', '{12:34:56+02}',
     '{"2024-02-29 12:34:56.789012",NULL}', '{"2024-02-29 12:34:56"}', '{"2024-02-29 12:34:56.789012+02"}', '{10.0.0.1,::1/64}',
     '{"[1,3)",empty}', '{"[2024-01-01 00:00:00+00,)"}', '{1,4294967295}', '{"1 day"}', '{1.25}', '{"(1,2)"}', ARRAY['<a/>'::xml], '{10101}', '{a}',
     '{1.5}', ARRAY['a=>1'::hstore], ARRAY[ROW('s', 1)::address], '{n}');
INSERT INTO arrays (id, i, t, bo) VALUES (11, '{{1,2},{3,4}}', '{{a,b},{c,NULL}}', '{{t},{f}}');
INSERT INTO arrays (id, i, t) VALUES (12, '[2:3]={1,2}', '{}');
UPDATE arrays SET i = NULL WHERE id = 1;

INSERT INTO required VALUES
    (1, 1, 2, 3.5, 4.5, 1.5, 2.5, '1.25', true, 't', 'v', '\x01', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{}', 'sad', '2024-02-29',
     '12:34:56', '12:34:56.7', '12:34:56+00', '2024-02-29 12:34:56', '2024-02-29 12:34:56.7', '2024-02-29 12:34:56+00', '1 day', '1',
     '10101', '10.0.0.1', '[1,2)', '(1,2)', '((1,1),(0,0))', '{1}', '{a}', 'a=>1', '<a/>', 'a', 'l', 1.5, 'c', 'ci', 'a.b', 7, '[1,2)');
UPDATE required SET si = 2 WHERE id = 1;
UPDATE required SET id = 2 WHERE id = 1;
DELETE FROM required WHERE id = 2;

INSERT INTO defaults (id) VALUES (10);
UPDATE defaults SET a = NULL WHERE id = 10;
UPDATE defaults SET a = 6, b = 'y' WHERE id = 10;
DELETE FROM defaults WHERE id = 10;

INSERT INTO "full" VALUES (10, 'ten', 10.00, '2024-01-01 00:00:00.5+00', repeat('0123456789', 300));
UPDATE "full" SET t = 'eleven', n = NULL WHERE id = 10;
UPDATE "full" SET id = 11 WHERE id = 10;
UPDATE "full" SET t = t WHERE id = 11;
DELETE FROM "full" WHERE id = 11;

INSERT INTO pair VALUES ('b', 1, 'c');
UPDATE pair SET c = 'd' WHERE a = 1;
UPDATE pair SET b = 'e' WHERE a = 1;
DELETE FROM pair WHERE a = 1;

INSERT INTO by_index VALUES (1, 'a', 't');
UPDATE by_index SET t = 'u' WHERE id = 1;
UPDATE by_index SET code = 'b' WHERE id = 1;
UPDATE by_index SET id = 2 WHERE id = 1;
DELETE FROM by_index WHERE id = 2;

INSERT INTO keyless VALUES (10, 'ten'), (10, 'ten');
UPDATE keyless SET a = 11 WHERE a = 10;
DELETE FROM keyless WHERE a = 11;

INSERT INTO toast VALUES (
    1, 1, repeat('t', 3000), repeat('v', 3000), decode(repeat('00ff', 1500), 'hex'),
    (SELECT jsonb_agg(i) FROM generate_series(1, 800) i), ('<a>' || repeat('x', 3000) || '</a>')::xml,
    ARRAY[repeat('a', 3000)], (SELECT array_agg(i) FROM generate_series(1, 800) i), (SELECT array_agg(i::bigint) FROM generate_series(1, 400) i),
    ARRAY[decode(repeat('ff', 3000), 'hex')], (SELECT array_agg('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid) FROM generate_series(1, 200) i),
    (SELECT array_agg('2024-01-01'::date) FROM generate_series(1, 800) i), hstore('k', repeat('h', 3000)),
    (SELECT string_agg((i % 10)::text, '')::numeric FROM generate_series(1, 9000) i), repeat('10', 12000)::varbit,
    (SELECT string_agg('w' || i, ' ')::tsvector FROM generate_series(1, 400) i), repeat('c', 3000),
    (SELECT polygon(array_to_string(array_agg(format('(%s,%s)', i, i)), ',')) FROM generate_series(1, 200) i), repeat('r', 3000));
UPDATE toast SET n = 2 WHERE id = 1;
UPDATE toast SET id = 2 WHERE id = 1;
DELETE FROM toast WHERE id = 2;

BEGIN;
INSERT INTO pair VALUES ('x', 1, NULL);
INSERT INTO keyless VALUES (NULL, NULL);
DELETE FROM pair WHERE a = 1;
COMMIT;

TRUNCATE pair;
TRUNCATE keyless, "full";
INSERT INTO pair VALUES ('end', 99, NULL);
