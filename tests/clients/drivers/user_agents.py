"""Mail programs that people use, and scripts in their stead. They compose; what they make new on each run is pinned
where they let us, and named as fresh where not.
"""

from relay import LOOPBACK, REVERSE_PATH

from .command_line import msmtp_lines
from .driver import EHLO_NAME, Call, Driver, attachment_file
from .tree import Tree


def s_nail(message, peer, directory):
    scheme = "smtps" if peer.tls == "implicit" else "smtp"
    login = f"{peer.user}:{peer.password}@" if peer.login else ""
    # It knows certificates of names only.
    host = LOOPBACK if peer.tls == "none" else "localhost"
    command = ["s-nail", "-:/", "-S", "v15-compat=yes", "-S", "nosave"]
    command += ["-S", f"mta={scheme}://{login}{host}:{peer.port}"]
    command += ["-S", f"smtp-auth={'plain' if peer.login else 'none'}"]
    if peer.tls != "none":
        command += ["-S", f"tls-ca-file={peer.certificate}", "-S", "tls-verify=strict"]
    if peer.tls == "starttls":
        command += ["-S", "smtp-use-starttls"]
    command += ["-S", f"hostname={EHLO_NAME}", "-S", f"from={REVERSE_PATH}"]
    command += ["-S", "ttycharset=utf-8", "-S", "mime-encoding=8bit"]
    # Fixes its date, Message-ID and boundary.
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


def mutt(message, peer, directory):
    scheme = "smtps" if peer.tls == "implicit" else "smtp"
    login = f"{peer.user}:{peer.password}@" if peer.login else ""
    settings = [
        f"set smtp_url={scheme}://{login}{LOOPBACK}:{peer.port}/",
        f"set ssl_starttls={'yes' if peer.tls == 'starttls' else 'no'}",
        f"set ssl_force_tls={'no' if peer.tls == 'none' else 'yes'}",
        f"set ssl_ca_certificates_file={peer.certificate}",
        "set smtp_authenticators=plain",
        f"set from={REVERSE_PATH}",
        "set use_envelope_from=yes",
        f"set envelope_from_address={REVERSE_PATH}",
        f"set hostname={EHLO_NAME}",
        "set charset=utf-8 send_charset=utf-8 use_8bitmime=yes allow_8bit=yes",
        "set user_agent=no copy=no",
        f"my_hdr {message.x_id()}",
        f"my_hdr Message-ID: {message.message_id}",
    ]
    file = directory / "muttrc"
    file.write_text("".join(line + "\n" for line in settings))
    command = ["mutt", "-n", "-F", str(file), "-s", message.subject]
    if message.attachment:
        command += ["-a", attachment_file(message, directory), "--"]
    return Call([*command, *message.forward_paths], stdin=message.text.encode(), environment={"TERM": "dumb"})


BSD_MAILX = Tree("bsd-mailx", ["bsd-mailx", "msmtp-mta"])


def bsd_mailx(message, peer, directory):
    BSD_MAILX.write("etc/certificate.pem", peer.certificate.read_text())
    BSD_MAILX.write("etc/msmtprc", msmtp_lines(peer, "/etc/certificate.pem") + "set_date_header off\n")
    command = ["bsd-mailx", "-r", REVERSE_PATH, "-s", message.subject, "-a", message.x_id()]
    command += ["-a", f"Message-ID: {message.message_id}", *message.forward_paths]
    return Call(BSD_MAILX.command(*command), stdin=message.text.encode())


def git_send_email(message, peer, directory):
    patch = directory / f"{message.identifier}.patch"
    patch.write_bytes(message.raw().replace(b"\r\n", b"\n"))
    encryption = {"none": None, "starttls": "tls", "implicit": "ssl"}[peer.tls]
    command = ["/usr/bin/git", "send-email", "--quiet", "--confirm=never", "--no-validate", "--suppress-cc=all"]
    command += ["--no-xmailer", f"--from={REVERSE_PATH}", f"--envelope-sender={REVERSE_PATH}"]
    command += [f"--smtp-server={LOOPBACK}", f"--smtp-server-port={peer.port}", f"--smtp-domain={EHLO_NAME}"]
    if encryption:
        command += [f"--smtp-encryption={encryption}", f"--smtp-ssl-cert-path={peer.certificate}"]
    if peer.login:
        command += [f"--smtp-user={peer.user}", f"--smtp-pass={peer.password}", "--smtp-auth=PLAIN"]
    command += [f"--to={forward_path}" for forward_path in message.forward_paths]
    # Whatever the machine's own configuration says about send-email.
    environment = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
    for who in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{who}_NAME": "client", f"GIT_{who}_EMAIL": REVERSE_PATH}
    return Call([*command, str(patch)], environment=environment)


GIT = {
    "/usr/lib/git-core/git-send-email": "git-email",
    "/usr/share/perl5/Mail/Address.pm": "libmailtools-perl",
    "/usr/share/perl5/IO/Socket/SSL.pm": "libio-socket-ssl-perl",
    "/usr/share/perl5/Authen/SASL.pm": "libauthen-sasl-perl",
}

DRIVERS = [
    Driver("s-nail", "`mail` in cron jobs", s_nail, {"s-nail": "s-nail"}),
    Driver("mutt", "reports with attachments from scripts", mutt, {"mutt": "mutt"}, fresh=("Date", "Content-Type")),
    Driver(
        "bsd-mailx",
        "`mail` with msmtp-mta as its sendmail",
        bsd_mailx,
        prepare=BSD_MAILX.unpack,
        fresh=("Date",),
        cannot={"10-MB": "it attaches nothing"},
    ),
    Driver("git send-email", "patches to lists", git_send_email, GIT, fresh=("Date", "Message-ID")),
]
