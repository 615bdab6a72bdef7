"""Mail servers with the relay as their smarthost, each in a tree and with a spool of its own; see tree.py.

They run as they would on a Unix server: `sendmail` takes the message, the queue runner passes it on.
"""

import json
import os
import sys

from relay import LOOPBACK, REVERSE_PATH

from .driver import EHLO_NAME, PROGRAMS, Call, Driver, with_line_feeds
from .tree import Tree

CERTIFICATE = "/etc/certificate.pem"


def handed_to(tree, message, directory, *, submit, daemon=None, ready=None, queue=(), failed=(), kept=(), log="agent"):
    """A call of programs/agent.py. Paths are those within the tree."""
    spec = {
        "daemon": tree.command(*daemon) if daemon else None,
        "ready": str(tree.root / ready) if ready else None,
        "submit": tree.command(*submit),
        "queue": [str(tree.root / name) for name in queue],
        "failed": [str(tree.root / name) for name in failed],
        "kept": list(kept),
        "log": str(tree.root / "var" / "log" / log),
    }
    (tree.root / "var" / "log" / log).unlink(missing_ok=True)
    path = directory / f"{message.identifier}.json"
    path.write_text(json.dumps(spec))
    return Call([sys.executable, str(PROGRAMS / "agent.py"), str(path)], stdin=with_line_feeds(message))


EXIM = Tree("exim4", ["exim4-daemon-light"], users=("Debian-exim",))

EXIM_CONFIG = """\
primary_hostname = {hello}
keep_environment =
log_file_path = /var/log/exim-%slog
trusted_users = root
never_users =
bounce_return_size_limit = 1K
message_size_limit = 50M
acl_not_smtp_start = local_fixups
begin acl
local_fixups:
  accept control = suppress_local_fixups
begin routers
smarthost:
  driver = manualroute
  transport = smarthost
  route_list = * {host}::{port} byname
  self = send
  host_find_failed = defer
begin transports
smarthost:
  driver = smtp
  max_rcpt = 0
  message_linelength_limit = 1M
  allow_localhost
  protocol = {protocol}
  helo_data = {hello}
  tls_verify_certificates = {certificate}
  tls_verify_hosts = *
  {tls}
  {auth}
begin authenticators
{authenticator}
"""

EXIM_PLAIN = """\
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^{user}^{password}
"""


def exim(message, peer, directory):
    EXIM.write(CERTIFICATE[1:], peer.certificate.read_text())
    text = EXIM_CONFIG.format(
        hello=EHLO_NAME,
        host=LOOPBACK,
        port=peer.port,
        protocol="smtps" if peer.tls == "implicit" else "smtp",
        certificate=CERTIFICATE,
        tls="hosts_avoid_tls = *" if peer.tls == "none" else "hosts_require_tls = *",
        auth="hosts_require_auth = *" if peer.login else "",
        authenticator=EXIM_PLAIN.format(user=peer.user, password=peer.password) if peer.login else "",
    )
    EXIM.write("etc/exim4/exim4.conf", text)
    EXIM.directory("var/spool/exim4", "Debian-exim")
    EXIM.directory("var/log", "Debian-exim")
    # -odi: the delivery belongs to the command, which returns when it is over.
    submit = ["exim4", "-odi", "-i", "-f", REVERSE_PATH, "--", *message.forward_paths]
    where = "var/spool/exim4/input"
    return handed_to(EXIM, message, directory, submit=submit, failed=[where], log="exim-mainlog")


POSTFIX = Tree("postfix", ["postfix", "libsasl2-modules"], users=("postfix", "postdrop"))

POSTFIX_MAIN = """\
compatibility_level = 3.6
mail_owner = postfix
setgid_group = postdrop
myhostname = {hello}
mydestination =
inet_interfaces = loopback-only
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
maillog_file = /var/log/postfix.log
message_size_limit = 50000000
relayhost = [{host}]:{port}
smtp_host_lookup = native
disable_dns_lookups = yes
smtp_tls_security_level = {level}
smtp_tls_wrappermode = {wrapper}
smtp_tls_CAfile = {certificate}
smtp_tls_secure_cert_match = hostname
smtp_sasl_auth_enable = {auth}
smtp_sasl_security_options = noanonymous
smtp_sasl_password_maps = inline:{{ [{host}]:{port}={user}:{password} }}
default_destination_recipient_limit = 200
smtp_connection_cache_on_demand = no
"""

# Only what is needed to send; nothing listens.
POSTFIX_MASTER = """\
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
tlsmgr    unix  - - n 1000? 1 tlsmgr
scache    unix  - - n - 1 scache
proxymap  unix  - - n - - proxymap
anvil     unix  - - n - 1 anvil
postlog   unix-dgram n - n - 1 postlogd
"""
POSTFIX_QUEUES = ("incoming", "active", "maildrop", "deferred")


def postfix(message, peer, directory):
    POSTFIX.write(CERTIFICATE[1:], peer.certificate.read_text())
    text = POSTFIX_MAIN.format(
        hello=EHLO_NAME,
        host=LOOPBACK,
        port=peer.port,
        level="none" if peer.tls == "none" else "secure",
        wrapper="yes" if peer.tls == "implicit" else "no",
        certificate=CERTIFICATE,
        auth="yes" if peer.login else "no",
        user=peer.user or "nobody",
        password=peer.password or "nothing",
    )
    POSTFIX.write("etc/postfix/main.cf", text)
    # Postfix waits until its configuration is older than a second, in case somebody is still writing it.
    os.utime(POSTFIX.root / "etc/postfix/main.cf", (0, 0))
    POSTFIX.write("etc/postfix/master.cf", POSTFIX_MASTER)
    POSTFIX.directory("var/log")
    POSTFIX.directory("var/lib/postfix", "postfix")
    POSTFIX.directory("var/spool/postfix")
    for name in (*POSTFIX_QUEUES, "private", "defer", "bounce", "trace", "corrupt", "hold", "flush", "saved"):
        POSTFIX.directory(f"var/spool/postfix/{name}", "postfix", 0o700)
    POSTFIX.directory("var/spool/postfix/maildrop", "postfix", 0o730)
    POSTFIX.directory("var/spool/postfix/public", "postfix", 0o710)
    POSTFIX.directory("var/spool/postfix/pid")
    return handed_to(
        POSTFIX,
        message,
        directory,
        daemon=["/usr/lib/postfix/sbin/master", "-c", "/etc/postfix", "-d"],
        ready="var/spool/postfix/public/pickup",
        submit=["/usr/sbin/sendmail", "-i", "-f", REVERSE_PATH, "--", *message.forward_paths],
        queue=[f"var/spool/postfix/{name}" for name in POSTFIX_QUEUES],
        failed=["var/spool/postfix/deferred", "var/spool/postfix/corrupt"],
        log="postfix.log",
    )


NULLMAILER = Tree("nullmailer", ["nullmailer"])


def nullmailer(message, peer, directory):
    words = [LOOPBACK, "smtp", f"--port={peer.port}"]
    words += {"none": [], "starttls": ["--starttls"], "implicit": ["--ssl"]}[peer.tls]
    words += [] if peer.tls == "none" else [f"--x509cafile={CERTIFICATE}"]
    words += [f"--user={peer.user}", f"--pass={peer.password}", "--auth-login"] if peer.login else []
    NULLMAILER.write(CERTIFICATE[1:], peer.certificate.read_text())
    NULLMAILER.write("etc/nullmailer/remotes", " ".join(words) + "\n", 0o600)
    NULLMAILER.write("etc/nullmailer/helohost", EHLO_NAME + "\n")
    for name in ("queue", "tmp", "failed"):
        NULLMAILER.directory(f"var/spool/nullmailer/{name}", "mail")
    NULLMAILER.fifo("var/spool/nullmailer/trigger", "mail", 0o600)
    return handed_to(
        NULLMAILER,
        message,
        directory,
        daemon=["/usr/sbin/nullmailer-send"],
        submit=["/usr/bin/nullmailer-inject", "-f", REVERSE_PATH, "--", *message.forward_paths],
        queue=["var/spool/nullmailer/queue", "var/spool/nullmailer/tmp"],
        failed=["var/spool/nullmailer/failed"],
    )


DMA = Tree("dma", ["dma"])


def dma(message, peer, directory):
    lines = [f"SMARTHOST {LOOPBACK}", f"PORT {peer.port}", f"MAILNAME {EHLO_NAME}", "FULLBOUNCE"]
    lines += ["SECURETRANSFER"] if peer.tls != "none" else []
    lines += ["STARTTLS"] if peer.tls == "starttls" else []
    lines += ["AUTHPATH /etc/dma/auth.conf", "INSECURE"] if peer.login else []
    DMA.write("etc/dma/dma.conf", "".join(line + "\n" for line in lines))
    DMA.write("etc/dma/auth.conf", f"{peer.user}|{LOOPBACK}:{peer.password}\n" if peer.login else "")
    DMA.write("etc/aliases", "")
    DMA.directory("var/spool/dma", "mail", 0o2775)
    # -D: the deliveries belong to the command.
    submit = ["/usr/sbin/dma", "-D", "-i", "-f", REVERSE_PATH, *message.forward_paths]
    return handed_to(DMA, message, directory, submit=submit, queue=["var/spool/dma"], kept=["flush"])


SSMTP = Tree("ssmtp", ["ssmtp"])


def ssmtp(message, peer, directory):
    lines = [f"mailhub={LOOPBACK}:{peer.port}", f"hostname={EHLO_NAME}", "FromLineOverride=YES"]
    lines += ["UseTLS=YES", f"TLS_CA_File={CERTIFICATE}"] if peer.tls != "none" else []
    lines += ["UseSTARTTLS=YES"] if peer.tls == "starttls" else []
    lines += [f"AuthUser={peer.user}", f"AuthPass={peer.password}", "AuthMethod=LOGIN"] if peer.login else []
    SSMTP.write(CERTIFICATE[1:], peer.certificate.read_text())
    SSMTP.write("etc/ssmtp/ssmtp.conf", "".join(line + "\n" for line in lines))
    SSMTP.write("etc/ssmtp/revaliases", f"root:{REVERSE_PATH}\n")
    submit = ["/usr/sbin/ssmtp", f"-f{REVERSE_PATH}", *message.forward_paths]
    return handed_to(SSMTP, message, directory, submit=submit)


OPENSMTPD = Tree("opensmtpd", ["opensmtpd"], users=("opensmtpd", "opensmtpq"))


def opensmtpd(message, peer, directory):
    scheme = {"none": "smtp+notls", "starttls": "smtp+tls", "implicit": "smtps"}[peer.tls]
    label = "label@" if peer.login else ""
    options = "auth <secrets> " if peer.login else ""
    lines = [
        "table secrets file:/etc/secrets",
        "listen on socket",
        "smtp max-message-size 50M",
        f'action "relay" relay host {scheme}://{label}{LOOPBACK}:{peer.port} {options}helo {EHLO_NAME}',
        'match from any for any action "relay"',
    ]
    OPENSMTPD.write("etc/secrets", f"label {peer.user}:{peer.password}\n" if peer.login else "", 0o640)
    OPENSMTPD.write("etc/smtpd.conf", "".join(line + "\n" for line in lines))
    OPENSMTPD.write("etc/ssl/certs/ca-certificates.crt", peer.certificate.read_text())
    return opensmtpd_call(message, directory)


def opensmtpd_call(message, directory):
    OPENSMTPD.give("usr/sbin/smtpctl", "opensmtpq", 0o2755)
    OPENSMTPD.directory("var/spool/smtpd", mode=0o711)
    OPENSMTPD.directory("var/lib/opensmtpd/empty")
    OPENSMTPD.directory("run")
    return handed_to(
        OPENSMTPD,
        message,
        directory,
        daemon=["/usr/sbin/smtpd", "-d"],
        ready="run/smtpd.sock",
        submit=["/usr/sbin/sendmail", "-i", "-f", REVERSE_PATH, *message.forward_paths],
        queue=["var/spool/smtpd/queue", "var/spool/smtpd/incoming", "var/spool/smtpd/offline"],
    )


# What a mail server adds where it is not there; a Received field has a time and an id.
ADDED = ("Received", "Date", "Message-ID")

DMA_CANNOT = {"long-line": "it refuses lines of more than 998 octets"}

OPENSMTPD_CANNOT = {"auth in the clear": "it has a password for TLS only"}

DRIVERS = [
    Driver("exim4", "Debian servers with a smarthost", exim, prepare=EXIM.unpack, fresh=ADDED),
    Driver("Postfix", "Linux servers and appliances with a relayhost", postfix, prepare=POSTFIX.unpack, fresh=ADDED),
    Driver("nullmailer", "`sendmail` of servers and containers", nullmailer, prepare=NULLMAILER.unpack, fresh=ADDED),
    Driver("dma", "`sendmail` of FreeBSD and Debian hosts", dma, prepare=DMA.unpack, fresh=ADDED, cannot=DMA_CANNOT),
    Driver("sSMTP", "`sendmail` of NAS and embedded Linux", ssmtp, prepare=SSMTP.unpack, fresh=ADDED),
    Driver(
        "OpenSMTPD",
        "OpenBSD and small servers",
        opensmtpd,
        prepare=OPENSMTPD.unpack,
        fresh=ADDED,
        cannot=OPENSMTPD_CANNOT,
        splits=True,
    ),
]
