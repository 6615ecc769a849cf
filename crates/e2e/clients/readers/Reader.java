// Java's HttpClient as a reader; see tests/readers.rs.
//
//     java Reader BASE PROXY AUTHORITY FOLDER

import java.io.*;
import java.net.*;
import java.net.http.*;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.zip.*;
import javax.net.ssl.*;

class Reader {
    static final String MARK = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR" + "-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*";

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

    static byte[] decoded(String coding, byte[] data) {
        String[] codings = coding.toLowerCase().split("[, ]+");
        for (int at = codings.length - 1; at >= 0; at--) {
            switch (codings[at]) {
                case "gzip", "x-gzip" -> data = all(data, GZIPInputStream::new);
                case "deflate" -> {
                    boolean raw = data.length > 0 && (data[0] & 0xf) != 8;
                    data = all(data, from -> new InflaterInputStream(from, new Inflater(raw)));
                }
                default -> {}
            }
        }
        return data;
    }

    record Answer(int status, byte[] read) {}

    static HttpClient client;

    static Answer send(HttpRequest.Builder request) throws InterruptedException {
        try {
            HttpResponse<InputStream> answer = client.send(request.build(), BodyHandlers.ofInputStream());
            ByteArrayOutputStream read = new ByteArrayOutputStream();
            try (InputStream body = answer.body()) {
                body.transferTo(read);
            } catch (IOException cut) {
                // What came before it was read.
            }
            String coding = String.join(",", answer.headers().allValues("Content-Encoding"));
            return new Answer(answer.statusCode(), decoded(coding, read.toByteArray()));
        } catch (IOException error) {
            return new Answer(0, new byte[0]);
        }
    }

    static HttpRequest.Builder ask(String url) {
        return HttpRequest.newBuilder(URI.create(url)).version(HttpClient.Version.HTTP_1_1);
    }

    public static void main(String[] arguments) throws Exception {
        String base = arguments[0], proxy = arguments[1];
        Path folder = Path.of(arguments[3]);
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null);
        try (InputStream pem = new FileInputStream(arguments[2])) {
            trusted.setCertificateEntry("a", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        TrustManagerFactory factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        factory.init(trusted);
        SSLContext tls = SSLContext.getInstance("TLS");
        tls.init(null, factory.getTrustManagers(), null);
        HttpClient.Builder builder = HttpClient.newBuilder().sslContext(tls);
        if (!proxy.isEmpty()) {
            URI address = URI.create(proxy);
            builder.proxy(ProxySelector.of(new InetSocketAddress(address.getHost(), address.getPort())));
        }
        client = builder.build();
        for (String line : Files.readAllLines(folder.resolve("table"))) {
            String[] words = line.split(" ", 2);
            String number = words[0], coding = words[1];
            HttpRequest.Builder get = ask(base + "/" + number).header("Accept-Encoding", "gzip, deflate");
            Answer answer = send(get);
            int found = new String(answer.read(), StandardCharsets.ISO_8859_1).contains(MARK) ? 1 : 0;
            send(ask(base + "/read/" + number + "/" + answer.status() + "/" + found));
            HttpRequest.Builder post = ask(base + "/up/" + number);
            if (!coding.isEmpty()) post.header("Content-Encoding", coding);
            Answer sent = send(post.POST(HttpRequest.BodyPublishers.ofFile(folder.resolve(number))));
            send(ask(base + "/sent/" + number + "/" + sent.status() + "/0"));
        }
        System.exit(0);
    }
}
