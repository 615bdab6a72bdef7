"""One message of one client, sent to the recorder and to the relay, and what is wrong with what arrived."""

import subprocess
from dataclasses import replace

import mail_data
import relay
from bodies import message
from recorder import Manners, Recorder

CLIENT_SECONDS = 120
SAID_OCTETS = 600


class Cell:
    """One client with one body in one mode; collects faults as sentences."""

    def __init__(self, driver, body, mode, workplace):
        self.driver = driver
        self.body = body
        self.mode = mode
        self.workplace = workplace
        self.faults = []
        self.sent = []
        self.arrived = []
        self.relayed = False
        self.message = message(driver.slug, body, mode.name)

    @property
    def name(self):
        return f"{self.driver.name}, {self.body}, {self.mode.name}"

    @property
    def given(self):
        """The header section that the client was given, without a body."""
        return self.message.raw().split(b"\r\n\r\n", 1)[0] + b"\r\n"

    @property
    def least_arrivals(self):
        return 1 if self.driver.splits else len(self.sent)

    def run(self, offered, relay_peer):
        """Sends to a recorder that offers the same, and if that went well, to the relay."""
        manners = Manners(
            keywords=tuple(offered),
            tls=self.mode.tls,
            context=relay_peer.server_context,
            login=relay_peer.login if self.mode.auth != "none" else None,
            loose=self.driver.loose,
        )
        with Recorder(manners) as recorder:
            if self.call(replace(relay_peer, port=recorder.port), "the recorder"):
                self.take_recorded(recorder.transactions)
        if self.sent:
            self.relayed = self.call(relay_peer, "the relay")
        self.message.attachment = b""

    def call(self, peer, name):
        """Runs the client; notes a fault and returns false when it says that the mail was not taken."""
        call = self.driver.call(self.message, peer, self.workplace.make(f"input/{self.driver.slug}"))
        environment = {**relay.environment(self.workplace.make(f"tmp/{self.driver.slug}")), **call.environment}
        # Clients run side by side, each called by a thread of its own: what would happen between fork and exec
        # is left to setpriv. The client goes when the thread goes.
        command = ["setpriv", "--pdeathsig", "KILL", *call.command]
        try:
            done = subprocess.run(
                command,
                input=call.stdin,
                env=environment,
                cwd=self.workplace.make(f"tmp/{self.driver.slug}"),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=CLIENT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            self.faults.append(f"the client did not end within {CLIENT_SECONDS} s of sending to {name}")
            return False
        if done.returncode != 0:
            said = done.stdout[-SAID_OCTETS:].decode(errors="replace").strip()
            self.faults.append(f"the client ended with {done.returncode} after sending to {name}: {said}")
        return done.returncode == 0

    def take_recorded(self, transactions):
        if not transactions:
            self.faults.append("the recorder saw no transaction of the client")
        for transaction in transactions:
            if identifier_in(transaction.mail_data) != self.message.identifier:
                self.faults.append("the client did not send the X-Id field")
        if not self.faults:
            self.sent = sorted(transactions, key=forward_paths)

    def compare(self):
        """Compares what arrived with what was sent, unless the client failed before."""
        if self.faults:
            return
        if self.driver.splits and self.arrived:
            for arrival in self.arrived[1:]:
                self.faults += self.content_differences(self.sent[0], arrival.mail_data())
            self.sent, self.arrived = joined(self.sent), joined(self.arrived)
        if len(self.arrived) != len(self.sent):
            self.faults.append(f"sent in {len(self.sent)} transactions, arrived {len(self.arrived)} times")
            return
        for sent, arrival in zip(self.sent, sorted(self.arrived, key=forward_paths)):
            arrived = arrival.mail_data()
            self.faults += envelope_differences(sent, arrival)
            self.faults += self.content_differences(sent, arrived)
            self.faults += self.protocol_differences(sent, arrived)
            if self.faults:
                return

    def content_differences(self, sent, arrived):
        return mail_data.differences(sent.mail_data, arrived, self.driver.fresh, self.given)

    def protocol_differences(self, sent, arrived):
        """Whether the relay's Received field says that TLS and a login were used (RFC 3848).

        Clients that say HELO have no ESMTP to speak of, and so no letters: the relay takes no mail without TLS in
        the modes that have it, and none without a login in those.
        """
        if self.mode.is_plain:
            return
        if not sent.extended:
            said = mail_data.protocol(arrived)
            if said != "SMTP":
                yield f"the Received field says `with {said}`, not `with SMTP`, as the client sends no EHLO"
            return
        letters = ("S" if self.mode.tls != "none" else "") + ("A" if self.mode.auth != "none" else "")
        said = mail_data.protocol(arrived)
        if said not in (f"ESMTP{letters}", f"UTF8SMTP{letters}"):
            yield f"the Received field says `with {said}`, not `with ESMTP{letters}`"


def identifier_in(octets):
    value = mail_data.field_value(mail_data.split_header(octets)[0], b"X-Id")
    return value.decode(errors="replace") if value else None


def joined(transactions):
    """One transaction with the forward-paths of all."""
    every = [path for transaction in transactions for path in transaction.forward_paths]
    return [replace(transactions[0], forward_paths=every)]


def forward_paths(transaction):
    return sorted(transaction.forward_paths)


def envelope_differences(sent, arrival):
    if arrival.reverse_path != sent.reverse_path:
        yield f"reverse-path <{sent.reverse_path}> arrived as <{arrival.reverse_path}>"
    if forward_paths(arrival) != forward_paths(sent):
        missing = sorted(set(sent.forward_paths) - set(arrival.forward_paths))
        added = sorted(set(arrival.forward_paths) - set(sent.forward_paths))
        counts = f"{len(sent.forward_paths)} forward-paths sent, {len(arrival.forward_paths)} arrived"
        yield f"{counts}; missing {missing}, added {added}"
    if sent.eight_bit and "BODY=8BITMIME" not in arrival.mail_parameters:
        yield f"the client said BODY=8BITMIME, the relay said {' '.join(arrival.mail_parameters) or 'nothing'}"
