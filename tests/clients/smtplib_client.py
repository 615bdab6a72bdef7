"""Sends one message with smtplib: PORT 8BIT(0|1) FILE REVERSE-PATH FORWARD-PATH..."""

import smtplib
import sys
from pathlib import Path

port, eight_bit, file, reverse_path, *forward_paths = sys.argv[1:]
options = ["BODY=8BITMIME"] if eight_bit == "1" else []
with smtplib.SMTP("127.0.0.1", int(port), local_hostname="client.example", timeout=60) as session:
    refused = session.sendmail(reverse_path, forward_paths, Path(file).read_bytes(), mail_options=options)
sys.exit(f"refused: {refused}" if refused else 0)
