"""One of Python's HTTP libraries through a proxy; writes what it gets into a folder.

libraries.py LIBRARY BASE PROXY AUTHORITY FOLDER
"""

import asyncio
import pathlib
import ssl
import sys

library, base, proxy, authority, folder = sys.argv[1:]
folder = pathlib.Path(folder)
DOWNLOADS = ["bytes/0", "bytes/1", "bytes/65536", "bytes/3000000", "chunked/200000", "gzip/300000", "redirect"]
MANY = [f"bytes/{1000 + number}" for number in range(40)]
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR" + b"-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


def pieces(body):
    for at in range(0, len(body), 70_000):
        yield body[at : at + 70_000]


async def async_pieces(body):
    for piece in pieces(body):
        yield piece


def keep(name, body):
    (folder / name.replace("/", "_")).write_bytes(body)


def by_requests():
    import requests

    session = requests.Session()
    session.trust_env = False
    session.proxies = {"http": proxy, "https": proxy}
    session.verify = authority
    for name in DOWNLOADS + MANY:
        answer = session.get(f"{base}/{name}")
        answer.raise_for_status()
        keep(name, answer.content)
    body = (folder / "bytes_3000000").read_bytes()
    keep("echo_length", session.post(f"{base}/echo", data=body).content)
    keep("echo_chunked", session.post(f"{base}/echo", data=pieces(body)).content)
    assert session.get(f"{base}/eicar").status_code == 403
    assert session.post(f"{base}/echo", data=EICAR).status_code == 403
    assert session.head(f"{base}/bytes/1000").headers["Content-Length"] == "1000"


async def by_httpx(http2):
    import httpx

    context = ssl.create_default_context(cafile=authority)
    options = {"http2": http2, "proxies": proxy, "verify": context, "trust_env": False, "timeout": 100}
    async with httpx.AsyncClient(follow_redirects=True, **options) as client:

        async def get(name):
            answer = await client.get(f"{base}/{name}")
            answer.raise_for_status()
            assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            keep(name, answer.content)

        for name in DOWNLOADS:
            await get(name)
        await asyncio.gather(*map(get, MANY))
        body = (folder / "bytes_3000000").read_bytes()
        keep("echo_length", (await client.post(f"{base}/echo", content=body)).content)
        keep("echo_chunked", (await client.post(f"{base}/echo", content=async_pieces(body))).content)
        assert (await client.get(f"{base}/eicar")).status_code == 403
        assert (await client.post(f"{base}/echo", content=EICAR)).status_code == 403


async def by_aiohttp():
    import aiohttp

    context = ssl.create_default_context(cafile=authority)
    async with aiohttp.ClientSession() as session:

        async def ask(method, name, data=None):
            url = f"{base}/{name}"
            async with session.request(method, url, data=data, proxy=proxy, ssl=context) as answer:
                return answer.status, await answer.read()

        async def get(name):
            status, body = await ask("GET", name)
            assert status == 200, status
            keep(name, body)

        for name in DOWNLOADS:
            await get(name)
        await asyncio.gather(*map(get, MANY))
        body = (folder / "bytes_3000000").read_bytes()
        keep("echo_length", (await ask("POST", "echo", body))[1])
        keep("echo_chunked", (await ask("POST", "echo", async_pieces(body)))[1])
        assert (await ask("GET", "eicar"))[0] == 403
        assert (await ask("POST", "echo", EICAR))[0] == 403


match library:
    case "requests":
        by_requests()
    case "httpx":
        asyncio.run(by_httpx(False))
    case "httpx-http2":
        asyncio.run(by_httpx(True))
    case "aiohttp":
        asyncio.run(by_aiohttp())
    case _:
        sys.exit(f"{library}?")
