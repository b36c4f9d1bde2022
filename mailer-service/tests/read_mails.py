"""Reads the mails whose paths come as a JSON list, with Python's own email package, and tells what it finds in each."""

import email
import email.policy
import hashlib
import json
import sys


def told(path):
    with open(path, "rb") as file:
        mail = email.message_from_binary_file(file, policy=email.policy.default)
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    files = [part for part in mail.walk() if part.get_filename()]
    return {
        "subject": str(mail["subject"]),
        "from": str(mail["from"]),
        "to": str(mail["to"]),
        "received": str(mail["received"]),
        "return_path": str(mail["return-path"]),
        "text": text and text.get_content(),
        "html": html and html.get_content(),
        "files": [
            {
                "filename": part.get_filename(),
                "type": part.get_content_type(),
                "disposition": part.get_content_disposition(),
                "id": part["content-id"] and str(part["content-id"]),
                "sha256": hashlib.sha256(part.get_payload(decode=True)).hexdigest(),
            }
            for part in files
        ],
        "defects": [repr(defect) for part in mail.walk() for defect in part.defects]
        + [repr(defect) for part in mail.walk() for value in part.values() for defect in getattr(value, "defects", ())],
        "structure": [part.get_content_type() for part in mail.walk()],
    }


json.dump([told(path) for path in json.load(sys.stdin)], sys.stdout)
