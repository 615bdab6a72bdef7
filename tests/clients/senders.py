"""How each client of tests/clients/run is called: a function from a message and a port to a command.

A client that sends what it is given gets the raw message. s-nail and, for the attachment, nodemailer compose by
themselves; what they would make new on each run is pinned: s-nail by SOURCE_DATE_EPOCH, which fixes its date,
Message-ID and boundary, nodemailer by its options. So nothing has to be normalised before comparing.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from bodies import ATTACHMENT_NAME, BOUNDARY, DATE
from relay import LOOPBACK, REVERSE_PATH

HERE = Path(__file__).resolve().parent
EHLO_NAME = "client.example"


@dataclass
class Call:
    """A command with what it reads from standard input and what is added to its environment."""

    command: list
    stdin: bytes = b""
    environment: dict = field(default_factory=dict)


def raw_file(message, directory):
    path = directory / f"{message.identifier}.eml"
    path.write_bytes(message.raw())
    return str(path)


def swaks(message, port, directory):
    command = ["swaks", "--server", LOOPBACK, "--port", str(port), "--helo", EHLO_NAME, "--pipeline"]
    command += ["--from", REVERSE_PATH, "--to", ",".join(message.forward_paths)]
    return Call([*command, "--data", "@" + raw_file(message, directory), "--silent", "2"])


def curl(message, port, directory):
    command = ["curl", "-q", "-sS", "--noproxy", "*", "--max-time", "120", "--url"]
    command += [f"smtp://{LOOPBACK}:{port}/{EHLO_NAME}", "--mail-from", REVERSE_PATH]
    for forward_path in message.forward_paths:
        command += ["--mail-rcpt", forward_path]
    return Call([*command, "--upload-file", raw_file(message, directory)])


def msmtp(message, port, directory):
    # It would add a Date and a Message-ID of its own, new on each run.
    command = ["msmtp", f"--host={LOOPBACK}", f"--port={port}", "--auth=off", "--tls=off", "--timeout=60"]
    command += [f"--domain={EHLO_NAME}", f"--from={REVERSE_PATH}", "--set-date-header=off"]
    command += ["--set-msgid-header=off", "--"]
    raw = Path(raw_file(message, directory)).read_bytes()
    return Call([*command, *message.forward_paths], stdin=raw.replace(b"\r\n", b"\n"))


def smtplib(message, port, directory):
    return Call([sys.executable, str(HERE / "smtplib_client.py"), *driver_words(message, port, directory)])


def net_smtp(message, port, directory):
    return Call(["perl", str(HERE / "net_smtp.pl"), *driver_words(message, port, directory)])


def driver_words(message, port, directory):
    eight_bit = "1" if message.eight_bit else "0"
    return [str(port), eight_bit, raw_file(message, directory), REVERSE_PATH, *message.forward_paths]


def nodemailer(modules):
    def call(message, port, directory):
        envelope = {"from": REVERSE_PATH, "to": message.forward_paths, "use8BitMime": message.eight_bit}
        if message.attachment:
            parts = composed_by_nodemailer(message, directory)
        else:
            parts = {"raw": raw_file(message, directory)}
        spec = directory / f"{message.identifier}.json"
        spec.write_text(json.dumps({"envelope": envelope, **parts}))
        return Call(["node", str(HERE / "nodemailer_client.js"), str(modules), str(port), str(spec)])

    return call


def composed_by_nodemailer(message, directory):
    return {
        "from": REVERSE_PATH,
        "to": message.forward_paths[0],
        "subject": message.subject,
        "text": message.text,
        "messageId": message.message_id,
        "date": DATE,
        "baseBoundary": BOUNDARY,
        "headers": {"X-Id": message.identifier},
        "attachments": [{"filename": ATTACHMENT_NAME, "path": attachment_file(message, directory)}],
    }


def attachment_file(message, directory):
    path = directory / ATTACHMENT_NAME
    path.write_bytes(message.attachment)
    return str(path)


def s_nail(message, port, directory):
    command = ["s-nail", "-:/", "-S", f"mta=smtp://{LOOPBACK}:{port}", "-S", "smtp-auth=none", "-S", "nosave"]
    command += ["-S", f"hostname={EHLO_NAME}", "-S", f"from={REVERSE_PATH}"]
    command += ["-S", "ttycharset=utf-8", "-S", "mime-encoding=8bit"]
    environment = {"SOURCE_DATE_EPOCH": str(message.epoch)}
    if message.body == "long-line":
        return Call([*command, *resend(message, directory)], environment=environment)
    command += ["-C", message.x_id(), "-s", message.subject]
    if message.attachment:
        command += ["-a", attachment_file(message, directory)]
    return Call([*command, *message.forward_paths], stdin=message.text.encode(), environment=environment)


def resend(message, directory):
    """s-nail would encode a long line if it composed: `Resend` passes a message of an mbox on as it is."""
    mailbox = directory / f"{message.identifier}.mbox"
    mailbox.write_bytes(b"From a Mon Jan  1 10:00:00 2024\n" + message.raw().replace(b"\r\n", b"\n") + b"\n")
    return ["-R", "-Y", f"Resend 1 {' '.join(message.forward_paths)}", "-Y", "exit", "-f", str(mailbox)]


# Command -> Debian package.
COMMANDS = {
    "swaks": "swaks",
    "curl": "curl",
    "msmtp": "msmtp",
    "perl": "perl",
    "node": "nodejs",
    "s-nail": "s-nail",
}
NODEMAILER = "nodemailer@10.6.0"


def senders(modules):
    """Name of the client, as in the table -> its function."""
    return {
        "swaks": swaks,
        "curl": curl,
        "msmtp": msmtp,
        "smtplib": smtplib,
        "Net::SMTP": net_smtp,
        "nodemailer": nodemailer(modules),
        "s-nail": s_nail,
    }
