"""What each finding needs to be seen: rules, settings, a capture with the fault and one without."""

import dataclasses
import typing

import pcap

MARKER = b"decoy-marker"


@dataclasses.dataclass
class Finding:
    """`seen` are the signatures that match in the control, and should match in the fault too."""

    name: str
    rules: list
    fault: typing.Callable
    control: typing.Callable
    seen: set = dataclasses.field(default_factory=lambda: {1})
    yaml: str = ""


def get(path="/", fields=b"", method=b"GET"):
    return method + b" " + path.encode() + b" HTTP/1.1\r\nHost: a.test\r\n" + fields + b"\r\n"


def ok(body, fields=b"", status=b"200 OK"):
    head = b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n" % len(body)
    return head + fields + b"\r\n" + body


# --- A3: data beyond an unscaled window is neither inspected nor dropped


# The marker lies across two segments, so that no rule for packets sees it.
ACROSS = b"y" * (65 * 1400 - 6) + MARKER + b"y" * 30_000


def a3(options):
    return [pcap.Session(port=9999, options=options).request(ACROSS, acknowledged=False)]


A3 = Finding(
    name="a3",
    rules=[f'alert tcp any any -> any 9999 (content:"{MARKER.decode()}"; sid:1;)'],
    fault=lambda: a3(pcap.PLAIN),
    control=lambda: [pcap.Session(port=9999).request(ACROSS)],
)

# --- A5: an unknown method is not parsed before its response begins


def a5(method):
    return [pcap.Session().request(get("/" + MARKER.decode(), method=method))]


A5 = Finding(
    name="a5",
    rules=[f'alert http any any -> any any (http.uri; content:"{MARKER.decode()}"; sid:1;)'],
    fault=lambda: a5(b"QUERY"),
    control=lambda: a5(b"GET"),
)

# --- A9: after a 304 that speaks of content the next response is not read


def a9(fields):
    session = pcap.Session()
    session.request(get("/a")).response(b"HTTP/1.1 304 Not Modified\r\n" + fields + b"\r\n")
    session.request(get("/b")).response(ok(b"x" * 10, fields=b"X-Last: " + MARKER + b"\r\n"))
    return [session.close()]


A9 = Finding(
    name="a9",
    rules=[f'alert http any any -> any any (http.header; content:"{MARKER.decode()}"; sid:1;)'],
    fault=lambda: a9(b"Content-Length: 100000\r\n"),
    control=lambda: a9(b""),
)

# --- A12: fields beyond 64 repetitions are in no normalised buffer


def a12(repeated):
    fields = b"".join(b"Cookie: n=%d\r\n" % number for number in range(repeated))
    return [pcap.Session().request(get(fields=fields + b"Cookie: " + MARKER + b"\r\n")).close()]


A12 = Finding(
    name="a12",
    rules=[f'alert http any any -> any any (http.cookie; content:"{MARKER.decode()}"; sid:1;)'],
    fault=lambda: a12(70),
    control=lambda: a12(3),
)

# --- A13: a regular expression at its limit is no match


def a13(length):
    body = b"long-" + b"ab" * length + b"END"
    return [pcap.Session(port=9999).request(body, segment=60_000).close()]


A13 = Finding(
    name="a13",
    rules=[r'alert tcp any any -> any 9999 (pcre:"/long-(?:ab|ba)*END/"; sid:1;)'],
    fault=lambda: a13(20_000),
    control=lambda: a13(20),
)

# --- A14: copies of its first content tire a rule


def a14(copies):
    return [pcap.Session(port=9999).request(b"de" * copies + b"decoy", segment=60_000).close()]


A14 = Finding(
    name="a14",
    rules=[
        'alert tcp any any -> any 9999 (content:"de"; content:"coy"; distance:0; within:3; sid:1;)'
    ],
    fault=lambda: a14(4_000),
    control=lambda: a14(40),
)

# --- A16: a PATCH is no upload


def a16(method):
    fields = b"Content-Type: application/octet-stream\r\nContent-Length: %d\r\n" % len(MARKER)
    session = pcap.Session().request(get("/up", fields=fields, method=method) + MARKER)
    return [session.response(ok(b"")).close()]


A16 = Finding(
    name="a16",
    rules=[
        f'alert http any any -> any any (flow:to_server; file.data; content:"{MARKER.decode()}"; sid:1;)'
    ],
    fault=lambda: a16(b"PATCH"),
    control=lambda: a16(b"PUT"),
)

# --- A17: file names that servers read, and Suricata takes for none


def a17(disposition):
    body = b"--b\r\nContent-Disposition: form-data; name=f; " + disposition + b"\r\n\r\n"
    body += MARKER + b"\r\n--b--\r\n"
    fields = b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n" % len(body)
    session = pcap.Session().request(get("/up", fields=fields, method=b"POST") + body)
    return [session.response(ok(b"")).close()]


A17 = Finding(
    name="a17",
    rules=[
        f'alert http any any -> any any (flow:to_server; file.data; content:"{MARKER.decode()}"; sid:1;)'
    ],
    fault=lambda: a17(b"filename*=UTF-8''a.bin"),
    control=lambda: a17(b'filename="a.bin"'),
)

ALL = [A3, A5, A9, A12, A13, A14, A16, A17]
