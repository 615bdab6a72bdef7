"""PHP, which most web shops, forums and wikis send with."""

import json

from bodies import DATE
from relay import REVERSE_PATH

from .command_line import msmtp_file
from .driver import PROGRAMS, Call, Driver, attachment_file, peer_environment, program, raw_file

# PHPMailer and Symfony are for any PHP and complain about what a newer one deprecates.
PHP = ["php", "-d", "memory_limit=512M", "-d", "error_reporting=E_ALL&~E_DEPRECATED", "-d", "display_errors=stderr"]


def php_mail(message, peer, directory):
    sendmail = f"msmtp --file={msmtp_file(peer, directory)} --set-date-header=off --set-msgid-header=off -t -i"
    command = [*PHP, "-d", f'sendmail_path="{sendmail}"', str(PROGRAMS / "php_mail.php")]
    return Call([*command, raw_file(message, directory), REVERSE_PATH, *message.forward_paths])


def phpmailer(message, peer, directory):
    parts = {
        "id": message.identifier,
        "message_id": message.message_id,
        "date": DATE,
        "from": REVERSE_PATH,
        "to": message.forward_paths,
        "subject": message.subject,
        "text": message.text,
        "attachment": attachment_file(message, directory) if message.attachment else None,
    }
    spec = directory / f"{message.identifier}.json"
    spec.write_text(json.dumps(parts))
    command = [*PHP, str(PROGRAMS / "phpmailer.php"), str(spec)]
    return Call(command, environment=peer_environment(message, peer))


DRIVERS = [
    Driver(
        "PHP mail()",
        "WordPress and old PHP, with msmtp as its sendmail",
        php_mail,
        {"php": "php-cli", "msmtp": "msmtp"},
    ),
    Driver(
        "PHPMailer",
        "WordPress, Joomla",
        phpmailer,
        {"php": "php-cli", "/usr/share/php/libphp-phpmailer": "libphp-phpmailer"},
        fresh=("Content-Type",),
    ),
    Driver(
        "Symfony Mailer",
        "Symfony, Laravel, Nextcloud",
        program(*PHP, str(PROGRAMS / "symfony_mailer.php")),
        {"php": "php-cli", "/usr/share/php/Symfony/Component/Mailer": "php-symfony-mailer"},
    ),
    Driver(
        "PEAR Net_SMTP",
        "Roundcube, old PHP applications",
        program(*PHP, str(PROGRAMS / "net_smtp.php")),
        {"php": "php-cli", "/usr/share/php/Net/SMTP.php": "php-net-smtp"},
    ),
]
