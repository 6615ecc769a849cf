// Node's fetch, or the modules that it comes with, as readers; see tests/readers.rs.
//
//     reader.mjs fetch|http BASE FOLDER

import { readFileSync } from 'node:fs';
import https from 'node:https';
import zlib from 'node:zlib';

const [reader, base, folder] = process.argv.slice(2);
const mark = Buffer.from('X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR' + '-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*');

/** What comes of a stream, until its end or its first error; some broken ones say neither. */
const all = async (pieces) => {
    const read = [];
    const iterator = pieces[Symbol.asyncIterator]();
    for (;;) {
        let timer;
        const silence = new Promise((done) => (timer = setTimeout(done, 4_000, { done: true })));
        const next = iterator.next().catch(() => ({ done: true }));
        const { done, value } = await Promise.race([next, silence]);
        clearTimeout(timer);
        if (done) return Buffer.concat(read);
        read.push(value);
    }
};

const decoders = {
    br: () => zlib.createBrotliDecompress(),
    deflate: () => zlib.createInflate(),
    gzip: () => zlib.createUnzip(),
    'x-gzip': () => zlib.createUnzip(),
};

const fetches = {
    async get(url) {
        try {
            const answer = await fetch(url);
            return [answer.status, await all(answer.body)];
        } catch {
            return [0, Buffer.of()];
        }
    },
    async post(url, headers, body) {
        try {
            return (await fetch(url, { method: 'POST', headers, body })).status;
        } catch {
            return 0;
        }
    },
};

const ask = (url, options, body) =>
    new Promise((done) => {
        const asked = https.request(url, options, done);
        asked.on('error', () => done(null));
        asked.end(body);
    });
const modules = {
    async get(url) {
        const answer = await ask(url, { headers: { 'Accept-Encoding': 'gzip, deflate, br' } });
        if (!answer) return [0, Buffer.of()];
        let stream = answer;
        for (const coding of (answer.headers['content-encoding'] ?? '').toLowerCase().split(/[, ]+/).reverse()) {
            const decoder = decoders[coding]?.();
            if (!decoder) continue;
            stream.on('error', () => decoder.end());
            stream = stream.pipe(decoder);
        }
        return [answer.statusCode, await all(stream)];
    },
    async post(url, headers, body) {
        const answer = await ask(url, { method: 'POST', headers }, body);
        answer?.resume();
        return answer?.statusCode ?? 0;
    },
};

const client = reader === 'fetch' ? fetches : modules;
for (const line of readFileSync(`${folder}/table`, 'latin1').split('\n').filter(Boolean)) {
    const [, number, coding] = /^(\d+) (.*)$/.exec(line);
    const [got, read] = await client.get(`${base}/${number}`);
    await client.get(`${base}/read/${number}/${got}/${Number(read.includes(mark))}`);
    const headers = coding ? { 'Content-Encoding': coding } : {};
    const sent = await client.post(`${base}/up/${number}`, headers, readFileSync(`${folder}/${number}`));
    await client.get(`${base}/sent/${number}/${sent}/0`);
}
process.exit();
