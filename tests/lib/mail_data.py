"""Compares the mail data which a client sent with the mail data which arrived upstream.

The relay may make these edits and no others: one Received field of its own on top, a Message-ID, Date or From
where there was none, and no Bcc. All other octets must be the same.
"""

import re

ADDED_WHEN_MISSING = (b"message-id", b"date", b"from")
REMOVED = (b"bcc",)

QUEUE_ID = re.compile(rb"\sid\s+<?([^\s;>]+)")
PROTOCOL = re.compile(rb"\swith\s+(\w+)")
BOUNDARY = re.compile(rb'(?is)\bboundary="?([^";\s]+)')


def split_header(mail_data):
    """The header fields, each with its folded lines, and the rest from the empty line on."""
    fields = []
    position = 0
    while position < len(mail_data):
        line_end = mail_data.find(b"\r\n", position)
        line_end = len(mail_data) if line_end < 0 else line_end + 2
        line = mail_data[position:line_end]
        if line == b"\r\n":
            break
        if fields and line[:1] in (b" ", b"\t"):
            fields[-1] += line
        else:
            fields.append(line)
        position = line_end
    return fields, mail_data[position:]


def field_name(field):
    return field.partition(b":")[0].strip().lower()


def field_value(fields, name):
    """The value of the first field of that name, or None."""
    for field in fields:
        if field_name(field) == name.lower():
            return field.partition(b":")[2].strip()
    return None


def queue_id(mail_data):
    """The queue id in the topmost Received field, or None."""
    return found_in_trace(mail_data, QUEUE_ID)


def protocol(mail_data):
    """The protocol in the topmost Received field, such as ESMTPSA, or None."""
    return found_in_trace(mail_data, PROTOCOL)


def found_in_trace(mail_data, pattern):
    fields, _ = split_header(mail_data)
    if not fields or field_name(fields[0]) != b"received":
        return None
    found = pattern.search(fields[0])
    return found.group(1).decode() if found else None


def without_trace(mail_data):
    """The mail data below the topmost field, which must be a Received field; None where it is another one."""
    fields, rest = split_header(mail_data)
    if not fields or field_name(fields[0]) != b"received":
        return None
    return b"".join(fields[1:]) + rest


def differences(sent, arrived, fresh=(), given=b""):
    """What differs beyond the allowed edits, as sentences; empty when nothing does.

    `fresh` are the fields that the client made anew when it sent the message again: they have to be there, in the
    same places, with any value, unless they are among those it was `given`. The boundary of a multipart is taken as
    fresh where "Content-Type" is.
    """
    if queue_id(arrived) is None:
        return ["no Received field with a queue id on top"]
    sent_fields, sent_rest = comparable(sent, fresh, given)
    arrived_fields, arrived_rest = comparable(without_trace(arrived), fresh, given)
    return header_differences(sent_fields, arrived_fields) + rest_differences(sent_rest, arrived_rest)


def comparable(mail_data, fresh, given):
    """The header fields and the rest, without what is fresh."""
    names = {name.lower().encode() for name in fresh}
    if b"content-type" in names:
        names.remove(b"content-type")
        if found := BOUNDARY.search(b"".join(split_header(mail_data)[0])):
            mail_data = mail_data.replace(found.group(1), b"(boundary)")
    known = set(split_header(given)[0])
    fields, rest = split_header(mail_data)
    for at, field in enumerate(fields):
        if field_name(field) in names and field not in known:
            fields[at] = field_name(field) + b": (fresh)"
    return fields, rest


def header_differences(sent, arrived):
    """Walks both headers in step; an added field may stand anywhere between the others."""
    expected = [field for field in sent if field_name(field) not in REMOVED]
    may_be_added = set(ADDED_WHEN_MISSING) - {field_name(field) for field in sent}
    position = 0
    for field in arrived:
        if position < len(expected) and field == expected[position]:
            position += 1
        elif field_name(field) in may_be_added:
            may_be_added.remove(field_name(field))
        else:
            wanted = expected[position] if position < len(expected) else b"the end of the header"
            return [f"header has {short(field)} where the client sent {short(wanted)}"]
    if position < len(expected):
        return [f"header lacks {short(expected[position])}"]
    return [f"no {name.decode()} field was added" for name in sorted(may_be_added)]


def rest_differences(sent, arrived):
    if sent == arrived:
        return []
    if len(sent) == len(arrived):
        sizes = "same size"
    else:
        sizes = f"{len(sent)} octets sent, {len(arrived)} arrived"
    at = next((i for i, pair in enumerate(zip(sent, arrived)) if pair[0] != pair[1]), min(len(sent), len(arrived)))
    around = slice(max(0, at - 10), at + 20)
    return [f"body differs ({sizes}) at octet {at}: sent {sent[around]!r}, arrived {arrived[around]!r}"]


def short(octets):
    return repr(octets if len(octets) <= 60 else octets[:57] + b"...")
