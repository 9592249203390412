// Payloads of every size and place, wrong ones, calls that are given up, and many calls.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { after, before, test } = require('node:test');
const { Host, arrow, grpc, ipc, memory, texts } = require('./host');

const { status } = grpc;
const MIB = 1 << 20;
let host;
before(async () => {
  host = await Host.start();
  const request = { instance: 'int', kind: 'PROCESSOR', name: 'node_int', inputs: ['label'], output: 'labels' };
  await host.call('PluginService', 'Configure', request);
});
after(() => host.stop());

const process_ = (columns, room) => host.call('ProcessorService', 'Process', { instance: 'int', columns, room });
const numbers = (bytes) => arrow.tableFromIPC(bytes).getChild('labels').toArray();

function many(rows) {
  return ipc({ text: arrow.makeVector(arrow.makeData(column(rows))) });
}

// Row numbers as text, made faster than a builder does.
function column(rows) {
  const cells = Array.from({ length: rows }, (_, row) => String(row));
  const valueOffsets = new Int32Array(rows + 1);
  cells.forEach((cell, row) => (valueOffsets[row + 1] = valueOffsets[row] + cell.length));
  return { type: new arrow.Utf8(), length: rows, nullCount: 0, valueOffsets, data: Buffer.from(cells.join('')) };
}

test('large payloads go through shared memory, in and out', async () => {
  const rows = 200_000;
  const bytes = many(rows);
  assert.ok(bytes.length >= MIB);
  const given = memory(bytes.length + 8);
  const room = memory(4 * MIB);
  fs.writeSync(given.fd, bytes, 0, bytes.length, 8);
  const shared = { path: given.path, offset: 8, length: bytes.length };
  const answer = await process_({ shared }, { path: room.path, offset: 4096, length: 4 * MIB - 4096 });
  assert.equal(answer.fields.place, 'shared');
  assert.deepEqual([answer.fields.shared.path, answer.fields.shared.offset], [room.path, '4096']);
  const back = Buffer.alloc(Number(answer.fields.shared.length));
  fs.readSync(room.fd, back, 0, back.length, 4096);
  const found = numbers(back);
  assert.ok(found.length === rows && found.every((number, row) => number === BigInt(row)));
  const small = await process_(texts(['1']), { path: room.path, offset: 0, length: 4 * MIB });
  assert.equal(small.fields.place, 'arrow');
  const tight = await process_({ shared }, { path: room.path, offset: 0, length: 1000 });
  assert.equal(tight.fields.place, 'arrow');
  for (const { fd } of [given, room]) fs.closeSync(fd);
});

test('memory that cannot be read is refused', async () => {
  for (const [path, length, code] of [
    [`/proc/${process.pid}/fd/9999`, 8, status.FAILED_PRECONDITION],
    ['/etc/hostname', 1, status.INVALID_ARGUMENT],
    [`/proc/${process.pid}/fd/${fs.openSync(__filename)}`, 1, status.INVALID_ARGUMENT],
    [memory(10).path, 20, status.INVALID_ARGUMENT],
  ]) {
    await assert.rejects(process_({ shared: { path, offset: 0, length } }), { code });
  }
});

test('bad rows that are too much for one message come in several', async () => {
  const other = await Host.start();
  const request = { instance: 'int', kind: 'PROCESSOR', name: 'node_int', inputs: ['label'], output: 'labels' };
  await other.call('PluginService', 'Configure', request);
  const cells = Array.from({ length: 70 }, (_, row) => String(row).padEnd(MIB, 'x'));
  const counts = [];
  for (let left = cells; left.length; left = left.slice(counts.at(-1))) {
    const parts = await other.put(pieces(texts(left).arrow));
    const { bad_rows } = await other.call('ProcessorService', 'Process', { instance: 'int', columns: { parts } });
    assert.deepEqual([bad_rows.rows[0].value, bad_rows.rows[0].row], [left[0], '0']);
    counts.push(bad_rows.rows.length);
  }
  assert.equal(counts.length, 2);
  await other.stop();
});

function pieces(bytes) {
  const count = Math.ceil(bytes.length / (4 * MIB));
  return Array.from({ length: count }, (_, piece) => bytes.subarray(piece * 4 * MIB, (piece + 1) * 4 * MIB));
}

test('above 64 MiB they go in parts', async () => {
  const odd = await Host.start(path.join(__dirname, 'odd_plugins'));
  await odd.call('PluginService', 'Configure', {
    instance: 'w',
    kind: 'PROCESSOR',
    name: 'wide',
    inputs: ['c'],
    output: 'o',
  });
  const bytes = texts(Array.from({ length: 66 }, (_, row) => String.fromCharCode(33 + row))).arrow;
  const parts = await odd.put([bytes.subarray(0, 100), bytes.subarray(100)]);
  const answer = await odd.call('ProcessorService', 'Process', { instance: 'w', columns: { parts } });
  assert.equal(answer.fields.place, 'parts');
  const back = await odd.get(answer.fields.parts);
  assert.ok(back.length > 16 && back.every((piece) => piece.length <= 4 * MIB));
  const found = arrow.tableFromIPC(Buffer.concat(back)).getChild('o').data[0].values;
  assert.equal(found.length, 66 * MIB);
  for (let row = 0; row < 66; row++) {
    const own = Buffer.from(found.subarray(row * MIB, (row + 1) * MIB));
    assert.ok(own.equals(Buffer.alloc(MIB, 33 + row)));
  }
  for (const key of [parts, answer.fields.parts, 'never']) {
    await assert.rejects(odd.get(key), { code: status.NOT_FOUND });
  }
  await odd.stop();
});

test('a message above 64 MiB is refused, and the next is answered', async () => {
  const columns = { arrow: Buffer.alloc(64 * MIB + 64 * 1024) };
  const wide = new (host.client('ProcessorService').constructor)(
    `unix:${host.socket}`,
    grpc.credentials.createInsecure(),
    { 'grpc.max_send_message_length': -1 },
  );
  const call = new Promise((resolve, reject) => {
    const done = (error) => (error ? reject(error) : resolve());
    wide.Process({ instance: 'int', columns }, host.metadata(), done);
  });
  await assert.rejects(call, { code: status.RESOURCE_EXHAUSTED });
  wide.close();
  assert.deepEqual([...numbers((await process_(texts(['5']))).fields.arrow)], [5n]);
});

test('bytes that are no Arrow, and no bytes, are refused', async () => {
  const whole = many(1000);
  for (const columns of [
    { arrow: Buffer.from('nothing') },
    { arrow: Buffer.alloc(0) },
    { arrow: whole.subarray(0, whole.length - 2000) },
    undefined,
  ]) {
    await assert.rejects(process_(columns), { code: status.INVALID_ARGUMENT });
  }
});

test('texts of any kind, and in several record batches, are read', async () => {
  for (const type of [
    new arrow.Utf8(),
    new arrow.LargeUtf8(),
    new arrow.Dictionary(new arrow.Utf8(), new arrow.Int32()),
  ]) {
    assert.deepEqual([...numbers((await process_(texts(['1', '2'], type))).fields.arrow)], [1n, 2n]);
  }
  const table = new arrow.Table({ text: arrow.vectorFromArray(['1', '2'], new arrow.Utf8()) });
  const twice = { arrow: Buffer.from(arrow.tableToIPC(table.concat(table), 'stream')) };
  assert.deepEqual([...numbers((await process_(twice)).fields.arrow)], [1n, 2n, 1n, 2n]);
});

test('a call that is given up harms no other', async () => {
  const large = { arrow: many(300_000) };
  const given = [1, 2, 3, 4].map(() => {
    const client = host.client('ProcessorService');
    return new Promise((resolve) => {
      const call = client.Process({ instance: 'int', columns: large }, host.metadata(), (error) =>
        resolve(error?.code),
      );
      setTimeout(() => call.cancel(), 5);
    });
  });
  const key = await host.put([Buffer.alloc(4 * MIB), Buffer.alloc(4 * MIB), Buffer.alloc(4 * MIB)]);
  const stream = host.client('PluginService').Get({ key }, host.metadata());
  stream.once('data', () => stream.cancel());
  const code = await new Promise((resolve) => stream.on('error', (error) => resolve(error.code)));
  assert.equal(code, status.CANCELLED);
  const upload = host.client('PluginService').Put(host.metadata(), () => {});
  upload.write({ data: Buffer.alloc(MIB) });
  upload.cancel();
  assert.deepEqual(await Promise.all(given), Array(4).fill(status.CANCELLED));
  assert.deepEqual([...numbers((await process_(texts(['5']))).fields.arrow)], [5n]);
  assert.equal(host.log, '');
});

test('ten thousand batches leave nothing behind', async (t) => {
  const columns = texts(Array.from({ length: 20 }, (_, row) => String(row)));
  const resident = () => Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${host.pid}/status`, 'utf8'))[1]) / 1024;
  const files = () => fs.readdirSync(`/proc/${host.pid}/fd`).length;
  const batches = async (count) => {
    for (let done = 0; done < count; done += 20) await Promise.all(Array.from({ length: 20 }, () => process_(columns)));
  };
  await batches(2000);
  const before = [resident(), files()];
  await batches(8000);
  t.diagnostic(`${before[0]} MiB after 2,000, ${resident()} MiB after 10,000`);
  assert.ok(resident() - before[0] < 30, `${before[0]} MiB, then ${resident()} MiB`);
  assert.ok(files() <= before[1], `${before[1]} files, then ${files()}`);
});
