"""Sends one message with aiosmtplib; see README.md."""

import asyncio
import ssl
import sys
from os import environ
from pathlib import Path

import aiosmtplib


async def send(file, reverse_path, *forward_paths):
    tls = environ["SMTP_TLS"]
    session = aiosmtplib.SMTP(
        hostname=environ["SMTP_HOST"],
        port=int(environ["SMTP_PORT"]),
        local_hostname=environ["SMTP_HELLO"],
        use_tls=tls == "implicit",
        tls_context=ssl.create_default_context(cafile=environ["SMTP_CA"]),
        timeout=60,
        **({} if tls == "implicit" else {"start_tls": tls == "starttls"}),
    )
    async with session:
        if environ["SMTP_USER"]:
            await session.login(environ["SMTP_USER"], environ["SMTP_PASSWORD"])
        options = ["BODY=8BITMIME"] if environ["SMTP_EIGHT_BIT"] else []
        octets = Path(file).read_bytes()
        refused, _ = await session.sendmail(reverse_path, forward_paths, octets, mail_options=options)
    return f"refused: {refused}" if refused else 0


sys.exit(asyncio.run(send(*sys.argv[1:])))
