//! What MariaDB's own replication passes. `$` begins the name of every table, and of what else a schema holds.

/// Tables, what is done to them, and what has to be equal afterwards.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scenario {
    pub(super) tables: &'static str,
    pub(super) steps: &'static [&'static str],
    pub(super) compared: &'static [&'static str],
    /// Needs what Rowbridge makes for no table: foreign keys that act.
    pub(super) needs_schema: bool,
}

const fn scenario(
    tables: &'static str,
    steps: &'static [&'static str],
    compared: &'static [&'static str],
) -> Scenario {
    Scenario { tables, steps, compared, needs_schema: false }
}

pub(super) const SCENARIOS: &[Scenario] = &[
    // REPLACE, INSERT ... ON DUPLICATE KEY UPDATE, INSERT IGNORE.
    scenario(
        "CREATE TABLE `$replaced` (id INT PRIMARY KEY AUTO_INCREMENT, u VARCHAR(20) UNIQUE, v INT DEFAULT 5, n INT);
         INSERT INTO `$replaced` (id, u) SELECT seq, CONCAT('u', seq) FROM seq_1_to_40",
        &[
            "REPLACE INTO `$replaced` (id, u, n) VALUES (1, 'u1', 1), (2, 'u3', 2), (50, 'u4', 3), (51, 'new', 4)",
            "INSERT INTO `$replaced` (id, u, n) VALUES (5, 'x', 9) ON DUPLICATE KEY UPDATE n = VALUES(n), v = v + 1",
            "INSERT INTO `$replaced` (id, u) VALUES (999, 'u6'), (998, 'u7') ON DUPLICATE KEY UPDATE id = id + 1000, u = CONCAT(u, '!')",
            "INSERT IGNORE INTO `$replaced` (id, u) VALUES (8, 'none'), (200, 'u9'), (201, 'u201')",
            "SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'; INSERT INTO `$replaced` (id, u) VALUES (0, 'zero'), (-7, 'minus')",
            "INSERT INTO `$replaced` (u) VALUES ('auto one'), ('auto two'); REPLACE INTO `$replaced` SELECT id, u, v + 1, n FROM `$replaced` WHERE id BETWEEN 1 AND 20",
            "UPDATE IGNORE `$replaced` SET u = 'u10' WHERE id BETWEEN 10 AND 14",
        ],
        &["replaced"],
    ),
    // One statement on several tables.
    scenario(
        "CREATE TABLE `$left` (id INT PRIMARY KEY, v INT); CREATE TABLE `$right` (id INT, w INT, KEY (id));
         INSERT INTO `$left` SELECT seq, seq FROM seq_1_to_60; INSERT INTO `$right` SELECT seq DIV 2, seq FROM seq_1_to_60",
        &[
            "UPDATE `$left` l JOIN `$right` r ON l.id = r.id SET l.v = l.v + r.w, r.w = -r.w WHERE l.id < 10",
            "DELETE l, r FROM `$left` l JOIN `$right` r ON l.id = r.id WHERE l.id BETWEEN 15 AND 18",
            "DELETE FROM `$right` USING `$right` JOIN `$left` l ON l.id = `$right`.id WHERE l.v % 7 = 0",
            "UPDATE `$left` SET v = 0 ORDER BY id DESC LIMIT 5; DELETE FROM `$left` ORDER BY v, id LIMIT 3",
            "INSERT INTO `$left` SELECT id + 1000, v FROM `$left`",
        ],
        &["left", "right"],
    ),
    scenario(
        "CREATE TABLE `$loaded` (id INT PRIMARY KEY, v VARCHAR(40), n INT)",
        &[
            "SELECT seq, CONCAT('row ', seq), NULL FROM seq_1_to_700 INTO OUTFILE '$load.txt'",
            "LOAD DATA INFILE '$load.txt' INTO TABLE `$loaded`",
            "UPDATE `$loaded` SET v = 'changed' WHERE id % 10 = 0",
            "LOAD DATA INFILE '$load.txt' IGNORE INTO TABLE `$loaded`",
            "LOAD DATA INFILE '$load.txt' REPLACE INTO TABLE `$loaded` (id, v, @n) SET n = id * 2",
        ],
        &["loaded"],
    ),
    // Keys that change in case, accent or trailing spaces only, which a collation takes for the same.
    scenario(
        "CREATE TABLE `$cased` (k VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v INT);
         CREATE TABLE `$two` (a VARCHAR(9) COLLATE utf8mb4_unicode_ci, b INT, v INT, PRIMARY KEY (a, b));
         INSERT INTO `$cased` VALUES ('abc', 1), ('resume', 2), ('x', 3), ('swap', 4), ('PAWS', 5);
         INSERT INTO `$two` VALUES ('a', 1, 1), ('a', 2, 2), ('b', 1, 3)",
        &[
            "UPDATE `$cased` SET k = 'ABC' WHERE k = 'abc'; UPDATE `$cased` SET k = 'résumé' WHERE k = 'resume'",
            "REPLACE INTO `$cased` VALUES ('aBc', 10); INSERT INTO `$cased` VALUES ('X', 0) ON DUPLICATE KEY UPDATE k = VALUES(k)",
            "UPDATE `$cased` SET k = 'x ' WHERE k = 'x'; UPDATE `$cased` SET v = 7 WHERE k = 'X'",
            "BEGIN; UPDATE `$cased` SET k = 'tmp' WHERE k = 'swap'; UPDATE `$cased` SET k = 'Swap' WHERE k = 'paws'; UPDATE `$cased` SET k = 'paws' WHERE k = 'TMP'; COMMIT",
            "BEGIN; DELETE FROM `$cased` WHERE k = 'abc'; INSERT INTO `$cased` VALUES ('AbC', 11); UPDATE `$cased` SET k = 'abC' WHERE v = 11; ROLLBACK",
            "BEGIN; DELETE FROM `$cased` WHERE k = 'abc'; INSERT INTO `$cased` VALUES ('AbC', 11); UPDATE `$cased` SET k = 'abC' WHERE v = 11; COMMIT",
            "UPDATE `$two` SET a = UPPER(a); UPDATE `$two` SET a = 'ä' WHERE b = 2; DELETE FROM `$two` WHERE a = 'B'",
        ],
        &["cased", "two"],
    ),
    scenario(
        "CREATE TABLE `$unique` (id INT PRIMARY KEY, u INT UNIQUE, w VARCHAR(9), z INT, UNIQUE (w, z));
         INSERT INTO `$unique` SELECT seq, seq, CONCAT('w', seq), seq % 3 FROM seq_1_to_40",
        &[
            "BEGIN; UPDATE `$unique` SET u = -1 WHERE id = 1; UPDATE `$unique` SET u = 1 WHERE id = 2; UPDATE `$unique` SET u = 2 WHERE id = 1; COMMIT",
            "BEGIN; DELETE FROM `$unique` WHERE id = 3; INSERT INTO `$unique` VALUES (103, 3, 'w3', 0); COMMIT",
            "BEGIN; UPDATE `$unique` SET u = NULL WHERE id = 4; UPDATE `$unique` SET u = 4 WHERE id = 5; UPDATE `$unique` SET u = 5 WHERE id = 4; COMMIT",
            "BEGIN; UPDATE `$unique` SET u = 999 WHERE id = 6; UPDATE `$unique` SET u = 6, id = 107 WHERE id = 7; UPDATE `$unique` SET u = 7 WHERE id = 6; COMMIT",
            "UPDATE `$unique` SET u = u + 1 ORDER BY u DESC; UPDATE `$unique` SET id = id - 1 ORDER BY id",
            "UPDATE `$unique` SET w = 'same', z = id WHERE id > 20; UPDATE `$unique` SET z = z + 1 WHERE w = 'same' ORDER BY z DESC",
            "REPLACE INTO `$unique` VALUES (10, 12, 'w14', 2)",
        ],
        &["unique"],
    ),
    // InnoDB writes what its foreign keys do to other rows into no log: the copy's own have to do the same.
    Scenario {
        needs_schema: true,
        ..scenario(
            "CREATE TABLE `$parents` (id INT PRIMARY KEY, code VARCHAR(9) NOT NULL UNIQUE);
             CREATE TABLE `$children` (id INT PRIMARY KEY, parent INT, code VARCHAR(9), v INT,
                CONSTRAINT `$c1` FOREIGN KEY (parent) REFERENCES `$parents` (id) ON DELETE CASCADE ON UPDATE CASCADE,
                CONSTRAINT `$c2` FOREIGN KEY (code) REFERENCES `$parents` (code) ON DELETE SET NULL ON UPDATE SET NULL);
             CREATE TABLE `$grandchildren` (id INT PRIMARY KEY, child INT,
                CONSTRAINT `$c3` FOREIGN KEY (child) REFERENCES `$children` (id) ON DELETE CASCADE ON UPDATE CASCADE);
             INSERT INTO `$parents` SELECT seq, CONCAT('c', seq) FROM seq_1_to_30;
             INSERT INTO `$children` SELECT seq, 1 + seq % 30, CONCAT('c', 1 + seq % 29), seq FROM seq_1_to_200;
             INSERT INTO `$grandchildren` SELECT seq, 1 + seq % 200 FROM seq_1_to_600",
            &[
                "DELETE FROM `$parents` WHERE id IN (3, 4); UPDATE `$parents` SET id = id + 100 WHERE id < 3",
                "UPDATE `$parents` SET code = CONCAT(code, '!') WHERE id BETWEEN 5 AND 7",
                "BEGIN; INSERT INTO `$parents` VALUES (50, 'new'); INSERT INTO `$children` VALUES (500, 50, 'new', 1);
                 INSERT INTO `$grandchildren` VALUES (5000, 500); UPDATE `$children` SET id = 501 WHERE id = 500;
                 UPDATE `$parents` SET id = 51 WHERE id = 50; COMMIT",
                "BEGIN; DELETE FROM `$parents` WHERE id = 51; INSERT INTO `$parents` VALUES (51, 'again'); COMMIT",
                "REPLACE INTO `$parents` VALUES (8, 'c8'); DELETE FROM `$children` WHERE v % 9 = 0",
                "BEGIN; DELETE FROM `$parents` WHERE id = 10; UPDATE `$parents` SET id = 10 WHERE id = 11;
                 UPDATE `$parents` SET id = 11 WHERE id = 12; COMMIT",
                "BEGIN; DELETE FROM `$parents`; ROLLBACK",
            ],
            &["parents", "children", "grandchildren"],
        )
    },
    // The triggers are at both ends, where they leave Rowbridge's own writes alone.
    scenario(
        "CREATE TABLE `$watched` (id INT PRIMARY KEY, v VARCHAR(40)); CREATE TABLE `$audit` (n INT PRIMARY KEY AUTO_INCREMENT, what VARCHAR(60));
         CREATE TRIGGER `$before` BEFORE INSERT ON `$watched` FOR EACH ROW SET NEW.v = IF(USER() LIKE 'rowbridge@%', NEW.v, CONCAT(NEW.v, ' seen'));
         CREATE TRIGGER `$after` AFTER UPDATE ON `$watched` FOR EACH ROW
            INSERT INTO `$audit` (what) SELECT CONCAT(OLD.v, ' to ', NEW.v) FROM DUAL WHERE USER() NOT LIKE 'rowbridge@%';
         CREATE TRIGGER `$gone` AFTER DELETE ON `$watched` FOR EACH ROW
            INSERT INTO `$audit` (what) SELECT CONCAT('no more ', OLD.v) FROM DUAL WHERE USER() NOT LIKE 'rowbridge@%';
         INSERT INTO `$watched` SELECT seq, seq FROM seq_1_to_30",
        &[
            "UPDATE `$watched` SET v = 'changed' WHERE id < 5; INSERT INTO `$watched` VALUES (100, 'late')",
            "DELETE FROM `$watched` WHERE id % 3 = 0; REPLACE INTO `$watched` VALUES (1, 'replaced')",
            "BEGIN; UPDATE `$watched` SET v = 'never'; ROLLBACK",
        ],
        &["watched", "audit"],
    ),
    scenario(
        "CREATE TABLE `$generated` (id INT PRIMARY KEY, a INT, s INT AS (a * 2) STORED, b VARCHAR(9), l VARCHAR(20) AS (CONCAT(b, '/', a)) VIRTUAL, z INT);
         CREATE TABLE `$stamped` (id INT PRIMARY KEY, v INT, made TIMESTAMP(6) NULL DEFAULT CURRENT_TIMESTAMP(6),
            changed DATETIME(3) DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), hidden INT INVISIBLE DEFAULT 3);
         INSERT INTO `$generated` (id, a, b) SELECT seq, seq, 'b' FROM seq_1_to_20; INSERT INTO `$stamped` (id, v) SELECT seq, 0 FROM seq_1_to_20",
        &[
            "UPDATE `$generated` SET a = a + 1, z = s WHERE id < 10; INSERT INTO `$generated` (id, a, b, z) VALUES (50, NULL, 'n', 1); UPDATE `$generated` SET id = 60 WHERE id = 50",
            "UPDATE `$stamped` SET v = 1 WHERE id < 5; UPDATE `$stamped` SET v = 2, changed = changed WHERE id BETWEEN 5 AND 9; UPDATE `$stamped` SET hidden = 9 WHERE id = 11",
            "REPLACE INTO `$stamped` (id, v, hidden) VALUES (1, 8, 8), (90, 9, 9)",
        ],
        &["generated", "stamped"],
    ),
    scenario(
        "CREATE TABLE `$saved` (id INT PRIMARY KEY, v VARCHAR(20)); CREATE TABLE `$aria` (id INT PRIMARY KEY, v INT) ENGINE = Aria;
         INSERT INTO `$saved` VALUES (1, 'a'); INSERT INTO `$aria` VALUES (1, 1)",
        &[
            "BEGIN; INSERT INTO `$saved` VALUES (2, 'stays'); SAVEPOINT a; INSERT INTO `$saved` VALUES (3, 'goes'); UPDATE `$saved` SET v = 'goes';
             SAVEPOINT b; DELETE FROM `$saved`; ROLLBACK TO a; INSERT INTO `$saved` VALUES (4, 'stays'); SAVEPOINT c;
             UPDATE `$saved` SET v = 'released' WHERE id = 1; RELEASE SAVEPOINT c; COMMIT; BEGIN; INSERT INTO `$saved` VALUES (5, 'never'); ROLLBACK",
            "BEGIN; INSERT INTO `$saved` VALUES (6, 'goes'); INSERT INTO `$aria` VALUES (2, 2); UPDATE `$aria` SET v = 10; ROLLBACK",
            "BEGIN; INSERT INTO `$aria` VALUES (3, 3); INSERT INTO `$saved` VALUES (7, 'stays'); COMMIT; DELETE FROM `$aria` WHERE id = 1",
        ],
        &["saved", "aria"],
    ),
    scenario(
        "CREATE TABLE `$emptied` (id INT PRIMARY KEY, v INT); CREATE TABLE `$old` (id INT PRIMARY KEY, v VARCHAR(9));
         CREATE TABLE `$one` (id INT PRIMARY KEY, v VARCHAR(9)); CREATE TABLE `$other` (id INT PRIMARY KEY, v VARCHAR(9));
         INSERT INTO `$emptied` SELECT seq, seq FROM seq_1_to_20; INSERT INTO `$old` SELECT seq, 'old' FROM seq_1_to_20;
         INSERT INTO `$one` SELECT seq, 'one' FROM seq_1_to_20; INSERT INTO `$other` SELECT seq, 'other' FROM seq_11_to_30",
        &[
            "TRUNCATE TABLE `$emptied`; INSERT INTO `$emptied` VALUES (1, 100); UPDATE `$emptied` SET v = 101",
            "RENAME TABLE `$old` TO `$renamed`; INSERT INTO `$renamed` VALUES (50, 'new'); UPDATE `$renamed` SET v = 'changed' WHERE id < 5",
            "RENAME TABLE `$one` TO `$between`, `$other` TO `$one`, `$between` TO `$other`",
            "UPDATE `$one` SET v = 'swapped' WHERE id % 2 = 0; DELETE FROM `$other` WHERE id = 3; INSERT INTO `$one` VALUES (70, 'more')",
            "CREATE TABLE `$selected` (PRIMARY KEY (id)) SELECT id, v, id * 2 AS w FROM `$renamed`; UPDATE `$selected` SET w = 0 WHERE id = 1",
            "CREATE TABLE `$alike` LIKE `$selected`; INSERT INTO `$alike` SELECT * FROM `$selected` WHERE id > 5",
            "CREATE OR REPLACE TABLE `$alike` LIKE `$selected`; INSERT INTO `$alike` SELECT seq, 'again', 7 FROM seq_1_to_9",
        ],
        &["emptied", "renamed", "one", "other", "selected", "alike"],
    ),
    scenario(
        "CREATE TABLE `$keyless` (a INT, b VARCHAR(20), c DOUBLE, d FLOAT, e BLOB, f DECIMAL(6,3), g DATETIME(2), h BIT(4));
         INSERT INTO `$keyless` SELECT seq % 3, 'same', 0.1, 0.1, x'00ff', 1.5, '2024-01-01', b'1' FROM seq_1_to_15;
         INSERT INTO `$keyless` (a) VALUES (NULL), (NULL), (7)",
        &[
            "DELETE FROM `$keyless` WHERE a = 1 LIMIT 1; UPDATE `$keyless` SET b = 'changed' WHERE a = 2 LIMIT 1",
            "DELETE FROM `$keyless` WHERE a IS NULL LIMIT 1; UPDATE `$keyless` SET a = a + 1, c = c * 3, d = d * 3",
            "INSERT INTO `$keyless` SELECT * FROM `$keyless` WHERE a = 2; DELETE FROM `$keyless` WHERE b = 'changed'",
            "UPDATE `$keyless` SET e = x'01', f = -f, g = g + INTERVAL 10 MICROSECOND, h = b'1010' WHERE a = 3 LIMIT 2",
            "UPDATE `$keyless` SET b = 'SAME' WHERE a = 1 LIMIT 1; DELETE FROM `$keyless` WHERE b = 'same' LIMIT 1",
        ],
        &["keyless"],
    ),
    scenario(
        "CREATE TABLE `$ranges` (id INT PRIMARY KEY, v INT) PARTITION BY RANGE (id)
            (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20), PARTITION p2 VALUES LESS THAN MAXVALUE);
         CREATE TABLE `$hashed` (id INT, v INT, PRIMARY KEY (id)) PARTITION BY HASH (id) PARTITIONS 4;
         CREATE TABLE `$aside` (id INT PRIMARY KEY, v INT);
         INSERT INTO `$ranges` SELECT seq, seq FROM seq_1_to_40; INSERT INTO `$hashed` SELECT seq, seq FROM seq_1_to_40;
         INSERT INTO `$aside` VALUES (12, 112), (13, 113)",
        &[
            "UPDATE `$ranges` SET id = id + 100 WHERE id IN (5, 15, 25); UPDATE `$hashed` SET id = id + 101, v = -v WHERE id < 10",
            "ALTER TABLE `$ranges` TRUNCATE PARTITION p0; INSERT INTO `$ranges` VALUES (1, 1)",
            "ALTER TABLE `$ranges` EXCHANGE PARTITION p1 WITH TABLE `$aside`; UPDATE `$ranges` SET v = 0 WHERE id = 12; UPDATE `$aside` SET v = 1 WHERE id = 16",
            "ALTER TABLE `$ranges` REORGANIZE PARTITION p0 INTO (PARTITION pa VALUES LESS THAN (5), PARTITION pb VALUES LESS THAN (10)); INSERT INTO `$ranges` VALUES (6, 6)",
            "ALTER TABLE `$ranges` DROP PARTITION pb; ALTER TABLE `$hashed` COALESCE PARTITION 2; UPDATE `$hashed` SET v = 9 WHERE id = 20",
        ],
        &["ranges", "hashed", "aside"],
    ),
    scenario(
        "CREATE TABLE `$we\"ird ``'tab.le` (`select` INT PRIMARY KEY, `col \"a``b'` VARCHAR(20), `колонка` INT, `a.b\\c` INT, `?` INT, `:x` INT);
         CREATE TABLE `$таблица` (`ключ` VARCHAR(20) PRIMARY KEY, `Ünïcode` TEXT);
         INSERT INTO `$we\"ird ``'tab.le` VALUES (1, 'a', 1, 1, 1, 1), (2, NULL, 2, 2, 2, 2); INSERT INTO `$таблица` VALUES ('й', 'ß'), ('日本', '😀')",
        &[
            "UPDATE `$we\"ird ``'tab.le` SET `col \"a``b'` = 'b''\\\\', `колонка` = 7, `?` = 8 WHERE `select` = 1; INSERT INTO `$we\"ird ``'tab.le` (`select`, `:x`) VALUES (3, 3)",
            "UPDATE `$таблица` SET `ключ` = 'Й', `Ünïcode` = NULL WHERE `ключ` = 'й'; INSERT INTO `$таблица` VALUES ('key', REPEAT('é', 3000)); DELETE FROM `$таблица` WHERE `ключ` = '日本'",
        ],
        &["we\"ird `'tab.le", "таблица"],
    ),
];
