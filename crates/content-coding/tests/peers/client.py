"""Reads contents as Python programs do. See clients.rs for what comes and goes."""
import gzip
import io
import struct
import sys
import zlib

import brotli
import zstandard
from urllib3.response import BrotliDecoder, DeflateDecoder, GzipDecoder


class ZstdDecoder:
    """As urllib3 2 has it."""

    def __init__(self):
        self.frame = zstandard.ZstdDecompressor().decompressobj()
        self.fresh = True

    def decompress(self, data):
        parts = []
        while data:
            # Since 0.19 it knows what follows a frame; a frame that begins is a new object.
            parts.append(self.frame.decompress(data))
            data = self.frame.unused_data
            if data or self.frame.eof:
                self.frame = zstandard.ZstdDecompressor().decompressobj()
        return b"".join(parts)

    def flush(self):
        return b""


URLLIB3 = {"br": BrotliDecoder, "deflate": DeflateDecoder, "gzip": GzipDecoder, "zstd": ZstdDecoder}


def urllib3(codings, pieces):
    """requests and urllib3: what was read when the first error came, and no less."""
    decoders = [URLLIB3[coding]() for coding in reversed(codings)]
    read = b""
    try:
        for piece in pieces:
            for decoder in decoders:
                piece = decoder.decompress(piece)
            read += piece
        for at, decoder in enumerate(decoders):
            rest = decoder.flush()
            for inner in decoders[at + 1 :]:
                rest = inner.decompress(rest)
            read += rest
    except Exception:
        pass
    return read


def streamed(feed, data, step):
    read = b""
    try:
        for at in range(0, len(data), step):
            read += feed(data[at : at + step])
    except Exception:
        pass
    return read


def member(stream):
    read = b""
    try:
        while piece := stream.read(100):
            read += piece
    except Exception:
        pass
    return read


def alone(coding, data):
    """The modules by themselves, byte by byte, so that nothing before an error is lost."""
    if coding == "gzip":
        return member(gzip.GzipFile(fileobj=io.BytesIO(data)))
    if coding == "deflate":
        read = streamed(zlib.decompressobj().decompress, data, 1)
        return read or streamed(zlib.decompressobj(-15).decompress, data, 1)
    if coding == "br":
        return streamed(brotli.Decompressor().process, data, 1)
    return member(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True))


def raw_only(codings, data):
    """One that takes `deflate` for what its name says."""
    for coding in reversed(codings):
        if coding == "deflate":
            data = streamed(zlib.decompressobj(-15).decompress, data, 1)
        else:
            data = alone(coding, data)
    return data


def modules(codings, data):
    for coding in reversed(codings):
        data = alone(coding, data)
    return data


def automatic(codings, data):
    """zlib's own guess between gzip and zlib, whatever was said."""
    for coding in reversed(codings):
        if coding in ("gzip", "deflate"):
            data = streamed(zlib.decompressobj(47).decompress, data, 7)
        else:
            data = alone(coding, data)
    return data


def main():
    take, give = sys.stdin.buffer, sys.stdout.buffer

    def number():
        head = take.read(4)
        if len(head) < 4:
            sys.exit(0)
        return struct.unpack("<I", head)[0]

    while True:
        codings = [take.read(number()).decode() for _ in range(number())]
        pieces = [take.read(number()) for _ in range(number())]
        data = b"".join(pieces)
        readings = [
            ("urllib3", urllib3(codings, pieces)),
            ("modules", modules(codings, data)),
            ("raw only", raw_only(codings, data)),
            ("automatic", automatic(codings, data)),
        ]
        give.write(struct.pack("<I", len(readings)))
        for name, read in readings:
            give.write(struct.pack("<I", len(name)) + name.encode())
            give.write(struct.pack("<I", len(read)) + read)
        give.flush()


main()
