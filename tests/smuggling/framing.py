"""What RFC 5321, and the relay's promise about line ends, make of the octets behind a 354."""

import re

END = b"\r\n.\r\n"


def judged(octets):
    """The messages as they have to be stored, without what the relay adds, and the reply codes that follow 354.

    `octets` ends in END. Behind a real end that stands before that, commands follow, and perhaps a second message.
    """
    messages, rest = mail_data(octets)
    codes = [250]
    more, more_codes = commands(rest)
    return messages + more, codes + more_codes


def mail_data(octets):
    """The message that ends at the first real end, as a list of one, and what stands behind it."""
    # The CRLF of the DATA command counts as the line end before the first line.
    end = (b"\r\n" + octets).index(END)
    return [normalised(octets[:end])], octets[end + len(END) - 2 :]


def normalised(octets):
    """Without stuffed dots, every line end a CRLF."""
    return b"\r\n".join(re.sub(rb"[\r\n]", b"\r\n", unstuffed(line)) for line in octets.split(b"\r\n"))


def unstuffed(line):
    """A dot before a bare line end is no stuffed one: a client that stuffs would not have left it so."""
    stuffed = line[:1] == b"." and line[1:2] not in (b"", b"\r", b"\n")
    return line[1:] if stuffed else line


def commands(octets):
    """Messages and reply codes of what stands behind a real end: command lines end at LF, with or without CR."""
    messages, codes = [], []
    mail = rcpt = False
    while b"\n" in octets:
        line, _, octets = octets.partition(b"\n")
        line = line.removesuffix(b"\r")
        if line.startswith(b"MAIL FROM:<"):
            codes.append(250)
            mail = True
        elif line.startswith(b"RCPT TO:<"):
            codes.append(250 if mail else 503)
            rcpt = mail
        elif line == b"DATA" and rcpt:
            found, octets = mail_data(octets)
            messages += found
            codes += [354, 250]
            mail = rcpt = False
        elif line == b"DATA":
            codes.append(503)
        else:
            codes.append(500)
    return messages, codes
