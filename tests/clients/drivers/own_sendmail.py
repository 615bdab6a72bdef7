"""Programs that start a mailer instead of speaking SMTP, with `o365-relay sendmail` as their mailer."""

from relay import REVERSE_PATH, ROOT

from .driver import LOOPBACK, PROGRAMS, Call, Driver, raw_file, with_line_feeds
from .php import PHP
from .user_agents import GIT

# It knows neither TLS nor a login: a program of this host needs none.
CANNOT = dict.fromkeys(("starttls", "implicit", "auth"), "it speaks plain SMTP with this host")

_binary = ROOT / "target" / "release" / "o365-relay"


def use(binary):
    """The binary under test is the mailer."""
    global _binary
    _binary = binary


def environment(peer):
    return {"O365_RELAY_SERVER": f"{LOOPBACK}:{peer.port}"}


def directly(message, peer, directory):
    command = [str(_binary), "sendmail", "-i", "-f", REVERSE_PATH, "--", *message.forward_paths]
    return Call(command, stdin=with_line_feeds(message), environment=environment(peer))


def php_mail(message, peer, directory):
    command = [*PHP, "-d", f'sendmail_path="{_binary} sendmail -t -i"', str(PROGRAMS / "php_mail.php")]
    command += [raw_file(message, directory), REVERSE_PATH, *message.forward_paths]
    return Call(command, environment=environment(peer))


def git_send_email(message, peer, directory):
    patch = directory / f"{message.identifier}.patch"
    patch.write_bytes(with_line_feeds(message))
    command = ["/usr/bin/git", "send-email", "--quiet", "--confirm=never", "--no-validate", "--suppress-cc=all"]
    command += ["--no-xmailer", f"--from={REVERSE_PATH}", f"--envelope-sender={REVERSE_PATH}"]
    command += [f"--sendmail-cmd={_binary} sendmail"]
    command += [f"--to={forward_path}" for forward_path in message.forward_paths]
    variables = environment(peer) | {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
    for who in ("AUTHOR", "COMMITTER"):
        variables |= {f"GIT_{who}_NAME": "client", f"GIT_{who}_EMAIL": REVERSE_PATH}
    return Call([*command, str(patch)], environment=variables)


DRIVERS = [
    Driver("o365-relay sendmail", "cron, at, scripts: whatever calls a mailer", directly, cannot=CANNOT),
    Driver(
        "PHP by sendmail",
        "the same as PHP mail(), with `o365-relay sendmail`",
        php_mail,
        {"php": "php-cli"},
        cannot=CANNOT,
    ),
    Driver(
        "git by sendmail",
        "`git send-email --sendmail-cmd` with `o365-relay sendmail`",
        git_send_email,
        GIT,
        fresh=("Date", "Message-ID"),
        cannot=CANNOT,
    ),
]
