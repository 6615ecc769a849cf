// Reads contents as Java programs do. See clients.rs for what comes and goes.

import java.io.*;
import java.util.*;
import java.util.zip.*;

class Client {
    interface Maker {
        InputStream make(InputStream from) throws IOException;
    }

    /** All that a stream gives before its first error. */
    static byte[] all(byte[] data, Maker maker) {
        ByteArrayOutputStream read = new ByteArrayOutputStream();
        try (InputStream stream = maker.make(new ByteArrayInputStream(data))) {
            byte[] piece = new byte[100];
            for (int length; (length = stream.read(piece)) >= 0; ) read.write(piece, 0, length);
        } catch (IOException error) {
            // What came before it was read.
        }
        return read.toByteArray();
    }

    /** As Apache's HttpClient decides. */
    static boolean isZlib(byte[] data) {
        if (data.length < 2) return false;
        int first = data[0] & 0xff, second = data[1] & 0xff;
        return (first & 0xf) == 8 && first >> 4 <= 7 && (first << 8 | second) % 31 == 0;
    }

    static byte[] reading(List<String> codings, byte[] data) {
        for (int at = codings.size() - 1; at >= 0; at--) {
            switch (codings.get(at)) {
                case "gzip":
                    data = all(data, GZIPInputStream::new);
                    break;
                case "deflate":
                    boolean raw = !isZlib(data);
                    data = all(data, from -> new InflaterInputStream(from, new Inflater(raw)));
                    break;
                default:
                    return new byte[0];
            }
        }
        return data;
    }

    public static void main(String[] arguments) throws IOException {
        DataInputStream take = new DataInputStream(new BufferedInputStream(System.in));
        DataOutputStream give = new DataOutputStream(new BufferedOutputStream(System.out));
        try {
            while (true) {
                List<String> codings = new ArrayList<>();
                for (int left = number(take); left > 0; left--) {
                    codings.add(new String(take.readNBytes(number(take))));
                }
                ByteArrayOutputStream data = new ByteArrayOutputStream();
                for (int left = number(take); left > 0; left--) {
                    data.write(take.readNBytes(number(take)));
                }
                give.writeInt(Integer.reverseBytes(1));
                put(give, "streams".getBytes());
                put(give, reading(codings, data.toByteArray()));
                give.flush();
            }
        } catch (EOFException end) {
            // No more contents.
        }
    }

    static int number(DataInputStream take) throws IOException {
        return Integer.reverseBytes(take.readInt());
    }

    static void put(DataOutputStream give, byte[] bytes) throws IOException {
        give.writeInt(Integer.reverseBytes(bytes.length));
        give.write(bytes);
    }
}
