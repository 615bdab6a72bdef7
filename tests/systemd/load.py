"""Sends message after message for some seconds from several threads, each in a session of its own.

Prints one line: taken, refused connections, interrupted sessions. Whoever hears 421, or loses the
connection before the final reply, tries the same message again, as a mail client does.
"""

import smtplib
import sys
import threading
import time

SECONDS, THREADS = float(sys.argv[1]), int(sys.argv[2])
end = time.monotonic() + SECONDS
lock = threading.Lock()
taken, refused, interrupted = set(), [], 0


def send(name):
    smtp = smtplib.SMTP("127.0.0.1", 25, "load.example", timeout=60)
    try:
        smtp.sendmail(
            "load@sandbox.example",
            ["somebody@example.com"],
            f"From: load@sandbox.example\r\nMessage-ID: <{name}@load.example>\r\n"
            f"Subject: {name}\r\n\r\nload\r\n",
        )
    finally:
        # Without QUIT, whose reply may be 421 by then: the message is taken all the same.
        smtp.close()


def work(thread):
    global interrupted
    number = 0
    while time.monotonic() < end:
        name = f"load-{thread}-{number}"
        try:
            send(name)
        except ConnectionRefusedError as error:
            with lock:
                refused.append(f"{name}: {error}")
            number += 1
            continue
        except smtplib.SMTPServerDisconnected:
            with lock:
                interrupted += 1
            continue
        except smtplib.SMTPResponseException as error:
            if error.smtp_code not in (421, 451):
                raise
            with lock:
                interrupted += 1
            continue
        except ConnectionError:
            with lock:
                interrupted += 1
            continue
        with lock:
            taken.add(name)
        number += 1


threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for name in sorted(taken):
    print(name)
print(f"taken={len(taken)} refused={len(refused)} interrupted={interrupted}", file=sys.stderr)
for line in refused[:5]:
    print(line, file=sys.stderr)
sys.exit(1 if refused or not taken else 0)
