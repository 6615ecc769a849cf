"""Packets of made-up TCP sessions, and captures of them. Checksums are zero: run with `-k none`."""

import struct

CLIENT, SERVER = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
SYN, ACK, PUSH, FIN = 2, 16, 8, 1
# A maximum segment size, and no window scaling.
PLAIN = bytes([2, 4, 5, 0xB4])
# The same, with windows scaled by 2^7.
SCALED = PLAIN + bytes([1, 3, 3, 7])


class Session:
    """A TCP connection: handshake, data in sequence, acknowledgements, an orderly end."""

    def __init__(self, port=80, client_port=40000, options=SCALED):
        self.ports = client_port, port
        self.sequence = [1000, 9000]
        self.packets = []
        self._packet(0, SYN, b"", options)
        self.sequence[0] += 1
        self._packet(1, SYN | ACK, b"", options)
        self.sequence[1] += 1
        self._packet(0, ACK)

    def request(self, data, segment=1400, acknowledged=True):
        return self._send(0, data, segment, acknowledged)

    def response(self, data, segment=1400, acknowledged=True):
        return self._send(1, data, segment, acknowledged)

    def close(self):
        for side in (0, 1):
            self._packet(side, FIN | ACK)
            self.sequence[side] += 1
        self._packet(0, ACK)
        return self

    def _send(self, side, data, segment, acknowledged):
        for at in range(0, len(data), segment):
            piece = data[at : at + segment]
            self._packet(side, PUSH | ACK, piece)
            self.sequence[side] += len(piece)
            if acknowledged:
                self._packet(1 - side, ACK)
        return self

    def _packet(self, side, flags, data=b"", options=b""):
        source, target = (CLIENT, SERVER) if side == 0 else (SERVER, CLIENT)
        ports = self.ports if side == 0 else self.ports[::-1]
        acknowledge = self.sequence[1 - side] if flags & ACK else 0
        tcp = struct.pack(
            ">HHIIBBHHH",
            *ports,
            self.sequence[side] & 0xFFFFFFFF,
            acknowledge & 0xFFFFFFFF,
            (20 + len(options)) // 4 << 4,
            flags,
            65535,
            0,
            0,
        )
        length = 20 + len(tcp) + len(options) + len(data)
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, length, 0, 0x4000, 64, 6, 0, source, target)
        self.packets.append(ip + tcp + options + data)


def write(path, *sessions):
    """One capture (raw IP) of these sessions, one after the other."""
    packets = [packet for session in sessions for packet in session.packets]
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 101))
        for number, packet in enumerate(packets):
            time = 1700000000 + number // 1000, number % 1000 * 1000
            file.write(struct.pack("<IIII", *time, len(packet), len(packet)) + packet)
