// Reads contents as node's programs do. See clients.rs for what comes and goes.
import zlib from 'node:zlib';

// undici's fetch delivers what a broken content held before it broke.
const lenient = { flush: zlib.constants.Z_SYNC_FLUSH, finishFlush: zlib.constants.Z_SYNC_FLUSH };
const lenientBrotli = {
  flush: zlib.constants.BROTLI_OPERATION_FLUSH,
  finishFlush: zlib.constants.BROTLI_OPERATION_FLUSH,
};

const fetchLike = {
  br: () => zlib.createBrotliDecompress(lenientBrotli),
  deflate: (first) =>
    (first & 0x0f) === 8 ? zlib.createInflate(lenient) : zlib.createInflateRaw(lenient),
  gzip: () => zlib.createGunzip(lenient),
};
// What users of http write, who pipe into one of these.
const pipedLike = {
  br: () => zlib.createBrotliDecompress(),
  deflate: () => zlib.createInflate(),
  gzip: () => zlib.createUnzip(),
};

function one(stream, pieces) {
  return new Promise((done) => {
    const read = [];
    stream.on('data', (piece) => read.push(piece));
    stream.on('error', () => done(read));
    stream.on('end', () => done(read));
    stream.on('close', () => done(read));
    for (const piece of pieces) stream.write(piece);
    stream.end();
  });
}

async function reading(makers, codings, pieces) {
  for (const coding of codings.toReversed?.() ?? [...codings].reverse()) {
    const begun = pieces.find((piece) => piece.length > 0);
    if (begun === undefined) return Buffer.alloc(0);
    if (!makers[coding]) return Buffer.alloc(0);
    pieces = await one(makers[coding](begun[0]), pieces);
  }
  return Buffer.concat(pieces);
}

let waiting = Buffer.alloc(0);
const arrivals = process.stdin[Symbol.asyncIterator]();
async function take(length) {
  const have = [waiting];
  let size = waiting.length;
  while (size < length) {
    const next = await arrivals.next();
    if (next.done) process.exit(0);
    have.push(next.value);
    size += next.value.length;
  }
  waiting = have.length === 1 ? have[0] : Buffer.concat(have);
  const taken = waiting.subarray(0, length);
  waiting = waiting.subarray(length);
  return taken;
}
const number = async () => (await take(4)).readUInt32LE();
const encoded = (value) => {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value);
  return buffer;
};

for (;;) {
  const codings = [];
  for (let left = await number(); left > 0; left--) codings.push((await take(await number())).toString());
  const pieces = [];
  for (let left = await number(); left > 0; left--) pieces.push(Buffer.from(await take(await number())));
  const readings = [
    ['fetch', await reading(fetchLike, codings, pieces)],
    ['piped', await reading(pipedLike, codings, pieces)],
  ];
  const parts = [encoded(readings.length)];
  for (const [name, read] of readings) {
    parts.push(encoded(name.length), Buffer.from(name), encoded(read.length), read);
  }
  process.stdout.write(Buffer.concat(parts));
}
