"""Certificates as operators have them, and clients that check them."""

import ssl
import time
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "translator.test"
DAY_S = 86_400


def make_certificate(directory, *, begins_s=-DAY_S, ends_s=90 * DAY_S, name="translator"):
    """Writes a new certificate and its key, and returns their paths; times count from now."""
    directory.mkdir(parents=True, exist_ok=True)
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    secret = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now_s = int(time.time())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(now_s + begins_s, UTC))
        .not_valid_after(datetime.fromtimestamp(now_s + ends_s, UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    made = builder.sign(secret, hashes.SHA256())
    replace(certificate, made.public_bytes(serialization.Encoding.PEM))
    text = secret.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    replace(key, text)
    return certificate, key


def replace(file, content):
    """Puts another file in the place of one, for its owner alone."""
    draft = file.with_suffix(".draft")
    draft.touch(mode=0o600)
    draft.write_bytes(content)
    draft.replace(file)


def trusting(certificate, version=ssl.TLSVersion.TLSv1_3):
    """Returns what a device has that knows this certificate, or that checks none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = version
    if certificate is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    else:
        context.load_verify_locations(certificate)
    return context
