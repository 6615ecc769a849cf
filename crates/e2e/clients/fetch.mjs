// Node's own fetch; writes what it gets into a folder:  fetch.mjs BASE FOLDER

import assert from 'node:assert';
import { readFile, writeFile } from 'node:fs/promises';

const [base, folder] = process.argv.slice(2);
const downloads = ['bytes/0', 'bytes/1', 'bytes/65536', 'bytes/3000000', 'chunked/200000', 'gzip/300000', 'redirect'];
const many = [...Array(40).keys()].map((number) => `bytes/${1000 + number}`);
const eicar = 'X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR' + '-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*';

const keep = (name, bytes) => writeFile(`${folder}/${name.replace('/', '_')}`, bytes);
const bytes = async (answer) => Buffer.from(await answer.arrayBuffer());

async function get(name) {
    const answer = await fetch(`${base}/${name}`);
    assert.equal(answer.status, 200, name);
    await keep(name, await bytes(answer));
}

for (const name of downloads) await get(name);
await Promise.all(many.map(get));
const body = await readFile(`${folder}/bytes_3000000`);
const post = (body) => fetch(`${base}/echo`, { method: 'POST', body, duplex: 'half' });
await keep('echo_length', await bytes(await post(body)));
const pieces = new ReadableStream({
    start(controller) {
        for (let at = 0; at < body.length; at += 70_000) controller.enqueue(body.subarray(at, at + 70_000));
        controller.close();
    },
});
await keep('echo_chunked', await bytes(await post(pieces)));
assert.equal((await fetch(`${base}/eicar`)).status, 403);
assert.equal((await post(eicar)).status, 403);
