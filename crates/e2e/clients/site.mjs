// A site that uses what browsers can do; its page says in #result what worked.
//
//     site.mjs CERTIFICATES KEY      prints `port NUMBER`

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';

// The same on both sides: bytes that only depend on their number.
const noise = (size) => {
    const bytes = new Uint8Array(size);
    let state = (size * 2654435761) >>> 0 || 1;
    for (let at = 0; at < size; at++) {
        state ^= state << 13;
        state ^= state >>> 17;
        state ^= state << 5;
        bytes[at] = state;
    }
    return bytes;
};

const page = `<!doctype html><title>site</title><p id=result></p><img src=/wait>
<script type=module>
const noise = ${noise};
const same = (a, b) => a.length === b.length && a.every((byte, at) => byte === b[at]);
const bytes = async (answer) => new Uint8Array(await (await answer).arrayBuffer());
const tests = {
    async downloads() {
        const sizes = [70000, 3000000, ...Array(40).keys()];
        const all = await Promise.all(sizes.map((size) => bytes(fetch('/bytes/' + size))));
        return all.every((got, at) => same(got, noise(sizes[at])));
    },
    async upload() {
        const body = noise(2500000);
        return same(await bytes(fetch('/echo', { method: 'POST', body })), body);
    },
    async form() {
        const form = new FormData();
        form.append('file', new File([noise(500000)], 'a.bin'));
        const answer = await fetch('/length', { method: 'POST', body: form });
        return Number(await answer.text()) > 500000;
    },
    async streamedUpload() {
        const body = noise(700000);
        let at = 0;
        const stream = new ReadableStream({
            pull(controller) {
                if (at >= body.length) return controller.close();
                controller.enqueue(body.slice(at, (at += 50000)));
            },
        });
        const answer = fetch('/echo', { method: 'POST', body: stream, duplex: 'half' });
        return same(await bytes(answer), body);
    },
    async streamedDownload() {
        const reader = (await fetch('/pieces')).body.getReader();
        let length = 0;
        for (;;) {
            const { done, value } = await reader.read();
            if (done) return length === 2000000;
            length += value.length;
        }
    },
    // The server sends an event once the page has answered the one before.
    events: () => new Promise((resolve) => {
        const source = new EventSource('/events');
        source.onmessage = ({ data }) => {
            if (data === '9') {
                source.close();
                resolve(true);
            } else fetch('/next', { method: 'POST' });
        };
        source.onerror = () => resolve(false);
    }),
    webSocket: () => new Promise((resolve) => {
        const socket = new WebSocket('wss://' + location.host + '/socket');
        socket.binaryType = 'arraybuffer';
        let round = 0;
        const next = () => (round % 2 ? socket.send(noise(60000 + round)) : socket.send('text ' + round));
        socket.onopen = next;
        socket.onmessage = ({ data }) => {
            const right = round % 2 ? same(new Uint8Array(data), noise(60000 + round)) : data === 'text ' + round;
            if (!right) return resolve(false);
            if (++round === 20) socket.close(1000);
            else next();
        };
        socket.onclose = ({ code }) => resolve(round === 20 && code === 1000);
        socket.onerror = () => resolve(false);
    }),
    async serviceWorker() {
        const controlled = new Promise((resolve) => (navigator.serviceWorker.oncontrollerchange = resolve));
        await navigator.serviceWorker.register('/worker.js');
        await controlled;
        return same(await bytes(fetch('/made-by-worker/4321')), noise(4321));
    },
};
const results = [];
for (const [name, test] of Object.entries(tests)) {
    let right = false;
    try { right = await test(); } catch (error) { console.error(name, error); }
    results.push(name + ': ' + right);
}
document.getElementById('result').textContent = results.join(', ');
await fetch('/done', { method: 'POST' });
</script>`;

const worker = `
self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (event) => event.waitUntil(clients.claim()));
self.addEventListener('fetch', (event) => {
    const url = new URL(event.request.url);
    if (url.pathname.startsWith('/made-by-worker/'))
        event.respondWith(fetch('/bytes/' + url.pathname.split('/').pop()));
});`;

let next = () => {};
let finish;
const done = new Promise((resolve) => (finish = resolve));

async function answer(request, response) {
    const [, what, size] = request.url.split('/');
    const send = (type, body) => response.writeHead(200, { 'content-type': type }).end(body);
    const body = async () => {
        const pieces = [];
        for await (const piece of request) pieces.push(piece);
        return Buffer.concat(pieces);
    };
    switch (what) {
        case '': return send('text/html', page);
        case 'worker.js': return send('text/javascript', worker);
        case 'bytes': return send('application/octet-stream', noise(Number(size)));
        case 'echo': return send('application/octet-stream', await body());
        case 'length': return send('text/plain', String((await body()).length));
        case 'pieces':
            response.writeHead(200, { 'content-type': 'application/octet-stream' });
            for (let piece = 0; piece < 100; piece++) response.write(noise(20000));
            return response.end();
        case 'events': {
            response.writeHead(200, { 'content-type': 'text/event-stream' });
            let number = 0;
            next = () => response.write(`data: ${number++}\n\n`);
            return next();
        }
        case 'next': next(); return send('text/plain', '');
        case 'done': finish(); return send('text/plain', '');
        // The page has loaded once this has: that is, when all is over.
        case 'wait': await done; return send('image/svg+xml', "<svg xmlns='http://www.w3.org/2000/svg'/>");
        default: return response.writeHead(404).end();
    }
}

// RFC 6455: unfragmented frames, echoed.
function webSocket(request, socket) {
    const magic = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
    const accept = createHash('sha1').update(request.headers['sec-websocket-key'] + magic).digest('base64');
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
    let held = Buffer.alloc(0);
    socket.on('error', () => {});
    socket.on('data', (data) => {
        held = Buffer.concat([held, data]);
        while (held.length >= 14 || (held.length >= 6 && (held[1] & 127) < 126)) {
            const short = held[1] & 127;
            const [length, at] = short < 126 ? [short, 2] : short === 126 ? [held.readUInt16BE(2), 4] : [Number(held.readBigUInt64BE(2)), 10];
            if (held.length < at + 4 + length) return;
            const mask = held.subarray(at, at + 4);
            const body = Buffer.from(held.subarray(at + 4, at + 4 + length)).map((byte, n) => byte ^ mask[n % 4]);
            const head = Buffer.from(held.subarray(0, at));
            head[1] &= 127;
            socket.write(Buffer.concat([head, body]));
            if ((held[0] & 15) === 8) return socket.end();
            held = held.subarray(at + 4 + length);
        }
    });
}

const [certificates, key] = process.argv.slice(2).map((file) => readFileSync(file));
const server = http2.createSecureServer({ cert: certificates, key, allowHTTP1: true }, answer);
server.on('upgrade', webSocket);
server.listen(0, '127.0.0.1', () => console.log(`port ${server.address().port}`));
