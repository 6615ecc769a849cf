"""Clients that ask for parts in a way of their own, through a proxy; what came is in the file TARGET.

part_clients.py bits|boto3|boto3-signed ORIGIN PATH PROXY AUTHORITY TARGET

- bits: as Windows fetches updates, one part after the other into its place, each of them longer while all goes well
- boto3: as programs fetch from S3, parts of 8 MB, several at once; signed ones name Range among what they sign

Ends with 3 if a part was refused or cut off.
"""

import http.client
import ssl
import sys
from urllib.parse import urlsplit

client, origin, path, proxy, authority, target = sys.argv[1:]


def bits():
    context = ssl.create_default_context(cafile=authority)
    where, through = urlsplit(origin), urlsplit(proxy)
    connection = http.client.HTTPSConnection(through.hostname, through.port, context=context, timeout=120)
    connection.set_tunnel(where.hostname, where.port)

    def ask(method, more):
        fields = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "Microsoft BITS/7.8", **more}
        connection.request(method, path, headers=fields)
        return connection.getresponse()

    head = ask("HEAD", {})
    head.read()
    assert head.headers["Accept-Ranges"] == "bytes", head.headers
    length, since = int(head.headers["Content-Length"]), head.headers["Last-Modified"]
    at, step = 0, 10_000
    with open(target, "wb") as file:
        while at < length:
            last = min(at + step, length) - 1
            answer = ask("GET", {"Range": f"bytes={at}-{last}", "If-Unmodified-Since": since})
            if answer.status == 403:
                sys.exit(3)
            assert answer.status == 206, answer.status
            assert answer.headers["Content-Range"] == f"bytes {at}-{last}/{length}", answer.headers
            try:
                part = answer.read()
            except http.client.IncompleteRead as cut:
                file.write(cut.partial)
                sys.exit(3)
            assert len(part) == last + 1 - at
            file.write(part)
            at, step = last + 1, step * 3


def by_boto3(signed):
    import boto3
    from boto3.s3.transfer import TransferConfig
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    settings = {"proxies": {"https": proxy}, "retries": {"max_attempts": 1}, "s3": {"addressing_style": "path"}}
    settings |= {} if signed else {"signature_version": UNSIGNED}
    s3 = boto3.client(
        "s3",
        endpoint_url=origin,
        verify=authority,
        region_name="a",
        aws_access_key_id="a",
        aws_secret_access_key="a",
        config=Config(**settings),
    )
    bucket, key = path.strip("/").split("/")
    with open(target, "wb") as file:
        try:
            parts = TransferConfig(multipart_threshold=1 << 20, multipart_chunksize=1 << 20, max_concurrency=3)
            s3.download_fileobj(bucket, key, file, Config=parts)
        except (BotoCoreError, ClientError, HTTPError) as error:
            print(error, file=sys.stderr)
            sys.exit(3)


if client == "bits":
    bits()
else:
    by_boto3(client == "boto3-signed")
