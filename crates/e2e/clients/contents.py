"""Contents that hide something from who reads them otherwise than clients do.

contents.py FOLDER < BAD

Writes each content into a file of the folder, which has its number for a name, and tells of it on a line: its number, what
must become of it, the status it comes with, and its fields with `|` between them.

- clean: it arrives
- blocked: nobody gets BAD of it
- counted: who gets BAD of it is known of
"""

import base64
import gzip as gzip_module
import random
import sys
import zlib

import brotli
import zstandard

folder, bad = sys.argv[1], sys.stdin.buffer.read()
text = b"A text of which there is so much that it becomes shorter. " * 50
infected = text + bad + text


def deflate(content, form):
    coder = zlib.compressobj(9, zlib.DEFLATED, form)
    return coder.compress(content) + coder.flush()


def gzip(content):
    return gzip_module.compress(content, mtime=0)


def raw(content):
    return deflate(content, -15)


def zstd(content):
    return zstandard.ZstdCompressor().compress(content)


def stored(content):
    """gzip without compression: its bytes as they are have the content too."""
    return gzip_module.compress(content, compresslevel=0, mtime=0)


# The header of zlib is a stored block of 156 bytes to who takes it for raw DEFLATE, and the next one is the last. To
# others a stored block of 65,379 bytes begins there.
block = bytearray(65379)
harmless = raw(b"harmless")
block[154 : 154 + len(harmless)] = harmless
both = b"\x78\x9c\x00\x63\xff\x9c\x00" + block + raw(bad) + zlib.adler32(block + bad).to_bytes(4, "big")
assert zlib.decompress(both) == block + bad

wrong = bytearray(gzip(infected))
wrong[-6] ^= 1
sum_wrong = bytearray(zlib.compress(infected))
sum_wrong[-1] ^= 1
skippable = b"\x50\x2a\x4d\x18" + len(bad).to_bytes(4, "little") + bad
named = b"\x1f\x8b\x08\x08" + bytes(6) + bad + b"\0" + gzip(text)[10:]
# 20 MB of text, of which decompression takes a while.
long = base64.b64encode(random.Random(1).randbytes(15_000_000))
MB = 1 << 20
repeated = [f"X-{name}: {value}" for value in range(22) for name in "abc"]
part = "Content-Range: bytes 0-99/10000"

contents = [
    ("clean", "gzip", gzip(text)),
    ("clean", "br", brotli.compress(text)),
    ("clean", "zstd", zstd(text)),
    ("clean", "deflate", zlib.compress(text)),
    ("clean", "gzip", gzip(bytes(20 * MB))),
    # Every coding, and how it is named.
    ("blocked", "", infected),
    ("blocked", "gzip", gzip(infected)),
    ("blocked", "x-gzip", gzip(infected)),
    ("blocked", "GZip", gzip(infected)),
    ("blocked", "gzip", stored(infected)),
    ("blocked", "br", brotli.compress(infected)),
    ("blocked", "zstd", zstd(infected)),
    ("blocked", "deflate", zlib.compress(infected)),
    ("blocked", "deflate", raw(infected)),
    ("blocked", "br", gzip(infected)),
    ("blocked", "deflate", gzip(infected)),
    ("blocked", "gzip", zlib.compress(infected)),
    ("blocked", "compress", infected),
    ("blocked", "identity, gzip", gzip(infected)),
    ("blocked", ", gzip", gzip(infected)),
    # Two readings of one content.
    ("blocked", "deflate", both),
    ("blocked", "gzip", both),
    # More than one thing, one behind the other.
    ("blocked", "gzip", gzip(text) + gzip(infected)),
    ("blocked", "gzip", gzip(b"") * 100 + gzip(infected)),
    ("blocked", "gzip", gzip(text) + b"trailing" + bad),
    ("blocked", "deflate", zlib.compress(text) + zlib.compress(infected)),
    ("blocked", "zstd", zstd(text) + zstd(infected)),
    # Wrong or missing ends.
    ("blocked", "gzip", bytes(wrong)),
    ("blocked", "gzip", gzip(infected)[:-8]),
    ("blocked", "deflate", bytes(sum_wrong)),
    ("blocked", "br", brotli.compress(infected)[:-1]),
    # Much that comes of little, and much at all.
    ("blocked", "gzip", gzip(bytes(20 * MB) + bad)),
    ("blocked", "br", brotli.compress(bytes(20 * MB) + bad, quality=5)),
    ("blocked", "gzip", gzip_module.compress(long + bad, compresslevel=1, mtime=0)),
    # One in the other.
    ("blocked", "gzip, gzip", gzip(gzip(bytes(3 * MB) + bad))),
    ("blocked", "gzip, gzip, gzip", gzip(gzip(gzip(infected)))),
    ("blocked", "br, zstd, gzip", gzip(zstd(brotli.compress(infected)))),
    ("blocked", "gzip, gzip, gzip, gzip", gzip(gzip(gzip(gzip(infected))))),
    # What is beside the content.
    ("counted", "zstd", skippable + zstd(text)),
    ("counted", "gzip", named),
]
fields = [(what, "200", [f"Content-Encoding: {coding}"] * bool(coding), body) for what, coding, body in contents]
gz = "Content-Encoding: gzip"
fields += [
    ("blocked", "200", ["Content-Encoding: br", gz], gzip(brotli.compress(infected))),
    ("blocked", "200", [*repeated, gz], gzip(infected)),
    ("blocked", "200", ["Content-Encoding: identity"] * 70 + [gz], gzip(infected)),
    ("blocked", "206", [part, gz], gzip(infected)),
    ("blocked", "206", [part], infected),
]
for number, (what, status, lines, body) in enumerate(fields):
    with open(f"{folder}/{number}", "wb") as file:
        file.write(body)
    print(number, what, status, "|".join(lines))
