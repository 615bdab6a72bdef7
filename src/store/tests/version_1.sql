-- A queue as version 1 left it, two messages queued: one body in its row, one in a file.
PRAGMA application_id = 1865627189;
PRAGMA user_version = 1;
CREATE TABLE message (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    lane TEXT NOT NULL,
    next_attempt INTEGER NOT NULL,
    arrival INTEGER NOT NULL,
    client TEXT NOT NULL,
    hello TEXT NOT NULL,
    reverse_path TEXT NOT NULL,
    eight_bit INTEGER NOT NULL,
    smtputf8 INTEGER NOT NULL,
    ret TEXT,
    envid TEXT,
    size INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    body_in_file INTEGER NOT NULL,
    is_notice INTEGER NOT NULL,
    delay_told INTEGER NOT NULL DEFAULT 0,
    hold_reason TEXT
);
CREATE INDEX message_due ON message (lane, next_attempt) WHERE hold_reason IS NULL;
CREATE TABLE recipient (
    message INTEGER NOT NULL,
    position INTEGER NOT NULL,
    forward_path TEXT NOT NULL,
    notify TEXT,
    orcpt TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_attempt INTEGER NOT NULL,
    last_reply TEXT,
    PRIMARY KEY (message, position)
) WITHOUT ROWID;
CREATE TABLE attempt (
    id TEXT NOT NULL,
    position INTEGER NOT NULL,
    number INTEGER NOT NULL,
    time INTEGER NOT NULL,
    disposition TEXT NOT NULL,
    reply TEXT NOT NULL,
    advice TEXT,
    PRIMARY KEY (id, position, number)
) WITHOUT ROWID;
CREATE TABLE body (
    message INTEGER PRIMARY KEY,
    data BLOB NOT NULL
);
CREATE TABLE history (
    sequence INTEGER PRIMARY KEY,
    settled INTEGER NOT NULL,
    id TEXT NOT NULL,
    position INTEGER NOT NULL,
    lane TEXT NOT NULL,
    arrival INTEGER NOT NULL,
    client TEXT NOT NULL,
    reverse_path TEXT NOT NULL,
    forward_path TEXT NOT NULL,
    disposition TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    reply TEXT NOT NULL,
    advice TEXT,
    size INTEGER NOT NULL,
    message_id TEXT NOT NULL
);
CREATE INDEX history_settled ON history (settled);
CREATE INDEX history_id ON history (id);
INSERT INTO message (sequence, id, lane, next_attempt, arrival, client, hello, reverse_path,
    eight_bit, smtputf8, size, message_id, body_in_file, is_notice) VALUES
    (1, '000000000000000001', 'lane', 1, 1, '127.0.0.1', 'printer', 'a@b.example', 0, 0, 5, '<1@b>', 0, 0),
    (2, '000000000000000002', 'lane', 2, 2, '127.0.0.1', 'printer', 'a@b.example', 0, 0, 7, '<2@b>', 1, 0);
INSERT INTO recipient (message, position, forward_path, next_attempt) VALUES
    (1, 0, 'c@d.example', 1), (2, 0, 'c@d.example', 2);
INSERT INTO body (message, data) VALUES (1, CAST('small' AS BLOB));
