"""Sends one message with smtplib; see README.md."""

import smtplib
import ssl
import sys
from os import environ
from pathlib import Path

file, reverse_path, *forward_paths = sys.argv[1:]
host, port, tls = environ["SMTP_HOST"], int(environ["SMTP_PORT"]), environ["SMTP_TLS"]
trust = ssl.create_default_context(cafile=environ["SMTP_CA"])
words = {"local_hostname": environ["SMTP_HELLO"], "timeout": 60}
implicit = tls == "implicit"
with smtplib.SMTP_SSL(host, port, context=trust, **words) if implicit else smtplib.SMTP(host, port, **words) as session:
    if tls == "starttls":
        session.starttls(context=trust)
    if environ["SMTP_USER"]:
        session.login(environ["SMTP_USER"], environ["SMTP_PASSWORD"])
    options = ["BODY=8BITMIME"] if environ["SMTP_EIGHT_BIT"] else []
    refused = session.sendmail(reverse_path, forward_paths, Path(file).read_bytes(), mail_options=options)
sys.exit(f"refused: {refused}" if refused else 0)
