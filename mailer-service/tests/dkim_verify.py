"""Checks each DKIM signature of a mail with dkimpy, which nobody here wrote.

Reads {"mail": base64, "records": {name: text}} and prints [true, ...], a word for each signature.
"""

import base64
import json
import sys

import dkim

given = json.load(sys.stdin)
mail = base64.b64decode(given["mail"])
records = {f"{name}.".encode(): text.encode() for name, text in given["records"].items()}


def look_up(name, timeout=5):
    return records.get(name if isinstance(name, bytes) else name.encode())


count = sum(name.lower() == b"dkim-signature" for name, _ in dkim.DKIM(mail).headers)


def check(index):
    try:
        return bool(dkim.DKIM(mail, minkey=1024).verify(idx=index, dnsfunc=look_up))
    except dkim.DKIMException as error:
        print(error, file=sys.stderr)
        return False


print(json.dumps([check(index) for index in range(count)]))
