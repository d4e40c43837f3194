"""A key and a certificate for 127.0.0.1, made by openssl; and others that hold at another time."""
import os
import shutil
import ssl
import subprocess
import time


def certificate(work):
    """key.pem and cert.pem in the folder; False where there is no openssl."""
    if not shutil.which("openssl"):
        return False
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", f"{work}/key.pem", "-out", f"{work}/cert.pem", "-days", "2", "-subj", "/CN=outcry",
                    "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    os.chmod(f"{work}/key.pem", 0o600)
    return True


def dated(work, name, begin, end):
    """NAME.pem with the key of `certificate`, that holds between these, in days from now."""
    stamps = [time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + 86400 * days)) for days in (begin, end)]
    with open(f"{work}/ca", "w", encoding="utf-8") as out:
        out.write("[ca]\ndefault_ca=d\n[d]\npolicy=p\ndefault_md=sha256\nrand_serial=yes\nunique_subject=no\n"
                  f"database={work}/ca.index\nnew_certs_dir={work}\n[p]\ncommonName=supplied\n")
    open(f"{work}/ca.index", "w", encoding="utf-8").close()
    for words in (["req", "-new", "-key", f"{work}/key.pem", "-out", f"{work}/{name}.csr", "-subj", f"/CN={name}"],
                  ["ca", "-batch", "-notext", "-selfsign", "-config", f"{work}/ca", "-keyfile", f"{work}/key.pem",
                   "-in", f"{work}/{name}.csr", "-out", f"{work}/{name}.pem", "-startdate", stamps[0], "-enddate",
                   stamps[1]]):
        subprocess.run(["openssl", *words], check=True, capture_output=True)
    return f"{work}/{name}.pem"


def end_of(path):
    """When the (first) certificate of the file ends, as openssl reads it."""
    said = subprocess.run(["openssl", "x509", "-noout", "-enddate", "-in", path], check=True, capture_output=True,
                          text=True).stdout
    return ssl.cert_time_to_seconds(said.strip().removeprefix("notAfter="))
