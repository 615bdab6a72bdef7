"""Libraries of scripting languages, each called by a small program of ours."""

import json
import sys

import packages
from bodies import ATTACHMENT_NAME, BOUNDARY, DATE
from relay import REVERSE_PATH

from .driver import PROGRAMS, Call, Driver, attachment_file, peer_environment, program, raw_file

NODEMAILER = "nodemailer@10.6.0"


def nodemailer(message, peer, directory):
    envelope = {"from": REVERSE_PATH, "to": message.forward_paths, "use8BitMime": message.eight_bit}
    if message.attachment:
        parts = composed_by_nodemailer(message, directory)
    else:
        parts = {"raw": raw_file(message, directory)}
    spec = directory / f"{message.identifier}.json"
    spec.write_text(json.dumps({"envelope": envelope, **parts}))
    modules = packages.need_npm(NODEMAILER)
    command = ["node", str(PROGRAMS / "nodemailer_client.js"), str(modules), str(spec)]
    return Call(command, environment=peer_environment(message, peer))


def composed_by_nodemailer(message, directory):
    """The options that pin what it would make new on each run."""
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


PERL = {
    "/usr/share/perl/5.36/Net/SMTP.pm": "perl",
    "/usr/share/perl5/IO/Socket/SSL.pm": "libio-socket-ssl-perl",
    "/usr/share/perl5/Authen/SASL.pm": "libauthen-sasl-perl",
}
AIOSMTPLIB = "/usr/lib/python3/dist-packages/aiosmtplib/__init__.py"

DRIVERS = [
    Driver("Python smtplib", "Python scripts", program(sys.executable, str(PROGRAMS / "smtplib_client.py"))),
    Driver(
        "aiosmtplib",
        "Python web services",
        # Debian's Python, to which the package belongs.
        program("/usr/bin/python3", str(PROGRAMS / "aiosmtplib_client.py")),
        {AIOSMTPLIB: "python3-aiosmtplib"},
    ),
    Driver("Perl Net::SMTP", "old monitoring and scripts", program("perl", str(PROGRAMS / "net_smtp.pl")), PERL),
    Driver("Ruby net/smtp", "Ruby on Rails, GitLab", program("ruby", str(PROGRAMS / "net_smtp.rb")), {"ruby": "ruby"}),
    Driver(
        "nodemailer",
        "Node.js services",
        nodemailer,
        {"node": "nodejs", "npm": "npm"},
        prepare=lambda: packages.need_npm(NODEMAILER),
    ),
]
