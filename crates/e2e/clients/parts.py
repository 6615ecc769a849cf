"""Fetches parts of one URL through a proxy, over one connection as long as it lasts.

Usage: parts.py HOST PORT PATH PROXY CA < "FIRST-LAST FIRST-LAST ..."
Writes a line a part: its status, and in hexadecimal what came of it, complete or not.
"""
import http.client
import ssl
import sys


def connect(host, port, proxy, ca):
    context = ssl.create_default_context(cafile=ca)
    connection = http.client.HTTPSConnection(*proxy.split(":"), context=context, timeout=120)
    connection.set_tunnel(host, int(port))
    return connection


def main():
    host, port, path, proxy, ca = sys.argv[1:]
    connection = connect(host, port, proxy, ca)
    for part in sys.stdin.read().split():
        status, body, over = 0, b"", True
        try:
            connection.request("GET", path, headers={"Range": "bytes=" + part})
            response = connection.getresponse()
            status = response.status
            body = response.read()
            over = response.will_close
        except http.client.IncompleteRead as cut:
            body = cut.partial
        except (http.client.HTTPException, OSError):
            pass
        if over:
            connection.close()
            connection = connect(host, port, proxy, ca)
        print(status, body.hex())


main()
