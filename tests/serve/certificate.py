"""A key and a certificate for 127.0.0.1, made by openssl."""
import os
import shutil
import subprocess


def certificate(work):
    """key.pem and cert.pem in the folder; False where there is no openssl."""
    if not shutil.which("openssl"):
        return False
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", f"{work}/key.pem", "-out", f"{work}/cert.pem", "-days", "2", "-subj", "/CN=outcry",
                    "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    os.chmod(f"{work}/key.pem", 0o600)
    return True
