"""Programs of one command: what shell scripts, cron jobs and monitoring call."""

from pathlib import Path

from relay import LOOPBACK, REVERSE_PATH

from .driver import EHLO_NAME, Call, Driver, raw_file, with_line_feeds


def swaks(message, peer, directory):
    command = ["swaks", "--server", LOOPBACK, "--port", str(peer.port), "--helo", EHLO_NAME, "--pipeline"]
    command += ["--from", REVERSE_PATH, "--to", ",".join(message.forward_paths)]
    command += {"none": [], "starttls": ["--tls"], "implicit": ["--tls-on-connect"]}[peer.tls]
    if peer.login:
        command += ["--auth", "LOGIN", "--auth-user", peer.user, "--auth-password", peer.password]
    return Call([*command, "--data", "@" + raw_file(message, directory), "--silent", "2"])


def curl(message, peer, directory):
    scheme = "smtps" if peer.tls == "implicit" else "smtp"
    command = ["curl", "-q", "-sS", "--noproxy", "*", "--max-time", "120", "--url"]
    command += [f"{scheme}://{LOOPBACK}:{peer.port}/{EHLO_NAME}", "--mail-from", REVERSE_PATH]
    command += [] if peer.tls == "none" else ["--ssl-reqd", "--cacert", str(peer.certificate)]
    command += ["--user", f"{peer.user}:{peer.password}"] if peer.login else []
    for forward_path in message.forward_paths:
        command += ["--mail-rcpt", forward_path]
    return Call([*command, "--upload-file", raw_file(message, directory)])


def msmtp(message, peer, directory):
    # It would add a Date and a Message-ID of its own, new on each run.
    command = ["msmtp", f"--file={msmtp_file(peer, directory)}", f"--from={REVERSE_PATH}"]
    command += ["--set-date-header=off", "--set-msgid-header=off", "--"]
    return Call([*command, *message.forward_paths], stdin=with_line_feeds(message))


def msmtp_file(peer, directory, certificate=None):
    """A configuration file of msmtp, which other programs call as their sendmail."""
    path = directory / "msmtprc"
    path.write_text(msmtp_lines(peer, certificate or peer.certificate))
    path.chmod(0o600)
    return path


def msmtp_lines(peer, certificate):
    lines = [f"host {LOOPBACK}", f"port {peer.port}", f"domain {EHLO_NAME}", "timeout 60"]
    if peer.tls != "none":
        lines += ["tls on", f"tls_starttls {'on' if peer.tls == 'starttls' else 'off'}"]
        lines += [f"tls_trust_file {certificate}"]
    if peer.login:
        lines += ["auth login", f"user {peer.user}", f"password {peer.password}"]
    return "".join(line + "\n" for line in ["defaults", *lines, "account default"])


def esmtp(message, peer, directory):
    # It knows certificates of names only.
    host = LOOPBACK if peer.tls == "none" else "localhost"
    lines = [f'hostname = "{host}:{peer.port}"']
    if peer.login:
        lines += [f'username = "{peer.user}"', f'password = "{peer.password}"']
    lines.append(f"starttls = {'required' if peer.tls == 'starttls' else 'disabled'}")
    file = directory / "esmtprc"
    file.write_text("".join(line + "\n" for line in lines))
    file.chmod(0o600)
    # libesmtp looks for the certificates that it trusts in the home directory.
    trusted = directory / ".config" / "libesmtp" / "ca.pem"
    trusted.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    trusted.write_bytes(Path(peer.certificate).read_bytes())
    trusted.chmod(0o600)
    command = ["esmtp", "-C", str(file), "-f", REVERSE_PATH, *message.forward_paths]
    return Call(command, stdin=with_line_feeds(message), environment={"HOME": str(directory)})


def send_email(message, peer, directory):
    file = directory / f"{message.identifier}.txt"
    file.write_bytes(with_line_feeds(message))
    command = ["sendEmail", "-q", "-s", f"{LOOPBACK}:{peer.port}", "-f", REVERSE_PATH, "-t", *message.forward_paths]
    command += ["-o", f"fqdn={EHLO_NAME}", "-o", "message-format=raw", "-o", f"message-file={file}"]
    command += ["-o", "tls=no"]
    command += ["-xu", peer.user, "-xp", peer.password] if peer.login else []
    return Call(command)


NO_IMPLICIT = {"implicit": "it knows STARTTLS only"}
PERL_TLS = {"/usr/share/perl5/IO/Socket/SSL.pm": "libio-socket-ssl-perl"}

DRIVERS = [
    Driver("swaks", "tests by hand, monitoring", swaks, {"swaks": "swaks", **PERL_TLS}),
    Driver("curl", "shell scripts; libcurl in devices and programs", curl, {"curl": "curl"}),
    Driver("msmtp", "`sendmail` of servers and containers", msmtp, {"msmtp": "msmtp"}),
    Driver(
        "esmtp", "`sendmail` on libesmtp", esmtp, {"esmtp": "esmtp"}, fresh=("Date", "Message-ID"), cannot=NO_IMPLICIT
    ),
    Driver(
        "sendEmail",
        "backup and UPS scripts",
        send_email,
        {"sendEmail": "sendemail"},
        cannot={**NO_IMPLICIT, "starttls": "it asks for SSL 3, which Debian's Perl refuses"},
    ),
]
