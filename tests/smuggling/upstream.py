"""A submission service on aiosmtpd, with STARTTLS and AUTH XOAUTH2, that keeps what it is sent."""

import base64
import logging
import re
import smtplib
import ssl
import subprocess

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

from relay import LOOPBACK, Fault, free_ports

logging.getLogger("mail.log").setLevel(logging.CRITICAL)

XOAUTH2 = re.compile(rb"user=[^\x01]+\x01auth=Bearer [^\x01]+\x01\x01")


class Server(SMTP):
    """aiosmtpd as it is, but it tells of each refusal, and takes tokens that are longer than a line of mail."""

    line_length_limit = 65_536

    async def push(self, status):
        text = status.decode() if isinstance(status, bytes) else status
        if text[:1] in "45":
            self.event_handler.refused.append(text)
        await super().push(status)


class Upstream(Controller):
    """The service on a thread of its own; `messages` has the mail data of what was taken, without stuffed dots."""

    def __init__(self, directory):
        self.messages = []
        self.refused = []
        self.certificate = directory / "certificate.pem"
        self.context = certified(self.certificate, directory / "key.pem")
        self.directory = directory
        super().__init__(self, hostname=LOOPBACK, port=free_ports(1)[0])

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def factory(self):
        return Server(
            self,
            hostname="localhost",
            tls_context=self.context,
            require_starttls=True,
            auth_required=True,
            auth_exclude_mechanism=["LOGIN", "PLAIN"],
        )

    async def auth_XOAUTH2(self, server, args):  # noqa: N802, the name is aiosmtpd's
        response = await server.challenge_auth("") if len(args) == 1 else base64.b64decode(args[1])
        return AuthResult(success=isinstance(response, bytes) and XOAUTH2.fullmatch(response) is not None)

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802, the name is aiosmtpd's
        self.messages.append(envelope.content)
        return f"250 2.0.0 OK <{len(self.messages)}@aiosmtpd>"

    async def handle_exception(self, error):
        self.refused.append(f"the receiver failed: {error!r}")
        return "451 4.3.0 the receiver failed"

    def forget(self):
        self.messages.clear()
        self.refused.clear()

    def in_place_of(self, office365):
        """The section of the sandbox, whose token endpoint is used, with this service in place of its own."""
        ca_file = re.search(r'(?m)^ca_file = "(.*)"$', office365)
        if ca_file is None:
            raise Fault("the sandbox's office365.toml has no ca_file")
        both = self.directory / "both.pem"
        with open(ca_file[1], encoding="ascii") as sandbox:
            both.write_text(sandbox.read() + self.certificate.read_text())
        section = re.sub(r"(?m)^ca_file = .*$", f'ca_file = "{both}"', office365)
        section = re.sub(r"(?m)^smtp_host = .*$", 'smtp_host = "localhost"', section)
        return re.sub(r"(?m)^smtp_port = .*$", f"smtp_port = {self.port}", section)

    def send_raw(self, octets):
        """One transaction with these octets as they are behind 354; returns when the last line was answered."""
        with smtplib.SMTP(LOOPBACK, self.port, "control.example", timeout=20) as client:
            client.starttls(context=ssl._create_unverified_context())
            client.ehlo()
            client.docmd("AUTH", "XOAUTH2")
            client.docmd(base64.b64encode(b"user=a@b\x01auth=Bearer token\x01\x01").decode())
            client.mail("a@b.example")
            client.rcpt("c@d.example")
            client.putcmd("data")
            client.getreply()
            client.send(octets)
            while client.getreply()[0] != 500:
                pass


def certified(certificate, key):
    """A TLS context with a new certificate for localhost, signed by itself; it is no authority for others."""
    settings = certificate.with_suffix(".cnf")
    settings.write_text(
        "[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = leaf\n[name]\nCN = smuggling test\n"
        "[leaf]\nsubjectAltName = DNS:localhost\nbasicConstraints = critical, CA:FALSE\n"
    )
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-config", settings, "-keyout", key, "-out", certificate]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Fault(f"openssl: {done.stderr}")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context
