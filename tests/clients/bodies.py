"""The messages of tests/clients/run. Everything a client might make new on each run is given here."""

import base64
import random
import textwrap
from dataclasses import dataclass

from relay import CANARY, FORWARD_PATH, REVERSE_PATH

DATE = "Mon, 01 Jan 2024 10:00:00 +0000"
EPOCH = 1_704_103_200
BOUNDARY = "boundary-7f3a"
ATTACHMENT_NAME = "scan.bin"
ATTACHMENT_OCTETS = 10_000_000
LONG_LINE_OCTETS = 20_000


@dataclass
class Message:
    """One message: its parts for a client that composes, `raw()` for one that sends what it is given."""

    body: str
    identifier: str
    text: str
    forward_paths: tuple = (FORWARD_PATH,)
    attachment: bytes = b""
    eight_bit: bool = False
    header_only: bool = False

    @property
    def subject(self):
        return f"{CANARY} {self.body}"

    @property
    def epoch(self):
        """The moment at which a composing client is made to believe it writes: another for each body."""
        return EPOCH + list(BODIES).index(self.body)

    @property
    def message_id(self):
        return f"<{self.identifier}@client.example>"

    def fields(self):
        if self.header_only:
            # No Message-ID, Date or From, but a Bcc: the relay's edits of the header are tried here.
            return [f"To: <{FORWARD_PATH}>", "Bcc: <hidden@example.net>", f"Subject: {self.subject}", self.x_id()]
        fields = [
            f"From: <{REVERSE_PATH}>",
            f"To: <{FORWARD_PATH}>",
            f"Subject: {self.subject}",
            f"Date: {DATE}",
            f"Message-ID: {self.message_id}",
            self.x_id(),
        ]
        if self.attachment:
            return [*fields, "MIME-Version: 1.0", f'Content-Type: multipart/mixed; boundary="{BOUNDARY}"']
        if self.eight_bit:
            fields += ["MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8"]
            fields += ["Content-Transfer-Encoding: 8bit"]
        return fields

    def x_id(self):
        return f"X-Id: {self.identifier}"

    def raw(self):
        """The whole message with CRLF line ends; a header-only one has no empty line."""
        header = "".join(field + "\r\n" for field in self.fields()).encode()
        if self.header_only:
            return header
        text = self.text.replace("\n", "\r\n").encode()
        return header + b"\r\n" + (self.multipart(text) if self.attachment else text)

    def multipart(self, text):
        encoded = base64.encodebytes(self.attachment).replace(b"\n", b"\r\n")
        attachment_fields = (
            "Content-Type: application/octet-stream\r\n"
            "Content-Transfer-Encoding: base64\r\n"
            f'Content-Disposition: attachment; filename="{ATTACHMENT_NAME}"\r\n\r\n'
        )
        parts = b"--%b\r\nContent-Type: text/plain\r\n\r\n%b\r\n--%b\r\n%b%b--%b--\r\n"
        boundary = BOUNDARY.encode()
        return parts % (boundary, text, boundary, attachment_fields.encode(), encoded, boundary)


def attachment():
    """The same pseudo-random octets on each run, with the canary in them."""
    octets = random.Random(7).randbytes(ATTACHMENT_OCTETS)
    return CANARY.encode() + octets[len(CANARY) :]


PLAIN = textwrap.dedent(f"""\
    {CANARY}
    Toner low in tray 2.

    From the printer, with three lines
     and one that starts with a space.
    """)

EIGHT_BIT = f"{CANARY}\nGrüße aus Köln: 12 €, naïve façade, Ελληνικά, 漢字, 😀\n"

LONG_LINE = f"{CANARY} {'x' * LONG_LINE_OCTETS}"[:LONG_LINE_OCTETS] + "\nafter the long line\n"

DOTS = f".\n..\n...\n.x\n. \n{CANARY}\n.{CANARY}\n\n.\n.\nx.\n.x\n...\n..\n.\n"

# Name of the body, as in the table -> what is in it.
BODIES = {
    "plain": {"text": PLAIN},
    "10-MB": {"text": PLAIN, "attachment": attachment},
    "8-bit": {"text": EIGHT_BIT, "eight_bit": True},
    "long-line": {"text": LONG_LINE},
    "dots": {"text": DOTS},
    "empty": {"text": "", "header_only": True},
    "100-rcpt": {"text": PLAIN, "forward_paths": tuple(f"r{n:03}@example.net" for n in range(1, 101))},
}


def message(client, body, mode):
    parts = {name: part() if callable(part) else part for name, part in BODIES[body].items()}
    return Message(body=body, identifier=f"{client}-{body}-{mode}", **parts)
