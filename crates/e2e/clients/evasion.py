"""Responses in which a bad content is hidden by the way they are written, of the kinds that http-evader has.

evasion.py FOLDER < BAD

Writes each response, as it is to be sent before the connection ends, into a file of the folder, which has its number for a name, and
tells what it is on a line.
"""

import gzip
import itertools
import sys
import zlib

folder, bad = sys.argv[1], sys.stdin.buffer.read()


def deflate(content, form):
    coder = zlib.compressobj(9, zlib.DEFLATED, form)
    return coder.compress(content) + coder.flush()


zipped = gzip.compress(bad, mtime=0)
zlibbed, raw = deflate(bad, 15), deflate(bad, -15)
wrong_sum = zipped[:-8] + b"\0\0\0\0" + zipped[-4:]
named = zipped[:3] + b"\x08" + zipped[4:10] + b"name\0" + zipped[10:]
checked = zipped[:3] + b"\x02" + zipped[4:10] + (zlib.crc32(zipped[:3] + b"\x02" + zipped[4:10]) & 0xFFFF).to_bytes(2, "little") + zipped[10:]
ce = b"Content-Encoding"

# Each: what it is, the fields, the content as sent.
PLAIN = [("identity", b"", bad)]
CODINGS = PLAIN + [
    ("gzip", ce + b": gzip\r\n", zipped),
    ("x-gzip", ce + b": x-gzip\r\n", zipped),
    ("GZip", ce + b": GZip\r\n", zipped),
    ("gzip without blank", ce + b":gzip\r\n", zipped),
    ("gzip, blank before colon", ce + b" : gzip\r\n", zipped),
    ("gzip, tab before colon", ce + b"\t: gzip\r\n", zipped),
    ("gzip folded", ce + b":\r\n gzip\r\n", zipped),
    ("gzip folded twice", ce + b":\r\n \r\n gzip\r\n", zipped),
    ("gzip behind a folded field", b"X: y\r\n " + ce + b": gzip\r\n", zipped),
    ("gzip, a parameter", ce + b": gzip;a=b\r\n", zipped),
    ("gzip, comma behind", ce + b": gzip,\r\n", zipped),
    ("gzip, comma before", ce + b": ,gzip\r\n", zipped),
    ("gzip in quotes", ce + b': "gzip"\r\n', zipped),
    ("gzip, NUL behind", ce + b": gzip\0\r\n", zipped),
    ("gzip, CR within", ce + b": gz\rip\r\n", zipped),
    ("gzip, vertical tab", ce + b":\x0bgzip\r\n", zipped),
    ("gzip, form feed behind", ce + b": gzip\x0c\r\n", zipped),
    ("gzip, another name", b"Content_Encoding: gzip\r\n", zipped),
    ("gzip, lower case name", b"content-encoding: gzip\r\n", zipped),
    ("gzip and identity", ce + b": gzip, identity\r\n", zipped),
    ("identity and gzip", ce + b": identity, gzip\r\n", zipped),
    ("gzip with blank between", ce + b": gzip identity\r\n", zipped),
    ("gzip in two fields", ce + b": gzip\r\n" + ce + b": identity\r\n", zipped),
    ("gzip twice, once done", ce + b": gzip, gzip\r\n", zipped),
    ("gzip twice", ce + b": gzip, gzip\r\n", gzip.compress(zipped)),
    ("deflate and gzip", ce + b": deflate, gzip\r\n", gzip.compress(zlibbed)),
    ("gzip that is plain", ce + b": gzip\r\n", bad),
    ("plain that is gzip", b"", zipped),
    ("identity that is gzip", ce + b": identity\r\n", zipped),
    ("unknown that is plain", ce + b": foo\r\n", bad),
    ("unknown that is gzip", ce + b": foo\r\n", zipped),
    ("gzip that is zlib", ce + b": gzip\r\n", zlibbed),
    ("gzip that is raw", ce + b": gzip\r\n", raw),
    ("deflate that is gzip", ce + b": deflate\r\n", zipped),
    ("deflate", ce + b": deflate\r\n", zlibbed),
    ("deflate, raw", ce + b": deflate\r\n", raw),
    ("x-deflate", ce + b": x-deflate\r\n", zlibbed),
    ("deflate without end", ce + b": deflate\r\n", zlibbed[:-4]),
    ("deflate, wrong sum", ce + b": deflate\r\n", zlibbed[:-4] + b"\0\0\0\0"),
    ("gzip without end", ce + b": gzip\r\n", zipped[:-8]),
    ("gzip, half an end", ce + b": gzip\r\n", zipped[:-4]),
    ("gzip, wrong sum", ce + b": gzip\r\n", wrong_sum),
    ("gzip, bytes behind", ce + b": gzip\r\n", zipped + b"behind"),
    ("gzip, an empty one before", ce + b": gzip\r\n", gzip.compress(b"") + zipped),
    ("gzip with a name", ce + b": gzip\r\n", named),
    ("gzip with a sum of its head", ce + b": gzip\r\n", checked),
    ("gzip, reserved flags", ce + b": gzip\r\n", zipped[:3] + b"\xe0" + zipped[4:]),
    ("gzip, another method", ce + b": gzip\r\n", zipped[:2] + b"\7" + zipped[3:]),
    ("gzip as a transfer coding", b"Transfer-Encoding: gzip\r\n", zipped),
]


def chunks(content, size=7, head="%x\r\n", end=b"\r\n", last=b"0\r\n\r\n"):
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    return b"".join((head % len(piece)).encode() + piece + end for piece in pieces) + last


def field(value, name=b"Transfer-Encoding: "):
    return lambda body: (name + value + b"\r\n", chunks(body))


def length(form):
    return lambda body: (b"Content-Length: " + form % len(body) + b"\r\n", body)


def sent(fields, **how):
    return lambda body: (fields, chunks(body, **how))


TE = b"Transfer-Encoding: chunked\r\n"
# Each: what it is, and what becomes of a content: fields, and what is sent.
FRAMINGS = [
    ("length", length(b"%d")),
    ("chunked", field(b"chunked")),
    ("close", lambda body: (b"", body)),
    ("chunked CHUNKED", field(b"CHUNKED")),
    ("chunked without blank", field(b"chunked", b"Transfer-Encoding:")),
    ("chunked, blank before colon", field(b"chunked", b"Transfer-Encoding : ")),
    ("chunked, tab", field(b"chunked", b"Transfer-Encoding:\t")),
    ("chunked, vertical tab", field(b"\x0bchunked")),
    ("chunked, blank behind", field(b"chunked ")),
    ("chunked folded", field(b"\r\n chunked")),
    ("chunked behind a folded field", field(b"chunked", b"X: y\r\n Transfer-Encoding: ")),
    ("chunked, a parameter", field(b"chunked;a=b")),
    ("chunked in quotes", field(b'"chunked"')),
    ("chunked, comma before", field(b",chunked")),
    ("chunked, comma behind", field(b"chunked,")),
    ("xchunked", field(b"xchunked")),
    ("chunkedx", field(b"chunkedx")),
    ("chunked, NUL", field(b"chunked\0")),
    ("chunked, CR within", field(b"chu\rnked")),
    ("chunked and identity", field(b"chunked, identity")),
    ("identity and chunked", field(b"identity, chunked")),
    ("identity, in chunks", field(b"identity")),
    ("chunked twice", field(b"chunked, chunked")),
    ("chunked, then identity", lambda body: (TE + b"Transfer-Encoding: identity\r\n", chunks(body))),
    ("identity, then chunked", lambda body: (b"Transfer-Encoding: identity\r\n" + TE, chunks(body))),
    ("chunked, another name", field(b"chunked", b"Transfer_Encoding: ")),
    ("chunked in TE", field(b"chunked", b"TE: ")),
    ("named chunked, is not", lambda body: (TE, body)),
    ("chunks without a field", lambda body: (b"", chunks(body))),
    ("chunked and length", lambda body: (TE + b"Content-Length: %d\r\n" % len(chunks(body)), chunks(body))),
    ("chunked and short length", lambda body: (TE + b"Content-Length: 5\r\n", chunks(body))),
    ("length and chunked", lambda body: (b"Content-Length: %d\r\n" % len(body) + TE, chunks(body))),
    ("named chunked, with length, is not", lambda body: (TE + b"Content-Length: %d\r\n" % len(body), body)),
    ("chunks in upper case", sent(TE, size=15, head="%X\r\n")),
    ("chunks, leading zeros", sent(TE, head="0000000%x\r\n")),
    ("chunks, many leading zeros", sent(TE, head="0" * 40 + "%x\r\n")),
    ("chunks, 0x", sent(TE, head="0x%x\r\n")),
    ("chunks, plus", sent(TE, head="+%x\r\n")),
    ("chunks, blank before", sent(TE, head=" %x\r\n")),
    ("chunks, blank behind", sent(TE, head="%x \r\n")),
    ("chunks, extension", sent(TE, head="%x;a=b\r\n")),
    ("chunks, extension in quotes", sent(TE, head='%x;a="b;\\""\r\n')),
    ("chunks, comma", sent(TE, head="%x,1\r\n")),
    ("chunks, letters behind", sent(TE, head="%xg\r\n")),
    ("chunks, LF alone", sent(TE, head="%x\n", end=b"\n", last=b"0\n\n")),
    ("chunks, CR alone", sent(TE, head="%x\r", end=b"\r", last=b"0\r\r")),
    ("chunks, CR CR LF", sent(TE, head="%x\r\r\n")),
    ("chunks, no end of data", sent(TE, end=b"")),
    ("chunks, LF behind data", sent(TE, end=b"\n")),
    ("chunks, blank line between", sent(TE, end=b"\r\n\r\n")),
    ("chunks without a last one", sent(TE, last=b"")),
    ("chunks, long zero", sent(TE, last=b"0000\r\n\r\n")),
    ("chunks, trailers", sent(TE, last=b"0\r\nX: y\r\n\r\n")),
    ("chunks, more behind", sent(TE, last=b"0\r\n\r\nmore")),
    ("chunks, a number too big", sent(TE, head="1000000000000000%x\r\n")),
    ("chunks of one", sent(TE, size=1)),
    ("length twice", lambda body: (b"Content-Length: %d\r\n" % len(body) * 2, body)),
    ("lengths, second shorter", lambda body: (b"Content-Length: %d\r\nContent-Length: 3\r\n" % len(body), body)),
    ("lengths, first shorter", lambda body: (b"Content-Length: 3\r\nContent-Length: %d\r\n" % len(body), body)),
    ("lengths in a list", lambda body: (b"Content-Length: %d, %d\r\n" % (len(body), len(body)), body)),
    ("length too short", lambda body: (b"Content-Length: %d\r\n" % (len(body) // 2), body)),
    ("length too long", lambda body: (b"Content-Length: %d\r\n" % (len(body) * 2), body)),
    ("length 0", lambda body: (b"Content-Length: 0\r\n", body)),
    ("length empty", lambda body: (b"Content-Length:\r\n", body)),
    ("length negative", length(b"-%d")),
    ("length with plus", length(b"+%d")),
    ("length in hexadecimal", length(b"0x%x")),
    ("length with zeros", length(b"000%d")),
    ("length with letters", length(b"%d bytes")),
    ("length with fraction", length(b"%d.0")),
    ("length, blank before colon", lambda body: (b"Content-Length : %d\r\n" % len(body), body)),
    ("length folded", lambda body: (b"Content-Length:\r\n %d\r\n" % len(body), body)),
    ("length too big", lambda body: (b"Content-Length: 18446744073709551616\r\n", body)),
]
# Each: what it is, and the line.
STARTS = [
    ("1.0", b"HTTP/1.0 200 OK\r\n"),
    ("1.2", b"HTTP/1.2 200 OK\r\n"),
    ("0.9", b"HTTP/0.9 200 OK\r\n"),
    ("2.0", b"HTTP/2.0 200 OK\r\n"),
    ("1.10", b"HTTP/1.10 200 OK\r\n"),
    ("1.01", b"HTTP/1.01 200 OK\r\n"),
    ("1", b"HTTP/1 200 OK\r\n"),
    ("lower case", b"http/1.1 200 OK\r\n"),
    ("another name", b"ICY 200 OK\r\n"),
    ("HTTPS", b"HTTPS/1.1 200 OK\r\n"),
    ("blank before", b" HTTP/1.1 200 OK\r\n"),
    ("blank within", b"HTTP/ 1.1 200 OK\r\n"),
    ("line before", b"\r\nHTTP/1.1 200 OK\r\n"),
    ("lines before", b"\r\n\n\r\nHTTP/1.1 200 OK\r\n"),
    ("garbage before", b"garbage\r\nHTTP/1.1 200 OK\r\n"),
    ("two blanks", b"HTTP/1.1  200 OK\r\n"),
    ("tab", b"HTTP/1.1\t200\tOK\r\n"),
    ("no reason", b"HTTP/1.1 200\r\n"),
    ("no reason, blank", b"HTTP/1.1 200 \r\n"),
    ("LF alone", b"HTTP/1.1 200 OK\n"),
    ("CR CR LF", b"HTTP/1.1 200 OK\r\r\n"),
    ("NUL in the reason", b"HTTP/1.1 200 O\0K\r\n"),
    ("long reason", b"HTTP/1.1 200 " + b"x" * 3000 + b"\r\n"),
    ("four digits", b"HTTP/1.1 0200 OK\r\n"),
    ("two digits", b"HTTP/1.1 20 OK\r\n"),
    ("letters", b"HTTP/1.1 2xx OK\r\n"),
    ("no status", b"HTTP/1.1 OK\r\n"),
    ("206", b"HTTP/1.1 206 Partial\r\n"),
    ("204", b"HTTP/1.1 204 No Content\r\n"),
    ("304", b"HTTP/1.1 304 Not Modified\r\n"),
    ("401", b"HTTP/1.1 401 Unauthorized\r\n"),
    ("404", b"HTTP/1.1 404 Not Found\r\n"),
    ("500", b"HTTP/1.1 500 Error\r\n"),
    ("600", b"HTTP/1.1 600 Beyond\r\n"),
    ("999", b"HTTP/1.1 999 Beyond\r\n"),
    ("100 before", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"),
    ("102 with length before", b"HTTP/1.1 102 P\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\n"),
    ("103 before", b"HTTP/1.1 103 Early\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\n"),
    ("101", b"HTTP/1.1 101 Switching\r\n"),
    ("empty line behind", b"HTTP/1.1 200 OK\r\n\r\n"),
]
# Each: what it is, and what becomes of a head.
HEADS = [
    ("", lambda head: head),
    ("lines end with LF", lambda head: head.replace(b"\r\n", b"\n")),
    ("lines end with CR CR LF", lambda head: head.replace(b"\r\n", b"\r\r\n")),
    ("an LF alone at the end", lambda head: head[:-2] + b"\n"),
    ("a line of blanks at the end", lambda head: head[:-2] + b" \r\n"),
    ("a line without colon", lambda head: head[:-2] + b"no colon\r\n\r\n"),
    ("a line without name", lambda head: head[:-2] + b": no name\r\n\r\n"),
    ("an odd name", lambda head: head[:-2] + b"a b(c): d\r\n\r\n"),
    ("NUL", lambda head: head[:-2] + b"X: a\0b\r\n\r\n"),
    ("a folded first line", lambda head: head.replace(b"\r\n", b"\r\n folded: yes\r\n", 1)),
    ("many fields", lambda head: head[:-2] + b"X: y\r\n" * 300 + b"\r\n"),
    ("a long field", lambda head: head[:-2] + b"X: " + b"y" * 30000 + b"\r\n\r\n"),
]

OK = [("1.1", b"HTTP/1.1 200 OK\r\n")]
COMMON = [CODINGS[at] for at in (0, 1)]
known = dict(FRAMINGS)
some = [(name, known[name]) for name in ("length", "chunked", "close")]
choices = itertools.chain(
    itertools.product(OK, some, CODINGS, HEADS[:1]),
    itertools.product(OK, FRAMINGS, CODINGS[:2] + [CODINGS[35]], HEADS[:1]),
    itertools.product(STARTS, some[:2], COMMON, HEADS[:1]),
    itertools.product(OK, some[:2], COMMON, HEADS[1:]),
    itertools.product(STARTS[:1], FRAMINGS[3:], PLAIN, HEADS[:1]),
    itertools.product(OK, FRAMINGS[3:34], CODINGS[1:2], HEADS[1:2]),
)
for number, ((start, line), (framing, frame), (coding, fields, content), (form, written)) in enumerate(choices):
    more, body = frame(content)
    head = line + b"Content-Type: application/octet-stream\r\nConnection: close\r\n" + fields + more + b"\r\n"
    with open(f"{folder}/{number}", "wb") as file:
        file.write(written(head) + body)
    print(f"{number} {start}; {framing}; {coding}; {form}")
