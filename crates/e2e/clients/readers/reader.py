"""requests or curl as a reader; see tests/readers.rs.

reader.py requests|curl|curl-as-is BASE PROXY AUTHORITY FOLDER
"""

import pathlib
import subprocess
import sys

reader, base, proxy, authority, folder = sys.argv[1:]
MARK = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR" + b"-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


class Curl:
    def __init__(self, *options):
        through = ["--proxy", proxy] if proxy else ["--noproxy", "*"]
        said = ["--write-out", "%{stderr}%{http_code}"]
        self.command = ["curl", "--disable", "-s", "--cacert", authority, *through, *said, *options]

    def run(self, *arguments):
        ended = subprocess.run([*self.command, *arguments], capture_output=True)
        return int(ended.stderr[-3:] or b"0"), ended.stdout

    def get(self, url):
        return self.run(url)

    def post(self, url, coding, file):
        fields = ["-H", f"Content-Encoding: {coding}"] if coding else []
        return self.run("-H", "Expect:", *fields, "--data-binary", f"@{file}", url)[0]


class Requests:
    def __init__(self):
        import requests

        self.errors = requests.exceptions.RequestException
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.proxies = {"https": proxy} if proxy else {}
        self.session.verify = authority

    def get(self, url):
        status, read = 0, bytearray()
        try:
            with self.session.get(url, stream=True) as answer:
                status = answer.status_code
                for piece in answer.iter_content(65536):
                    read += piece
        except self.errors:
            pass
        return status, read

    def post(self, url, coding, file):
        fields = {"Content-Encoding": coding} if coding else {}
        try:
            return self.session.post(url, data=file.read_bytes(), headers=fields).status_code
        except self.errors:
            return 0


client = {"curl": lambda: Curl("--compressed"), "curl-as-is": Curl, "requests": Requests}[reader]()
for line in (pathlib.Path(folder) / "table").read_text().splitlines():
    number, _, coding = line.partition(" ")
    status, read = client.get(f"{base}/{number}")
    client.get(f"{base}/read/{number}/{status}/{int(MARK in read)}")
    status = client.post(f"{base}/up/{number}", coding, pathlib.Path(folder) / number)
    client.get(f"{base}/sent/{number}/{status}/0")
